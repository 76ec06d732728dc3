"""Real brokers with the users of a small federation, and who they are."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.contract.brokers import TOPICS, MqttWorld, free_port, mosquitto, nats
from tests.contract.certificates import Certificates
from tests.contract.conftest import needs_mosquitto

from plantfed_shared.bus.port import SessionSettings
from plantfed_shared.topics import COORDINATOR

PRESS = SessionSettings("press-01", TOPICS.agent_subscriptions("press-01"))
OTHER_PRESS = SessionSettings("press-02", TOPICS.agent_subscriptions("press-02"))
CENTRE = SessionSettings(COORDINATOR, TOPICS.coordinator_subscriptions())


@asynccontextmanager
async def world_of(
    kind: str, folder: Path, certificates: Certificates | None = None
) -> AsyncIterator[MqttWorld]:
    process = nats(folder) if kind == "nats" else mosquitto(folder, certificates=certificates)
    async with MqttWorld(process, free_port(folder), certificates=certificates).running() as world:
        yield world


def brokers(*kinds: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "kind",
        [k if k == "nats" else pytest.param(k, marks=needs_mosquitto) for k in kinds],
    )


def asked_for(kind: str, certificates: Certificates) -> Certificates | None:
    return certificates if kind == "mosquitto-tls" else None
