"""The ``[health]`` section of settings files."""

import ipaddress
import re

from pydantic import field_validator

from plantfed_shared.definition import Settings

_LISTEN = re.compile(r"(\[[0-9a-fA-F:.]+\]|[0-9.]+):(\d{1,5})")


class HealthSection(Settings):
    """Where others may ask by HTTP how the service does.

    Attributes:
        listen: address and port, as ``127.0.0.1:8321``; None, and nothing listens.
    """

    listen: str | None = None

    @field_validator("listen")
    @classmethod
    def _is_an_address(cls, listen: str | None) -> str | None:
        if listen is not None:
            _parts(listen)
        return listen

    @property
    def address(self) -> tuple[str, int] | None:
        """IP address and port."""
        return None if self.listen is None else _parts(self.listen)


def _parts(listen: str) -> tuple[str, int]:
    match = _LISTEN.fullmatch(listen)
    if match is None:
        raise ValueError("write an IP address and a port, such as 127.0.0.1:8321")
    host, port = match[1].strip("[]"), int(match[2])
    ipaddress.ip_address(host)
    if not 1 <= port <= 65535:
        raise ValueError("a port is a number from 1 to 65535")
    return host, port
