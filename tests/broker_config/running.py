"""Rendered folders with a real broker on them, and clients with the credentials they hold."""

import asyncio
import random
import tomllib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.contract.client import Client, opened
from tests.free_ports import free_port

from plantfed_broker.embedded import BrokerKind, EmbeddedBroker, _program
from plantfed_broker.folder import add_agent, render_federation
from plantfed_broker.settings import Variant
from plantfed_shared.bus.mqtt import MqttBus
from plantfed_shared.bus.port import BrokerAddress, Connected, SessionSettings, Will
from plantfed_shared.topics import COORDINATOR, Topics

TOPICS = Topics("hall-7")
PRESS = "press-01"
LATE = "press-02"

needs_mosquitto = pytest.mark.skipif(
    _program(BrokerKind.MOSQUITTO) is None, reason="mosquitto is not installed"
)
on_each_broker = pytest.mark.parametrize(
    "kind", [pytest.param(BrokerKind.MOSQUITTO, marks=needs_mosquitto), BrokerKind.NATS]
)
with_each_variant = pytest.mark.parametrize("variant", ["password", "mtls"])


@dataclass
class Site:
    """A federation with one agent.

    Attributes:
        folder: rendered.
        broker: of it.
    """

    folder: Path
    broker: EmbeddedBroker

    @classmethod
    def build(cls, folder: Path, kind: BrokerKind, variant: Variant = "password") -> "Site":
        render_federation(folder, TOPICS.federation, port=free_port(), variant=variant)
        add_agent(folder, PRESS)
        return cls(folder, EmbeddedBroker(folder, kind=kind))

    def bus(self, user: str, *, client_id: str | None = None, persistent: bool = False) -> MqttBus:
        """A client with the credentials that `render` or `add_agent` wrote for a user."""
        centre = user == COORDINATOR
        settings = self.folder / "coordinator-broker.toml"
        if not centre:
            settings = self.folder / "agents" / user / "agent.toml"
        subscriptions: Sequence[str] = TOPICS.agent_subscriptions(user)
        session = SessionSettings(
            client_id or user,
            TOPICS.coordinator_subscriptions() if centre else tuple(subscriptions),
            will=None if centre else Will(TOPICS.status(user), b"offline"),
            persistent=persistent,
        )
        return MqttBus(address_in(settings), session, rng=random.Random(1))

    @asynccontextmanager
    async def client(self, user: str) -> AsyncIterator[Client]:
        """A connected client."""
        async with opened(self.bus(user)) as client:
            await client.connected()
            yield client


def address_in(path: Path) -> BrokerAddress:
    """The broker section of a settings file, as its reader understands it."""
    section = tomllib.loads(path.read_text())["broker"]
    url = urlsplit(section["url"])
    secret = section.get("password_file")
    files = {
        key: str(path.parent / section[key])
        for key in ("ca_file", "cert_file", "key_file")
        if key in section
    }
    return BrokerAddress(
        url.hostname or "",
        url.port or 0,
        section.get("username"),
        (path.parent / secret).read_text().strip() if secret else None,
        **files,
    )


async def reconnected(client: Client) -> Connected:
    """The next connection, whatever comes before it."""
    await client.connected_again()
    return Connected()


async def reload(broker: EmbeddedBroker) -> None:
    """Let the broker take in what changed while clients go on."""
    await asyncio.to_thread(broker.reload)
