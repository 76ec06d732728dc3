"""What TLS and socket failures mean to the person who must act."""

import socket
import ssl

import pytest

from plantfed_shared.bus.port import Disconnected, Refused
from plantfed_shared.bus.tls import explain_alert, explain_failure


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] x (_ssl.c:2580)", "wants a client certificate"),
        ("TLSV1_ALERT_UNKNOWN_CA", "doesn't know the authority"),
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", "has expired"),
        ("SSLV3_ALERT_CERTIFICATE_REVOKED", "was revoked"),
        ("SSLV3_ALERT_BAD_CERTIFICATE", "rejects our certificate"),
        ("SSL_ALERT_NUMBER_42_BAD_CERTIFICATE", "rejects our certificate"),
        ("SSLV3_ALERT_HANDSHAKE_FAILURE", "may want a client certificate"),
        ("TLSV1_ALERT_DECRYPT_ERROR", "rejects our certificate"),
    ],
)
def test_alerts_about_our_identity(line: str, expected: str) -> None:
    refused = explain_alert(line)
    assert refused is not None
    assert expected in refused.reason


@pytest.mark.parametrize("line", ["", "Connection reset by peer", "TLSV1_ALERT_INTERNAL_ERROR"])
def test_other_lines_are_not_about_us(line: str) -> None:
    assert explain_alert(line) is None


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionRefusedError(111, "x"), "nothing listens at broker:1883"),
        (TimeoutError(), "broker:1883 does not answer"),
        (socket.gaierror(-2, "x"), "the name of broker:1883 cannot be resolved"),
        (OSError(101, "Network is unreachable"), "cannot be reached: Network is unreachable"),
        (ssl.SSLError("WRONG_VERSION_NUMBER"), "no TLS with broker:1883"),
    ],
)
def test_failures_to_connect(error: OSError, expected: str) -> None:
    event = explain_failure(error, "broker:1883")
    assert isinstance(event, Disconnected)
    assert expected in event.reason


def test_an_alert_during_the_handshake_is_a_refusal() -> None:
    error = ssl.SSLError(1, "[SSL: SSLV3_ALERT_BAD_CERTIFICATE] sslv3 alert bad certificate")
    assert isinstance(explain_failure(error, "broker:8883"), Refused)
