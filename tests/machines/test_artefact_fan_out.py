"""The artefact of a compiled model goes to all who join at once: what the broker is given of it."""

import random
from collections import Counter
from collections.abc import Callable

import pytest
from tests.compiled_federations import federation
from tests.federation_world import World
from tests.machines.fan_out_world import FAST, NEVER_DONE_S, THIN, Queues
from tests.machines.test_compiled_models import with_large_artefact

from plantfed_coordinator.federation_file import Federation
from plantfed_lab.simulation.links import Link, LinkQuality, Links
from plantfed_shared.bus.faults import Faults
from plantfed_shared.bus.port import MAX_MESSAGE_BYTES
from plantfed_shared.messages import Chunk
from plantfed_shared.topics import Kind
from plantfed_shared.transfer import WINDOW_BYTES
from plantfed_shared.wire import decode


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    """Its artefact has 400 kB."""
    return with_large_artefact(federation(tmp_path_factory.mktemp("large")))


class ArtefactFanOut(World):
    """Agents that all want the artefact of their federation.

    Attributes:
        ingress: bytes of the artefact that the coordinator has given to the broker, by topic.
        loses: whether the broker takes a message on a topic and gives it to nobody.
    """

    def __init__(
        self,
        made: Federation,
        agents: int,
        link: Callable[[int], LinkQuality] = lambda _: FAST,
        faults: Faults | None = None,
    ) -> None:
        assert made.artefact is not None
        self.content = made.artefact.content
        names = [f"m{i:02d}" for i in range(agents)]
        links = {name: Link(link(i), random.Random(name)) for i, name in enumerate(names)}
        self.queues = Queues(Links(links))
        self.ingress: Counter[str] = Counter()
        self.ranges: Counter[tuple[str, int]] = Counter()
        self.loses: Callable[[str], bool] = lambda _topic: False
        super().__init__(
            made.definition,
            agents,
            faults=faults or Faults(),
            training_s=NEVER_DONE_S,
            transit=self.queues,
            initial=made.initial,
            artefact=made.artefact,
        )
        self._publish = self.broker.publish
        self.broker.publish = self._counted  # type: ignore[method-assign]

    def _counted(
        self, client_id: str, topic: str, payload: bytes, now: float, *, retain: bool = False
    ) -> bool:
        if client_id == self.coordinator.client_id and "/chunk" in topic:
            envelope = decode(payload, Kind.CHUNK)
            assert isinstance(envelope.message, Chunk)
            if envelope.message.content == self.content:
                self.ingress[topic] += len(envelope.tail)
                self.ranges[topic, envelope.message.offset] += 1
        if self.loses(topic):
            return True
        return self._publish(client_id, topic, payload, now, retain=retain)

    @property
    def copies(self) -> float:
        return self.ingress.total() / self.content.size

    def all_have_it(self) -> bool:
        return all(agent.artefacts for agent in self.agents.values())


def test_two_hundred_that_join_at_once_cost_the_broker_one_copy(large: Federation) -> None:
    world = ArtefactFanOut(large, 200)
    assert world.run(120, until=world.all_have_it)
    longest = max(world.queues.longest[name] for name in world.agents)
    print(f"{world.copies:.3f} copies, {longest} bytes queued at most, {world.now:.1f} s")
    assert large.artefact is not None
    whole = {large.artefact.content.digest: large.artefact.encoded}
    assert all(agent.artefacts == whole for agent in world.agents.values())
    assert world.copies <= 1.1
    assert longest <= WINDOW_BYTES + MAX_MESSAGE_BYTES


def test_a_thin_link_holds_nobody_up(large: Federation) -> None:
    world = ArtefactFanOut(large, 12, lambda number: THIN if number == 7 else FAST)
    others = [agent for name, agent in world.agents.items() if name != "m07"]
    assert world.run(30, until=lambda: all(agent.artefacts for agent in others))
    assert not world.agents["m07"].artefacts
    assert world.run(300, until=world.all_have_it)
    assert world.copies <= 2.1


def test_two_fetch_it_one_by_one(large: Federation) -> None:
    world = ArtefactFanOut(large, 2)
    assert world.run(60, until=world.all_have_it)
    assert not any("/all/" in topic for topic in world.ingress)
    assert world.copies == 2


def test_what_is_lost_on_lanes_comes_to_each_agent_alone(large: Federation) -> None:
    silent = ArtefactFanOut(large, 4)
    silent.loses = lambda topic: "/all/chunk/" in topic
    assert silent.run(120, until=silent.all_have_it)
    for name in silent.agents:
        assert silent.ingress[silent.topics.down(name, Kind.CHUNK)] == silent.content.size


def test_nothing_comes_twice_on_a_lane_whatever_is_lost_and_doubled(large: Federation) -> None:
    faults = Faults(drop=0.02, duplicate=0.1, delay_s=(0.0, 0.5))
    world = ArtefactFanOut(large, 12, faults=faults)
    assert world.run(900, until=world.all_have_it)
    lanes = {key: n for key, n in world.ranges.items() if "/all/" in key[0]}
    assert lanes
    assert set(lanes.values()) == {1}


def test_all_that_were_killed_go_on_together(large: Federation) -> None:
    world = ArtefactFanOut(large, 20, lambda _: LinkQuality(1e6, 1e6, latency_s=0.05))
    agents = world.agents.values()
    assert world.run(60, until=lambda: all(agent.half is not None for agent in agents))
    assert not any(agent.artefacts for agent in agents)
    for agent in agents:
        agent.crash()
    world.run(5)
    for agent in agents:
        agent.start()
    assert world.run(120, until=world.all_have_it)
    print(f"{world.copies:.2f} copies for 20 agents, all killed in the middle")
    assert world.copies < 3
