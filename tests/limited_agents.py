"""Agents with limits on their links, in a world with a calendar."""

from collections.abc import Sequence

from tests.federation_world import Agent, World, small_definition

from plantfed_agent import events
from plantfed_agent.budget import LinkLimits
from plantfed_agent.link_meter import LinkMeter
from plantfed_agent.training import TrainingTask
from plantfed_lab.simulation.agent_host import Train
from plantfed_lab.simulation.engine import Boundary
from plantfed_shared.bus.port import (
    PUBACK_BYTES,
    BusEvent,
    Connected,
    Disconnected,
    Received,
    Traffic,
    publish_bytes,
)
from plantfed_shared.day_ledger import DayLedger
from plantfed_shared.local_time import DAY_S, LocalTime
from plantfed_shared.topics import Kind

Crossing = tuple[float, Kind | None, int]
"""When, what (None: a PUBACK) and how many MQTT bytes."""


class LimitedAgent(Agent):
    """An agent that does what the shell does about its link, and notes all that crosses."""

    def __init__(
        self, world: World, name: str, train: Train, training_s: float, limits: LinkLimits
    ) -> None:
        self.tasks: list[tuple[float, TrainingTask]] = []

        def noted(task: TrainingTask) -> object:
            self.tasks.append((world.now, task))
            return train(task)

        super().__init__(world, name, noted, training_s)  # type: ignore[arg-type]
        self.limits = limits
        self.clock_s = 12 * 3600.0 + 1000 * DAY_S
        self.written: dict[str, int] = {}
        self.ups: list[Crossing] = []
        self.downs: list[Crossing] = []

    @property
    def local(self) -> LocalTime:
        day, second = divmod(self.clock_s + self._simulation.now, DAY_S)
        return LocalTime(int(day), second)

    def start(self) -> None:
        ledger = DayLedger.from_counters(self.written)
        self.meter = LinkMeter(self.limits, self._topics, ledger)
        self.traffic = Traffic()
        super().start()

    def receive(self, event: BusEvent) -> None:
        match event:
            case Received(topic, payload):
                n_bytes = publish_bytes(topic, len(payload), mqtt5=True)
                self.crossed(self.downs, self._topics.parse(topic).kind, n_bytes)
                self.crossed(self.ups, None, PUBACK_BYTES)
                self.meter.outlet.sent_beside(PUBACK_BYTES, self._simulation.now)
            case Connected() | Disconnected():
                self.meter.outlet.clear()
        super().receive(event)

    def crossed(self, way: list[Crossing], kind: Kind | None, n_bytes: int) -> None:
        way.append((self._simulation.now, kind, n_bytes))
        self.traffic.bytes_out += n_bytes if way is self.ups else 0
        self.traffic.bytes_in += n_bytes if way is self.downs else 0

    def handle(self, event: events.Event) -> bool:
        if self.machine is None:
            return False
        if super().handle(self.meter.read(self.local, self.traffic)):
            super().handle(event)
        self.let_go()
        return self.machine is not None

    def let_go(self) -> None:
        if self.machine is None:
            return
        if self.meter.write_due:
            self.written |= self.meter.counters()
        now = self._simulation.now
        bulk = not self.machine.budget.is_quiet
        for message in self.meter.outlet.take_due(now, bulk=bulk):
            n_bytes = publish_bytes(message.topic, len(message.payload), mqtt5=True)
            self.crossed(self.ups, self._topics.parse(message.topic).kind, n_bytes)
            self.crossed(self.downs, None, PUBACK_BYTES)
            self._simulation.broker.publish(
                self.client_id, message.topic, message.payload, now, retain=message.retain
            )
        self._simulation.watch_timer(self)

    def next_timer(self) -> float | None:
        if self.machine is None:
            return None
        bulk = not self.machine.budget.is_quiet
        leaving = self.meter.outlet.next_at(self._simulation.now, bulk=bulk)
        dues = [due for due in (super().next_timer(), leaving) if due is not None]
        return min(dues, default=None)

    def take_timer(self) -> None:
        due = super().next_timer()
        if due is not None and due <= self._simulation.now:
            self.handle(events.TimerDue())
        else:
            super().handle(self.meter.read(self.local, self.traffic))
            self.let_go()

    def _carry_out(self, actions: Sequence[events.Action]) -> None:
        super()._carry_out(actions)
        if any(isinstance(action, events.Persist) for action in actions):
            self.written |= self.meter.counters()

    def _do(self, action: events.Action) -> None:
        if isinstance(action, events.Publish):
            if self._simulation.survives(self, Boundary.PUBLISH):
                self.meter.outlet.add(action)
        else:
            super()._do(action)


def limited_world(
    limits: LinkLimits,
    agents: int = 1,
    *,
    hidden: int = 1200,
    definition: dict[str, object] | None = None,
    **changes: object,
) -> tuple[World, list[LimitedAgent]]:
    """A world of limited agents; it is noon, and an update has some 6 numbers a hidden unit."""
    founded = small_definition(
        model={"kind": "dense", "hidden": (hidden, 2)},
        schedule={"arrivals": 1},
        **(definition or {}),
    )
    made: list[LimitedAgent] = []

    def host(world: World, name: str, train: Train, training_s: float) -> LimitedAgent:
        made.append(LimitedAgent(world, name, train, training_s, limits))
        return made[-1]

    return World(founded, agents, host=host, **changes), made  # type: ignore[arg-type]
