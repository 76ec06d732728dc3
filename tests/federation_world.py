"""A whole federation in one thread: the real machines on the in-memory broker, a virtual clock.

Agents and coordinator are dropped and rebuilt from what they persisted; nothing else survives.
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from plantfed_agent import events as agent_events
from plantfed_agent.machine import AgentMachine
from plantfed_agent.pace import Pace
from plantfed_agent.state import AgentState
from plantfed_agent.training import TrainingOutcome, TrainingTask
from plantfed_coordinator import events as coordinator_events
from plantfed_coordinator.machine import FederationMachine
from plantfed_coordinator.records import Applied, EpochStarted, Record
from plantfed_coordinator.releases import Selector, draw_participants
from plantfed_coordinator.state import FederationState
from plantfed_shared.bus.memory import Faults, MemoryBroker
from plantfed_shared.bus.port import Connected, Disconnected, Received, SessionSettings, Will
from plantfed_shared.definition import (
    Algorithm,
    DenseModel,
    FederationDefinition,
    Input,
    Loss,
    Schedule,
)
from plantfed_shared.messages import Epoch, Status
from plantfed_shared.topics import COORDINATOR, Topics
from plantfed_shared.wire import encode

Train = Callable[[TrainingTask], TrainingOutcome]


def small_definition(**changes: object) -> FederationDefinition:
    """A federation with 26 shared and 10 personal numbers."""
    definition = FederationDefinition(
        federation="toy",
        model=DenseModel(hidden=(4, 2)),
        loss=Loss(kind="cross-entropy"),
        personal=("layer3.*",),
        inputs=tuple(Input(name=f"x{i}") for i in range(3)),
        classes=("a", "b", "c"),
        algorithm=Algorithm(learning_rate=0.1),
        schedule=Schedule(arrivals=2),
    )
    return FederationDefinition.model_validate({**definition.model_dump(), **changes})


class PullToTarget:
    """Exact local solution of f_i(u) = |u - c_i|^2 / 2: x = (c_i - rho w + rho u) / (1 + rho)."""

    def __init__(self, seed: int, agent: str) -> None:
        self._seed = seed
        self._agent = agent

    def target(self, size: int) -> np.ndarray:
        rng = np.random.default_rng([self._seed, *self._agent.encode()])
        return rng.normal(size=size)

    def __call__(self, task: TrainingTask) -> TrainingOutcome:
        rho = task.definition.algorithm.penalty if task.definition.algorithm.has_duals else 0.0
        wanted = self.target(task.base.size) - rho * task.dual + rho * task.base
        head = np.full(9, task.seq, dtype=np.float32)
        shared = (wanted / (1 + rho)).astype(np.float32)
        return TrainingOutcome(shared, head, 0.5, 0.5, 7, "rows", 0.0)


class Coordinator:
    """The coordinator with its journal; ``crash`` forgets all but the journal."""

    client_id = f"toy-{COORDINATOR}"

    def __init__(self, world: "World", definition: FederationDefinition) -> None:
        self.world = world
        epoch = Epoch(1, world.rng.getrandbits(64))
        self.journal: list[Record] = [EpochStarted(epoch, 0, definition.to_bytes(), "created")]
        self.released: dict[tuple[Epoch, int], bytes] = {}
        self.select: Selector = draw_participants
        self.machine: FederationMachine | None = None

    def start(self) -> None:
        state = replay(self.journal)
        self.machine = FederationMachine(
            state,
            self.world.topics,
            lambda: self.world.rng.getrandbits(64),
            self.world.now,
            self.select,
        )
        session = SessionSettings(
            self.client_id, self.world.topics.coordinator_subscriptions(), persistent=True
        )
        self.world.broker.connect(session, self.world.now)

    def crash(self) -> None:
        self.machine = None
        self.world.broker.disconnect(self.client_id, self.world.now, clean=False)

    def receive(self, event: Connected | Received) -> None:
        if isinstance(event, Connected):
            self.handle(coordinator_events.BusConnected(event.max_payload_bytes))
        else:
            arrived = coordinator_events.MessageArrived(event.topic, event.payload, event.retained)
            if self.handle(arrived):
                self.world.broker.acknowledge(self.client_id, event.token)

    def handle(self, event: coordinator_events.Event) -> bool:
        if self.machine is None:
            return False
        before = self.machine.state.epoch, self.machine.state.k
        actions = self.machine.handle(event, self.world.now)
        return self.carry_out(actions, before)

    def carry_out(self, actions: list[coordinator_events.Action], before: object = None) -> bool:
        """Persist, publish; returns False if it crashed on the way."""
        if self.world.chance_of_crash():
            self.crash()
            return False
        for action in actions:
            if isinstance(action, coordinator_events.Persist):
                self.journal.append(action.record)
        if self.machine is not None:
            state = self.machine.state
            self.released[state.epoch, state.k] = state.model.tobytes()
        for action in actions:
            if isinstance(action, coordinator_events.Publish):
                if self.world.chance_of_crash():
                    self.crash()
                    return False
                self.world.broker.publish(
                    self.client_id,
                    action.topic,
                    action.payload,
                    self.world.now,
                    retain=action.retain,
                )
        return True


def replay(journal: Iterable[Record]) -> FederationState:
    records = iter(journal)
    first = next(records)
    assert isinstance(first, EpochStarted)
    state = FederationState.begin(first)
    for record in records:
        state.apply(record)
    return state


@dataclass
class Agent:
    """One agent with its disk; ``crash`` forgets all but the disk."""

    world: "World"
    name: str
    train: Train
    pace: Callable[[], Pace] = lambda: Pace(max_rounds_without_new_rows=10**9)
    training_s: float = 1.0
    disk: AgentState = field(default_factory=AgentState)
    machine: AgentMachine | None = None
    stopped: agent_events.Stop | None = None
    log: list[str] = field(default_factory=list)

    def start(self) -> None:
        self.machine = AgentMachine(self.name, self.world.topics, self.disk, self.pace(), "test")
        will = Will(self.world.topics.status(self.name), encode(Status(online=False, software="")))
        session = SessionSettings(
            self.name, self.world.topics.agent_subscriptions(self.name), will=will
        )
        self.world.broker.connect(session, self.world.now)

    def crash(self) -> None:
        self.machine = None
        self.world.broker.disconnect(self.name, self.world.now, clean=False)

    def receive(self, event: Connected | Disconnected | Received) -> None:
        match event:
            case Connected(max_payload_bytes):
                self.handle(agent_events.BusConnected(max_payload_bytes))
            case Disconnected():
                self.handle(agent_events.BusDisconnected())
            case Received(topic, payload, token):
                if self.handle(agent_events.MessageArrived(topic, payload)):
                    self.world.broker.acknowledge(self.name, token)

    def handle(self, event: agent_events.Event) -> bool:
        if self.machine is None:
            return False
        actions = self.machine.handle(event, self.world.now)
        if self.world.chance_of_crash():
            self.crash()
            return False
        for action in actions:
            if isinstance(action, agent_events.Persist):
                kept = {name: getattr(action.state, name) for name in action.changed}
                self.disk = replace(self.disk, **kept)
        return all(self._do(action) for action in actions)

    def _do(self, action: agent_events.Action) -> bool:
        match action:
            case agent_events.Publish(topic, payload, retain):
                if self.world.chance_of_crash():
                    self.crash()
                    return False
                self.world.broker.publish(self.name, topic, payload, self.world.now, retain=retain)
            case agent_events.Train(ticket, task):
                machine = self.machine
                outcome = self.train(task)

                def finish() -> None:
                    if self.machine is machine:
                        self.handle(agent_events.RoundDone(ticket, outcome))

                self.world.after(self.training_s, finish)
            case agent_events.Stop():
                self.stopped = action
            case agent_events.Note(text):
                self.log.append(text)
        return True


class World:
    """Coordinator, agents, broker and clock."""

    def __init__(
        self,
        definition: FederationDefinition,
        agents: int = 4,
        *,
        seed: int = 0,
        faults: Faults | None = None,
        crash_probability: float = 0.0,
        train: Callable[[str], Train] | None = None,
        training_s: float = 1.0,
    ) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.crash_probability = 0.0
        self.broker = MemoryBroker(self.rng, faults or Faults(delay_s=(0.01, 0.05)))
        self.topics = Topics(definition.federation)
        self._jobs: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._coming_back: set[int] = set()
        self.coordinator = Coordinator(self, definition)
        make = train or (lambda name: PullToTarget(seed, name))
        names = [f"m{i:02d}" for i in range(agents)]
        self.agents = {name: Agent(self, name, make(name), training_s=training_s) for name in names}
        self.coordinator.start()
        for agent in self.agents.values():
            agent.start()
        self.crash_probability = crash_probability

    def chance_of_crash(self) -> bool:
        return self.crash_probability > 0 and self.rng.random() < self.crash_probability

    def after(self, delay_s: float, job: Callable[[], None]) -> None:
        self._count += 1
        self._jobs.append((self.now + delay_s, self._count, job))
        self._jobs.sort(reverse=True, key=lambda entry: entry[:2])

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Let time pass; returns whether ``until`` became true."""
        end = self.now + seconds
        steps_at = (self.now, 0)
        while True:
            steps_at = (self.now, steps_at[1] + 1 if steps_at[0] == self.now else 0)
            assert steps_at[1] < 10_000, f"the machines spin at {self.now}"
            if until is not None and until():
                return True
            due = self._next_due()
            if due is None or due > end:
                self.now = end
                return until is not None and until()
            self.now = max(self.now, due)
            self._step()

    def _next_due(self) -> float | None:
        times = [self.broker.next_due(), self._jobs[-1][0] if self._jobs else None]
        machines = [self.coordinator.machine, *(a.machine for a in self.agents.values())]
        times += [m.next_timer() for m in machines if m is not None]
        return min((t for t in times if t is not None), default=None)

    def _step(self) -> None:
        while self._jobs and self._jobs[-1][0] <= self.now:
            self._jobs.pop()[2]()
        while (delivery := self.broker.pop_due(self.now)) is not None:
            if delivery.client_id == self.coordinator.client_id:
                if isinstance(delivery.event, Connected | Received):
                    self.coordinator.receive(delivery.event)
            elif not isinstance(delivery.event, Connected | Disconnected | Received):
                continue
            else:
                self.agents[delivery.client_id].receive(delivery.event)
        self._timers()
        for agent in self.agents.values():
            if agent.machine is None and agent.stopped is None:
                self._restart(agent)
        if self.coordinator.machine is None:
            self._restart(self.coordinator)

    def _restart(self, program: Agent | Coordinator) -> None:
        """Once for each time it is found down."""

        def start() -> None:
            self._coming_back.remove(id(program))
            if program.machine is None:
                program.start()

        if id(program) not in self._coming_back:
            self._coming_back.add(id(program))
            self.after(self.rng.uniform(0.1, 5.0), start)

    def _timers(self) -> None:
        coordinator = self.coordinator.machine
        if coordinator is not None:
            due = coordinator.next_timer()
            if due is not None and due <= self.now:
                self.coordinator.handle(coordinator_events.TimerDue())
        for agent in self.agents.values():
            due = agent.machine.next_timer() if agent.machine is not None else None
            if due is not None and due <= self.now:
                agent.handle(agent_events.TimerDue())

    # ------------------------------------------------------------------ what holds at any time

    def state(self) -> FederationState:
        assert self.coordinator.machine is not None
        return self.coordinator.machine.state

    def applied(self) -> list[Applied]:
        return [r for r in self.coordinator.journal if isinstance(r, Applied)]
