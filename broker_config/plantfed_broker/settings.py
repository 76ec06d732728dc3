"""What a rendered folder remembers: ``broker.toml``, and the broker addresses made from it."""

import ipaddress
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from plantfed_shared.bus.address import DEFAULT_PORTS
from plantfed_shared.errors import ConfigError, PlantfedError
from plantfed_shared.settings_file import read_settings
from plantfed_shared.topics import Topics, check_id

Variant = Literal["password", "mtls"]
"""How clients prove who they are: a password in clear text, or a certificate over TLS."""

SETTINGS_FILE = "broker.toml"
PORTS: dict[str, int] = {"password": DEFAULT_PORTS["mqtt"], "mtls": DEFAULT_PORTS["mqtts"]}
NAME_PATTERN = r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?"

Port = Annotated[int, Field(ge=1, le=65535)]


class BrokerSettings(BaseModel):
    """The choices behind one rendered folder.

    Attributes:
        federation: its id.
        root: topic levels before ours.
        host: name or address of the broker as its clients know it.
        port: TCP port.
        bind: address the broker listens on; empty for all.
        variant: how clients prove who they are.
        agents: ids that may connect, sorted.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    federation: str
    root: str = "plantfed"
    host: str = "localhost"
    port: Port
    bind: str
    variant: Variant = "password"
    agents: tuple[str, ...] = ()

    @field_validator("host")
    @classmethod
    def _is_host(cls, value: str) -> str:
        if not _is_address(value) and not re.fullmatch(NAME_PATTERN, value):
            raise ValueError("write the name or the IP address of the broker's machine")
        return value

    @field_validator("bind")
    @classmethod
    def _is_empty_or_address(cls, value: str) -> str:
        if value and not _is_address(value):
            raise ValueError("write an IP address of this machine, or nothing for all")
        return value

    @model_validator(mode="after")
    def _ids_are_allowed(self) -> Self:
        with _as_value_error():
            Topics(self.federation, self.root)
            for agent in self.agents:
                check_id(agent, "agent id")
        return self

    @property
    def topics(self) -> Topics:
        """The topic table of this federation."""
        return Topics(self.federation, self.root)

    @property
    def url(self) -> str:
        """The broker as clients write it."""
        return broker_url(self.host, self.port, tls=self.variant == "mtls")

    def to_toml(self) -> str:
        """The text of ``broker.toml``."""
        lines = [
            "# Written by plantfed-broker; change it with `render`, `add-agent`, `remove-agent`."
        ]
        # A JSON string, number or list of strings is a TOML one.
        lines += [f"{key} = {json.dumps(value)}" for key, value in self.model_dump().items()]
        return "\n".join(lines) + "\n"


@contextmanager
def _as_value_error() -> Iterator[None]:
    try:
        yield
    except PlantfedError as error:
        raise ValueError(str(error)) from None


def read_folder(folder: Path) -> BrokerSettings:
    """Read the settings of a rendered folder.

    Raises:
        ConfigError: it was not rendered, or its ``broker.toml`` is damaged.
    """
    path = folder / SETTINGS_FILE
    if not path.is_file():
        raise ConfigError(
            f"not a broker folder: it has no {SETTINGS_FILE}",
            where=str(folder),
            hint="Create it with: plantfed-broker render --federation ID --out FOLDER",
        )
    return read_settings(path, BrokerSettings)


def default_bind(host: str) -> str:
    """The loopback address for a broker only this machine is told of, else all addresses."""
    if host == "localhost":
        return "127.0.0.1"
    return host if _is_address(host) and ipaddress.ip_address(host).is_loopback else ""


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def broker_url(host: str, port: int, *, tls: bool) -> str:
    """``mqtt://host:port``, or ``mqtts://`` for TLS."""
    shown = f"[{host}]" if ":" in host else host
    return f"{'mqtts' if tls else 'mqtt'}://{shown}:{port}"
