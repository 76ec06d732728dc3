"""TLS for the broker connection, and what its failures mean to the person who must act."""

import re
import socket
import ssl
from pathlib import Path

from plantfed_shared.bus.port import BrokerAddress, Disconnected, Refused
from plantfed_shared.errors import ConfigError

_IDENTITY_ALERTS = {
    "CERTIFICATE_REQUIRED": "the broker wants a client certificate",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the broker wants a client certificate",
    "UNKNOWN_CA": "the broker doesn't know the authority that signed our certificate",
    "CERTIFICATE_EXPIRED": "the broker says that our certificate has expired",
    "CERTIFICATE_REVOKED": "the broker says that our certificate was revoked",
    "CERTIFICATE": "the broker rejects our certificate",
    "HANDSHAKE_FAILURE": "the broker ended the TLS handshake; it may want a client certificate",
    "ACCESS_DENIED": "the broker denies access to our certificate",
    "DECRYPT_ERROR": "the broker rejects our certificate",
}


class _TidySocket(ssl.SSLSocket):
    """paho forgets the socket of a failed handshake, open."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def tls_context(address: BrokerAddress) -> ssl.SSLContext | None:
    """Read the certificate files; None when the address asks for no TLS.

    Raises:
        ConfigError: one of them cannot be used.
    """
    if address.ca_file is None:
        if address.cert_file is not None:
            raise ConfigError(
                "a client certificate, but no certificate authority",
                where=address.cert_file,
                hint="Give ca_file as well: it switches TLS on",
            )
        return None
    try:
        context = ssl.create_default_context(cafile=address.ca_file)
    except OSError as error:
        raise _unusable(address.ca_file, error) from error
    context.sslsocket_class = _TidySocket
    if address.cert_file is not None:
        _load_identity(context, address.cert_file, address.key_file)
    return context


def _load_identity(context: ssl.SSLContext, cert_file: str, key_file: str | None) -> None:
    for path in (cert_file, key_file or cert_file):
        try:
            # OpenSSL's own error doesn't say which of the two it is.
            Path(path).read_bytes()
        except OSError as error:
            raise _unusable(path, error) from error
    try:
        # Without a password given, OpenSSL would ask for one on the terminal.
        context.load_cert_chain(cert_file, key_file, password=lambda: "")
    except OSError as error:
        both = cert_file if key_file is None else f"{cert_file} with {key_file}"
        raise _unusable(both, error) from error


def _unusable(path: str, error: OSError) -> ConfigError:
    reason = error.strerror or str(error)
    if isinstance(error, ssl.SSLError):
        reason = f"not usable as PEM files of a certificate and its key ({reason})"
    return ConfigError(reason, where=path, hint="Check the path, its permissions and its content")


def explain_failure(error: OSError, place: str) -> Disconnected | Refused:
    """Say in plain words why a connection could not be made.

    Args:
        error: what connecting raised.
        place: ``host:port``.
    """
    match error:
        case ssl.SSLCertVerificationError():
            return Refused(f"the certificate of {place} is not trusted: {error.verify_message}")
        case ssl.SSLError():
            return explain_alert(str(error)) or Disconnected(f"no TLS with {place}: {error}")
        case socket.gaierror():
            return Disconnected(f"the name of {place} cannot be resolved")
        case ConnectionRefusedError():
            return Disconnected(f"nothing listens at {place}")
        case TimeoutError():
            return Disconnected(f"{place} does not answer")
    return Disconnected(f"{place} cannot be reached: {error.strerror or error}")


def explain_alert(text: str) -> Refused | None:
    """Recognise a TLS alert about our identity in OpenSSL's words, else None."""
    found = re.search(r"ALERT_(?:NUMBER_\d+_)?(\w+)", text)
    if found is None:
        return None
    for alert, meaning in _IDENTITY_ALERTS.items():
        if alert in found.group(1):
            return Refused(meaning)
    return None
