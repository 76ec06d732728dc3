"""The [broker] section: which combinations make sense, and where its files are."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from plantfed_shared.broker_settings import BrokerSection
from plantfed_shared.bus.port import BrokerAddress
from plantfed_shared.errors import ConfigError


def section(**changes: Any) -> BrokerSection:
    return BrokerSection.model_validate({"url": "mqtt://broker.plant"} | changes)


TLS = {"url": "mqtts://broker.plant", "ca_file": "ca.pem"}


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("mqtt://broker.plant", "broker.plant", 1883),
        ("mqtt://broker.plant:2000/", "broker.plant", 2000),
        ("mqtt://10.0.0.1", "10.0.0.1", 1883),
        ("mqtt://[::1]:2000", "::1", 2000),
    ],
)
def test_addresses(url, host, port):
    assert section(url=url).address() == BrokerAddress(host=host, port=port)


def test_tls_has_a_port_of_its_own():
    address = section(**TLS, cert_file="press-07.pem", key_file="press-07.key").address()
    assert address == BrokerAddress(
        host="broker.plant",
        port=8883,
        ca_file="ca.pem",
        cert_file="press-07.pem",
        key_file="press-07.key",
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"url": "broker.plant"},
        {"url": "http://broker.plant"},
        {"url": "mqtt://"},
        {"url": "mqtt://broker.plant/topic"},
        {"url": "mqtt://broker.plant:0"},
        {"url": "mqtt://broker.plant:65536"},
        {"url": "mqtt://bob@broker.plant"},
        {"url": "mqtts://broker.plant"},
        {"ca_file": "ca.pem"},
        {"password": "secret"},
        {"password_file": "password"},
        {"username": "bob", "password": "secret", "password_file": "password"},
        {"cert_file": "press-07.pem", "key_file": "press-07.key"},
        {**TLS, "cert_file": "press-07.pem"},
        {**TLS, "key_file": "press-07.key"},
        {"keepalive_s": 4},
        {"username": ""},
    ],
)
def test_what_makes_no_sense_is_refused(changes):
    with pytest.raises(ValidationError):
        section(**changes)


def test_the_password_is_read_from_its_file(tmp_path):
    (tmp_path / "password").write_text("päss word\n", encoding="utf-8")
    given = section(username="bob", password_file="password").resolved(tmp_path)
    assert given.address().password == "päss word"


@pytest.mark.parametrize(
    ("content", "complaint"), [(b"\n", "is empty"), (b"\xff", "cannot be read"), (None, "No such")]
)
def test_a_password_file_that_is_of_no_use(tmp_path, content, complaint):
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=complaint) as refused:
        section(username="bob", password_file=path).address()
    assert f"password_file {path}" in str(refused.value)


def test_relative_paths_are_taken_from_a_folder():
    given = section(**TLS, cert_file="/etc/cert.pem", key_file="keys/key.pem")
    resolved = given.resolved(Path("/plant"))
    assert resolved.ca_file == Path("/plant/ca.pem")
    assert resolved.cert_file == Path("/etc/cert.pem")
    assert resolved.key_file == Path("/plant/keys/key.pem")
    assert resolved.password_file is None
