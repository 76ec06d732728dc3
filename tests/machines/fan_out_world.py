"""A federation whose model has several windows, and what its broker is given and has to keep."""

import random
from collections import Counter, defaultdict
from collections.abc import Callable

from tests.federation_world import World, small_definition

from plantfed_lab.simulation.links import Link, LinkQuality, Links
from plantfed_shared.bus.faults import Faults
from plantfed_shared.bus.port import publish_bytes
from plantfed_shared.definition import FederationDefinition
from plantfed_shared.messages import Chunk, ModelStep
from plantfed_shared.topics import Kind
from plantfed_shared.wire import decode

FAST = LinkQuality(10e6, 10e6, latency_s=0.02)
THIN = LinkQuality(64e3, 64e3, latency_s=0.15)
NEVER_DONE_S = 1e9
"""Rounds that take so long keep every agent at its first model."""


def large_definition(hidden: tuple[int, int] = (400, 260)) -> FederationDefinition:
    """Its whole model has seven parts."""
    return small_definition(
        model={"hidden": list(hidden)}, compression={"coding": "plain"}, lattice_bits=10
    )


class Queues:
    """Links that remember how much waited in the broker for each client at most."""

    def __init__(self, links: Links) -> None:
        self.longest: Counter[str] = Counter()
        self._links = links
        self._waiting: dict[str, list[tuple[float, int]]] = defaultdict(list)

    def up(self, client_id: str, n_bytes: int, now: float) -> float:
        return self._links.up(client_id, n_bytes, now)

    def down(self, client_id: str, n_bytes: int, now: float) -> float:
        arrival = self._links.down(client_id, n_bytes, now)
        waiting = [(t, n) for t, n in self._waiting[client_id] if t > now]
        self._waiting[client_id] = [*waiting, (arrival, n_bytes)]
        queued = sum(n for _, n in self._waiting[client_id])
        self.longest[client_id] = max(self.longest[client_id], queued)
        return arrival

    def broken(self, client_id: str, now: float) -> None:
        self._waiting.pop(client_id, None)
        self._links.broken(client_id, now)


class FanOut(World):
    """Agents that all want the first model, on links of their own.

    Attributes:
        model_bytes: of the whole model.
        ingress: MQTT bytes of models that the coordinator has given to the broker, by topic.
        content_bytes: the same without what is around them.
        ranges: chunks of models by (topic, offset).
        queues: at the broker.
        loses: whether the broker takes a message on a topic and gives it to nobody.
    """

    def __init__(
        self,
        agents: int,
        link: Callable[[int], LinkQuality] = lambda _: FAST,
        *,
        faults: Faults | None = None,
        seed: int = 0,
    ) -> None:
        names = [f"m{i:02d}" for i in range(agents)]
        links = {
            name: Link(link(i), random.Random(f"{seed} {name}")) for i, name in enumerate(names)
        }
        self.queues = Queues(Links(links))
        self.ingress: Counter[str] = Counter()
        self.ranges: Counter[tuple[str, int]] = Counter()
        self.content_bytes: Counter[str] = Counter()
        self.model_bytes = 0
        self.loses: Callable[[str], bool] = lambda _topic: False
        super().__init__(
            large_definition(),
            agents,
            seed=seed,
            faults=faults or Faults(),
            training_s=NEVER_DONE_S,
            transit=self.queues,
        )
        self._publish = self.broker.publish
        self.broker.publish = self._counted  # type: ignore[method-assign]

    def _counted(
        self, client_id: str, topic: str, payload: bytes, now: float, *, retain: bool = False
    ) -> bool:
        if client_id == self.coordinator.client_id and "/chunk" in topic:
            envelope = decode(payload, Kind.CHUNK)
            message = envelope.message
            assert isinstance(message, Chunk)
            if isinstance(message.step, ModelStep):
                self.model_bytes = message.content.size
                self.ingress[topic] += publish_bytes(topic, len(payload), mqtt5=True)
                self.ranges[topic, message.offset] += 1
                self.content_bytes[topic] += len(envelope.tail)
        if self.loses(topic):
            return True
        return self._publish(client_id, topic, payload, now, retain=retain)

    @property
    def copies(self) -> float:
        """Of the model, that the coordinator has given to the broker."""
        return sum(self.ingress.values()) / self.model_bytes

    def have_the_model(self) -> int:
        """Agents with the first model on their disks."""
        return sum(agent.disk.model is not None for agent in self.agents.values())

    def all_have_it(self) -> bool:
        return self.have_the_model() == len(self.agents)
