"""Broker addresses as people write them."""

from typing import NamedTuple
from urllib.parse import urlsplit

from plantfed_shared.errors import ConfigError

DEFAULT_PORTS = {"mqtt": 1883, "mqtts": 8883}
_HINT = "Write it like mqtt://broker.plant:1883, or mqtts://broker.plant:8883 for TLS"


class BrokerUrl(NamedTuple):
    """The parts of a broker URL; ``tls`` for ``mqtts``."""

    host: str
    port: int
    tls: bool


def parse_broker_url(url: str, *, where: str = "") -> BrokerUrl:
    """Split ``mqtt://host[:port]`` or ``mqtts://host[:port]``.

    Args:
        url: what somebody wrote.
        where: file and key it was found at, for the error.

    Raises:
        ConfigError: it is anything else, or holds a user or a password.
    """
    if "@" in url:
        # Nor is the URL shown: addresses end up in logs and tickets.
        raise ConfigError(
            "a broker address holds a user or password",
            where=where,
            hint="Give them in their own settings",
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigError(f"not a broker address: {url!r}", where=where, hint=_HINT) from None
    nonsense = parts.path not in ("", "/") or parts.query or parts.fragment
    strange = not parts.hostname or any(sign.isspace() for sign in url) or port == 0
    if parts.scheme not in DEFAULT_PORTS or nonsense or strange or not parts.hostname:
        raise ConfigError(f"not a broker address: {url!r}", where=where, hint=_HINT)
    return BrokerUrl(parts.hostname, port or DEFAULT_PORTS[parts.scheme], parts.scheme == "mqtts")
