"""A shared model of five megabytes goes through in pieces, down and up, and is published once."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from urllib.parse import urlsplit

import numpy as np
import pytest
from tests.e2e.plant import Agent, Plant
from tests.e2e.processes import find_mosquitto, until

from plantfed_coordinator.records import Applied, Served
from plantfed_shared.bus.mqtt import MqttBus
from plantfed_shared.bus.port import (
    MAX_MESSAGE_BYTES,
    BrokerAddress,
    Connected,
    Received,
    SessionSettings,
)
from plantfed_shared.errors import StorageError
from plantfed_shared.lattice import checksum
from plantfed_shared.messages import Chunk
from plantfed_shared.topics import Kind
from plantfed_shared.wire import decode

HIDDEN = [1200, 1000]
LANES = "plantfed/v1/toy/all/chunk/+"


class Spy:
    """Hears every lane with the rights of an agent.

    Attributes:
        pieces: how often each piece came, by lane and offset.
        content_bytes: of all of them.
    """

    def __init__(self, plant: Plant) -> None:
        place = urlsplit(plant.url)
        # mosquitto takes the user's name for the client's
        user = plant.add_agent("m9")
        secret = (user.folder / "password").read_text().strip()
        assert place.hostname
        assert place.port
        address = BrokerAddress(place.hostname, place.port, user.id, secret)
        session = SessionSettings("spy", (LANES,))
        self.pieces: Counter[tuple[str, int]] = Counter()
        self.content_bytes = 0
        self.sizes: set[int] = set()
        self._make_bus = lambda: MqttBus(address, session, rng=random.Random(1))

    @contextmanager
    def listening(self) -> Iterator[None]:
        connected, done = Event(), Event()
        thread = Thread(target=lambda: asyncio.run(self._listen(connected, done)))
        thread.start()
        try:
            assert connected.wait(20)
            yield
        finally:
            done.set()
            thread.join()

    async def _listen(self, connected: Event, done: Event) -> None:
        bus = self._make_bus()
        await bus.open()
        while not done.is_set():
            try:
                event = await asyncio.wait_for(bus.next_event(), 0.1)
            except TimeoutError:
                continue
            if isinstance(event, Connected):
                connected.set()
            elif isinstance(event, Received):
                self._note(event)
                bus.acknowledge(event.token)
        await bus.close()

    def _note(self, event: Received) -> None:
        envelope = decode(event.payload, Kind.CHUNK)
        assert isinstance(envelope.message, Chunk)
        self.pieces[event.topic, envelope.message.offset] += 1
        self.content_bytes += len(envelope.tail)
        self.sizes.add(envelope.message.content.size)


@pytest.mark.parametrize("kind", ["mosquitto", "nats"])
def test_three_that_want_a_model_at_once_share_it_on_a_real_broker(
    tmp_path: Path, kind: str
) -> None:
    """Their updates have asked for the model after the release that all three lead to."""
    if kind == "mosquitto" and find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    with Plant(tmp_path, agents=3, n_rows=60) as plant:
        plant.define(
            model={"hidden": [400, 260]},
            algorithm={"epochs": 1},
            compression={"coding": "plain"},
            schedule={
                "arrivals": 3,
                "min_members": 3,
                "max_releases": 2,
                "release_after_s": 60.0,
            },
        )
        spy = Spy(plant)
        plant.start_broker(kind)
        with spy.listening():
            plant.start_coordinator().says("connected to the broker")
            for agent in plant.agents:
                agent.start()
            until(lambda: all(_has(agent, 2) for agent in plant.agents), "the last model", 60)
        for agent in plant.agents:
            assert agent.process.stop() == 0
        model = plant.federation().model
        for agent in plant.agents:
            np.testing.assert_array_equal(agent.state().model, model)
    # the first may have come to each alone, as they don't start at the same moment
    (size,) = spy.sizes
    print(f"{kind}: {spy.content_bytes / size:.2f} models on lanes, {len(spy.pieces)} pieces")
    assert 2 * size <= spy.content_bytes <= 3.2 * size
    assert set(spy.pieces.values()) == {1}


def _has(agent: Agent, k: int) -> bool:
    try:
        name = agent.state().model_name
    except StorageError:
        return False  # it has only just started
    return name is not None and name.k == k


@pytest.mark.parametrize("kind", ["mosquitto", "nats"])
def test_a_model_of_five_megabytes(tmp_path: Path, kind: str) -> None:
    if kind == "mosquitto" and find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    with Plant(tmp_path, agents=2, n_rows=100) as plant:
        plant.define(
            model={"hidden": HIDDEN},
            algorithm={"epochs": 1},
            compression={"coding": "plain"},
            schedule={
                "arrivals": 2,
                "min_members": 2,
                "max_releases": 2,
                "release_after_s": 60.0,
            },
        )
        plant.start(kind)
        until(lambda: plant.releases() == 2, "two releases of all members", 60)
        until(lambda: all(a.state().model_name.k == 2 for a in plant.agents), "the last model", 30)  # type: ignore[union-attr]
        for agent in plant.agents:
            assert agent.process.stop() == 0
        assert plant.coordinator is not None
        assert plant.coordinator.stop() == 0

        federation, records = plant.federation(), plant.journal()
        assert federation.model.size == 1_205_800
        applied = [r for r in records if isinstance(r, Applied)]
        assert sorted((r.agent, r.seq) for r in applied) == [
            ("m1", 1),
            ("m1", 2),
            ("m2", 1),
            ("m2", 2),
        ]
        assert all(len(r.change) > 20 * MAX_MESSAGE_BYTES for r in applied)
        assert {(r.agent, r.k) for r in records if isinstance(r, Served)} == {
            (agent.id, k) for agent in plant.agents for k in (1, 2)
        }
        for agent in plant.agents:
            state, member = agent.state(), federation.members[agent.id]
            assert state.model is not None
            np.testing.assert_array_equal(state.model, federation.model)
            assert state.dual_checksum == checksum(member.contribution.dual)
