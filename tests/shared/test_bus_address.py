"""Broker addresses as people write them."""

import pytest

from plantfed_shared.bus.address import parse_broker_url
from plantfed_shared.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtt://broker", ("broker", 1883, False)),
        ("mqtts://broker", ("broker", 8883, True)),
        ("mqtt://broker:1884/", ("broker", 1884, False)),
        ("MQTTS://Broker.Plant:443", ("broker.plant", 443, True)),
        ("mqtt://10.0.0.7:1883", ("10.0.0.7", 1883, False)),
        ("mqtts://[::1]:8884", ("::1", 8884, True)),
    ],
)
def test_addresses(url: str, expected: tuple[str, int, bool]) -> None:
    assert parse_broker_url(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "broker",
        "broker:1883",
        "http://broker:1883",
        "mqtt://",
        "mqtt://:1883",
        "mqtt://broker:port",
        "mqtt://broker:0",
        "mqtt://broker:65536",
        "mqtt://broker/topic",
        "mqtt://broker?x=1",
        "mqtt://broker#x",
        "mqtt://bro ker",
        "mqtt://[::1",
    ],
)
def test_nonsense(url: str) -> None:
    with pytest.raises(ConfigError, match=r"agent\.toml: broker: not a broker address.*mqtt://"):
        parse_broker_url(url, where="agent.toml: broker")


def test_a_password_in_an_address_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_broker_url("mqtt://press-01:sesame@broker")
    assert "sesame" not in str(caught.value)
