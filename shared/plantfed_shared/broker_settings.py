"""The ``[broker]`` section of every settings file."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from plantfed_shared.bus.address import parse_broker_url
from plantfed_shared.bus.port import BrokerAddress
from plantfed_shared.definition import Name, Settings
from plantfed_shared.errors import ConfigError

_FILES = ("password_file", "ca_file", "cert_file", "key_file")


class BrokerSection(Settings):
    """Where the message broker is and how to identify to it.

    Attributes:
        url: mqtt://host:port or mqtts://host:port.
        username: user, or None.
        password: secret, or None.
        password_file: file that holds nothing but the password, or None.
        ca_file: PEM file of the authorities to trust; needed for mqtts.
        cert_file: PEM client certificate, or None.
        key_file: PEM private key of the certificate, or None.
        keepalive_s: seconds; MQTT keep alive.
    """

    url: str
    username: Name | None = None
    password: str | None = Field(default=None, repr=False)
    password_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    keepalive_s: Annotated[int, Field(ge=5, le=65535)] = 60

    @field_validator("url")
    @classmethod
    def _url_is_of_a_broker(cls, url: str) -> str:
        try:
            parse_broker_url(url)
        except ConfigError as error:
            raise ValueError(f"{error}") from None
        return url

    @model_validator(mode="after")
    def _identity_is_consistent(self) -> Self:
        if self.password is not None and self.password_file is not None:
            raise ValueError("give password or password_file, not both")
        if (self.password or self.password_file) and self.username is None:
            raise ValueError("a password needs a username")
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file go together")
        if self.url.startswith("mqtts:") != (self.ca_file is not None):
            raise ValueError("mqtts:// and ca_file go together: give both, or mqtt:// and neither")
        if self.cert_file is not None and self.ca_file is None:
            raise ValueError("a client certificate needs mqtts:// and ca_file")
        return self

    def address(self) -> BrokerAddress:
        """The broker's address; reads the password file.

        Raises:
            ConfigError: the password file cannot be read or is empty.
        """
        host, port, _ = parse_broker_url(self.url)
        return BrokerAddress(
            host=host,
            port=port,
            username=self.username,
            password=self.password if self.password_file is None else _secret(self.password_file),
            ca_file=_text(self.ca_file),
            cert_file=_text(self.cert_file),
            key_file=_text(self.key_file),
        )

    def resolved(self, folder: Path) -> "BrokerSection":
        """The same with every relative path taken from a folder."""
        named = {name: getattr(self, name) for name in _FILES}
        given = {name: folder / path for name, path in named.items() if path is not None}
        return self.model_copy(update=given)


def _secret(path: Path) -> str:
    try:
        secret = path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", where=f"password_file {path}") from None
    if not secret:
        raise ConfigError(
            "is empty", where=f"password_file {path}", hint="Write the password in it"
        )
    return secret


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
