"""What a resting agent costs on its link: MQTT bytes of an hour, both directions."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from tests.brokers.meddler import Meddling, meddler
from tests.e2e.plant import Plant
from tests.e2e.processes import find_mosquitto, until
from tests.federation_world import World, small_definition

from plantfed_coordinator.state import FederationState
from plantfed_shared.bus.port import PUBACK_BYTES, BusEvent, Received, publish_bytes

HOUR_S = 3600.0
KEEPALIVE_S = 60
PING_BYTES = 2 + 2
"""PINGREQ and PINGRESP (MQTT sections 3.12 and 3.13)."""
GOAL_BYTES = 2048


class Meter:
    """Counts what one agent of a world says and hears, as packets of MQTT 5."""

    def __init__(self, world: World, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.n_bytes: Counter[str] = Counter()
        self.times = [world.now]
        agent, broker = world.agents[name], world.broker
        receive, publish = agent.receive, broker.publish

        def count(topic: str, payload: bytes) -> None:
            kind = topic.rsplit("/", 1)[-1]
            self.n_bytes[kind] += publish_bytes(topic, len(payload), mqtt5=True) + PUBACK_BYTES
            self.times.append(world.now)

        def hear(event: BusEvent) -> None:
            if isinstance(event, Received):
                count(event.topic, event.payload)
            receive(event)

        def say(
            client: str, topic: str, payload: bytes, now: float, *, retain: bool = False
        ) -> bool:
            if client == name:
                count(topic, payload)
            return publish(client, topic, payload, now, retain=retain)

        monkeypatch.setattr(agent, "receive", hear)
        monkeypatch.setattr(broker, "publish", say)

    def total(self, now: float) -> int:
        """With a ping wherever nothing is said for as long as keep alive."""
        times = [*self.times, now]
        silences = (late - early for early, late in pairwise(times))
        self.n_bytes["ping"] = PING_BYTES * sum(int(s // KEEPALIVE_S) for s in silences)
        return self.n_bytes.total()


def final(state: FederationState) -> bool:
    return state.final


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_an_hour_of_rest(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = {**small_definition().schedule.model_dump(), "kind": kind, "max_releases": 2}
    world = World(small_definition(schedule=schedule), 3)
    assert world.run(
        HOUR_S,
        until=lambda: (
            final(world.state())
            and all(a.disk.model_name.k == 2 for a in world.agents.values() if a.disk.model_name)
        ),
    )
    meter = Meter(world, "m00", monkeypatch)
    world.run(HOUR_S)
    spent = meter.total(world.now)
    # it asks whether it is still a member after 10 minutes, 20 more and so on, and is answered
    assert set(meter.n_bytes) == {"model", "ping", "hello", "state"}
    assert meter.n_bytes["ping"] <= PING_BYTES * HOUR_S / KEEPALIVE_S
    assert spent <= GOAL_BYTES, meter.n_bytes


@pytest.mark.soak
@pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")
def test_rest_on_a_real_broker(tmp_path: Path) -> None:
    """The same on a wire, for less than ten minutes: pings, and announcements of the manifest."""
    keepalive_s, pings = 5, 8
    with Plant(tmp_path, agents=1) as plant:
        plant.define(schedule={"max_releases": 1})
        plant.start_mosquitto()
        with meddler(plant.port, Meddling()) as relay:
            url = f"mqtt://127.0.0.1:{relay.port}"
            agent = plant.agents[0]
            agent.configure(broker={"url": url, "keepalive_s": keepalive_s})
            plant.start_coordinator()
            agent.start()
            until(lambda: agent.rounds() == 1 and plant.releases() == 1, "the last model")
            tally = relay.tally
            until(lambda: tally.packets["PINGREQ"] > 0, "rest")
            before = tally.n_bytes.copy()
            enough = tally.packets["PINGREQ"] + pings
            until(lambda: tally.packets["PINGREQ"] >= enough, "pings", 2 * pings * keepalive_s)
            until(lambda: tally.packets["PINGRESP"] >= enough, "their answers")
            spent = tally.n_bytes - before
            assert spent["PINGREQ"] == spent["PINGRESP"] == PING_BYTES // 2 * pings
            assert set(spent) <= {"PINGREQ", "PINGRESP", "PUBLISH", "PUBACK"}
            # the manifest, at most twice: after 30 s and after 60 s more
            assert spent["PUBLISH"] + spent["PUBACK"] <= 2 * 150
            assert agent.process.stop() == 0
