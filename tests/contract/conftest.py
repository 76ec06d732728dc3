import gc
import threading
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path

import pytest
from tests.contract.brokers import (
    MemoryWorld,
    MqttWorld,
    World,
    find_mosquitto,
    free_port,
    mosquitto,
    nats,
)
from tests.contract.certificates import Certificates

needs_mosquitto = pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(
    params=[
        "memory",
        pytest.param("mosquitto", marks=needs_mosquitto),
        pytest.param("mosquitto-3.1.1", marks=needs_mosquitto),
        pytest.param("mosquitto-tls", marks=needs_mosquitto),
        "nats",
    ]
)
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def open_world(
    variant: str, tmp_path: Path, certificates: Certificates
) -> Iterator[AbstractAsyncContextManager[World]]:
    """A broker of every kind in turn; afterwards nothing may be left of the clients."""
    yield _world(variant, tmp_path, certificates)
    gc.collect()
    assert [t.name for t in threading.enumerate() if t.name.startswith("mqtt ")] == []


def _world(
    variant: str, folder: Path, certificates: Certificates
) -> AbstractAsyncContextManager[World]:
    port = free_port(folder)
    match variant:
        case "memory":
            return nullcontext(MemoryWorld())
        case "mosquitto":
            return MqttWorld(mosquitto(folder), port).running()
        case "mosquitto-3.1.1":
            return MqttWorld(mosquitto(folder), port, protocol="3.1.1").running()
        case "mosquitto-tls":
            process = mosquitto(folder, certificates=certificates)
            return MqttWorld(process, port, certificates=certificates).running()
        case _:
            return MqttWorld(nats(folder), port).running()
