"""A federation to which everything happens that a plan says, and then nothing any more."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from hashlib import blake2b
from typing import NamedTuple
from unittest.mock import patch

from tests.faults.oracle import Oracle
from tests.faults.plan import CALM, FAULTY_S, WEATHER_S, Disturbance, plan_of, weather
from tests.federation_world import Agent, World
from tests.machines.invariants import everybody_agrees, releases

from plantfed_agent.events import LeaveRequested
from plantfed_agent.state import AgentState
from plantfed_coordinator.events import OperatorOrder, Order
from plantfed_coordinator.record_rows import from_row, to_row
from plantfed_coordinator.records import Record
from plantfed_coordinator.snapshot import SnapshotRows, from_rows, to_rows
from plantfed_coordinator.state import FederationState
from plantfed_lab.simulation.coordinator_host import CoordinatorHost, replay
from plantfed_lab.simulation.engine import Boundary, Host, WriteOutcome
from plantfed_shared import own_average, wire
from plantfed_shared.bus.memory import Delivery
from plantfed_shared.bus.port import Received
from plantfed_shared.codec import TURNOVER
from plantfed_shared.definition import FederationDefinition
from plantfed_shared.errors import PeerError
from plantfed_shared.topics import Kind

YEAR_S = 365 * 86400.0
PATIENCE_S = 1500.0
"""The longest intervals between two tries are ten minutes."""
RELEASES_WANTED = 3
MOST_EVENTS = 100_000
"""A seed has some thousands."""


class Outcome(NamedTuple):
    """How a seed ended.

    Attributes:
        digest: of everything that was delivered, when, and of the journal.
        happened: how often each fault struck.
        events: deliveries, timers and other jobs.
        updates: applied.
        acknowledged: updates that agents were told are applied.
        forgiven: of these, what went with a backup or a second coordinator.
    """

    digest: str
    happened: Counter[str]
    events: int
    updates: int
    acknowledged: int
    forgiven: int


def run_seed(seed: int) -> Outcome:
    """Run a seed from beginning to end.

    Raises:
        AssertionError: something happened that must never happen, or somebody is stuck.
    """
    world = FaultWorld(seed)
    turnovers = (4, 1) if world.plan.short_windows else (64, 8)
    window, overlap = (n * TURNOVER for n in turnovers)
    try:
        with patch.multiple(own_average, WINDOW=window, OVERLAP=overlap):
            return world.live()
    except Exception as error:
        error.add_note(f"replay with: .venv/bin/python -m tests.faults {seed}")
        raise


class FaultWorld(World):
    """The federation of one seed.

    Args:
        seed: says everything.
    """

    def __init__(self, seed: int) -> None:
        self.plan = plan_of(seed)
        super().__init__(
            self.plan.definition, self.plan.agents, seed=seed, faults=CALM, training_s=4.0
        )
        self.happened: Counter[str] = Counter()
        self.events = 0
        self.twin: CoordinatorHost | None = None
        self._trace = blake2b(digest_size=16)
        self._full: set[str] = set()
        self._backups: dict[str, list[AgentState]] = defaultdict(list)
        self._faulty = True
        self._trace_deliveries()
        self._prepare(self.coordinator)
        for agent in self.agents.values():
            self._let_clock_begin_anywhere(agent)
        self.oracle = Oracle(self)
        self.simulation.chance_of_crash = self._strikes_at
        self.simulation.on_event = self._count_event
        self.simulation.outcome_of_write = self._outcome_of_write
        for time, kind in self.plan.disturbances:
            self.simulation.at(time, partial(self._disturb, kind))

    def live(self) -> Outcome:
        """From the first fault to the last check."""
        while self.now < FAULTY_S:
            self.broker.faults = weather(self.plan.worst, self.rng)
            self.run(WEATHER_S)
            self._back_up()
            if self.coordinator.machine is not None and not self.coordinator.has_uncommitted:
                self.oracle.check()
        self._calm()
        self._recover()
        self.oracle.check_at_the_end()
        self._trace.update(repr([to_row(r) for r in self.coordinator.journal]).encode())
        oracle = self.oracle
        return Outcome(
            self._trace.hexdigest(),
            self.happened,
            self.events,
            self.state().updates,
            len(oracle.acknowledged),
            oracle.forgiven,
        )

    def _calm(self) -> None:
        """All faults stop, and what a human has taken away he gives back."""
        self._faulty = False
        self.broker.faults = CALM
        self._full.clear()
        if self.twin is not None:
            self._stop_one_of_two()
        for host in (self.coordinator, *self.agents.values()):
            self.broker.mend(host.client_id, self.now)
        assert self.run(100.0, until=self._everybody_runs), "somebody does not start again"
        for name in sorted(self.state().barred):
            self.coordinator.handle(OperatorOrder(Order.ADMIT, name))

    def _recover(self) -> None:
        """Without a human."""
        before = releases(self.coordinator.journal)

        def goes_on() -> bool:
            return releases(self.coordinator.journal) >= before + RELEASES_WANTED

        assert self.run(PATIENCE_S, until=goes_on), "no release is made any more"
        assert self.run(PATIENCE_S, until=self._everybody_is_there), "somebody is stuck"
        assert self.run(1.0, until=lambda: not self.coordinator.has_uncommitted)

    def _everybody_runs(self) -> bool:
        for agent in self.agents.values():
            self._come_back(agent)  # its BYE may have been answered only now
        return not any(host.is_down for host in (self.coordinator, *self.agents.values()))

    def _everybody_is_there(self) -> bool:
        return self._everybody_runs() and everybody_agrees(self)

    # ------------------------------------------------------------------ chance

    def _strikes_at(self, host: Host, boundary: Boundary) -> bool:
        role = "agent" if host.client_id in self.agents else "coordinator"
        struck = self._faulty and self._hits(self.plan.crash[role, boundary])
        self.happened[f"{role} killed before {boundary}"] += struck
        return struck

    def _outcome_of_write(self, host: Host) -> WriteOutcome:
        if host.client_id in self._full:
            self.happened["write to a full disk"] += 1
            return WriteOutcome.FAILED
        if self._faulty and self._hits(self.plan.failed_write):
            self.happened["failed write"] += 1
            return WriteOutcome.FAILED
        if self._faulty and self._hits(self.plan.unsure_write):
            self.happened["write of which nobody knows"] += 1
            return WriteOutcome.UNSURE
        return WriteOutcome.DONE

    def _hits(self, probability: float) -> bool:
        return probability > 0.0 and self.rng.random() < probability

    # ------------------------------------------------------------------ disturbances

    def _disturb(self, kind: Disturbance) -> None:
        agent = self.agents[self.rng.choice(sorted(self.agents))]
        host = self.rng.choice([agent, self.coordinator])
        seconds = self.rng.choice([3.0, 60.0])
        self.happened[kind] += 1
        match kind:
            case Disturbance.KILL:
                self.simulation.kill(host, self.rng.uniform(0.1, seconds))
            case Disturbance.CUT:
                self.broker.cut(host.client_id, self.now)
                self.simulation.after(seconds, lambda: self.broker.mend(host.client_id, self.now))
            case Disturbance.FORGET:
                self.broker.forget(self.now)
            case Disturbance.DISK_FULL:
                self._full.add(host.client_id)
                self.simulation.after(seconds, lambda: self._full.discard(host.client_id))
            case Disturbance.LEAP:
                host.jump_clock(YEAR_S)
            case Disturbance.TWIN:
                self._start_twin(seconds)
            case Disturbance.RESTORE_COORDINATOR:
                self._restore_coordinator()
            case Disturbance.RESTORE_AGENT:
                self._replace_disk(
                    agent, self.rng.choice([AgentState(), *self._backups[agent.name]])
                )
            case Disturbance.LOSE_DISK:
                self._replace_disk(agent, AgentState())
            case Disturbance.LEAVE:
                agent.handle(LeaveRequested())
                anew = self.rng.random() < 0.5
                self.simulation.after(seconds, lambda: self._come_back(agent, anew=anew))
            case Disturbance.REMOVE:
                self.coordinator.handle(OperatorOrder(Order.REMOVE, agent.name))
                back = OperatorOrder(Order.ADMIT, agent.name)
                self.simulation.after(seconds, lambda: self.coordinator.handle(back))
            case Disturbance.EDIT:
                self.coordinator.edit(self._edited())

    def _start_twin(self, seconds: float) -> None:
        """Somebody starts a second one, on another server, from a copy of the journal."""
        if self.twin is not None:
            return
        first = self.coordinator
        twin = CoordinatorHost(
            self.simulation,
            self.topics,
            first.journal[0],
            lambda: self.rng.getrandbits(64),
            f"{first.client_id}-2",
        )
        twin.journal = first.journal[: self._some_length(first.journal)]
        self._prepare(twin)
        self.twin = twin
        self.oracle.watch(twin)
        twin.start()
        self.simulation.after(seconds, self._stop_one_of_two)

    def _stop_one_of_two(self) -> None:
        if self.twin is None:
            return
        both = [self.coordinator, self.twin]
        self.coordinator = both.pop(self.rng.randrange(2))
        self.twin = None
        (gone,) = both
        if not gone.is_down:
            gone.crash()
        gone.start = lambda: None  # type: ignore[method-assign]
        self.oracle.forget(gone)

    def _restore_coordinator(self) -> None:
        host = self.coordinator
        if not host.is_down:
            host.crash()
        host.journal = host.journal[: self._some_length(host.journal)]
        host.load = Loader(self.plan.snapshot_every)
        self.oracle.watch(host)
        host.start()

    def _some_length(self, journal: Sequence[Record]) -> int:
        return max(1, len(journal) - self.rng.randint(0, 60))

    def _replace_disk(self, agent: Agent, disk: AgentState) -> None:
        if not agent.is_down:
            agent.crash()
        agent.disk, agent.half = disk, None
        self.oracle.disk_replaced(agent)
        agent.start()

    def _come_back(self, agent: Agent, *, anew: bool = False) -> None:
        """An agent that has left is started again, perhaps on a machine set up anew."""
        if agent.stopped is None:
            return
        assert agent.stopped.error is None, agent.stopped.error
        agent.stopped = None
        if anew:
            agent.disk, agent.half = AgentState(), None
            self.oracle.disk_replaced(agent)
        agent.start()

    def _edited(self) -> bytes:
        machine = self.coordinator.machine
        old = machine.state.terms.definition if machine else self.plan.definition
        algorithm = {
            **old.algorithm.model_dump(),
            "learning_rate": self.rng.choice([0.05, 0.1, 0.2]),
        }
        edited = {**old.model_dump(), "algorithm": algorithm}
        return FederationDefinition.model_validate(edited).to_bytes()

    def _back_up(self) -> None:
        for agent in self.agents.values():
            self._backups[agent.name].append(agent.disk)

    # ------------------------------------------------------------------ how hosts are set up

    def _prepare(self, coordinator: CoordinatorHost) -> None:
        coordinator.commits_within_s = self.plan.commits_within_s
        coordinator.load = Loader(self.plan.snapshot_every)
        self._let_clock_begin_anywhere(coordinator)

    def _let_clock_begin_anywhere(self, host: Agent | CoordinatorHost) -> None:
        """At every start; while a process runs its clock only goes forward."""
        if not self.plan.any_clock:
            return
        start = host.start

        def start_at_some_time() -> None:
            host.clock_ahead_s = self.rng.uniform(0.0, YEAR_S)
            start()

        host.start = start_at_some_time  # type: ignore[method-assign]

    def _count_event(self) -> None:
        self.events += 1
        assert self.events <= MOST_EVENTS, "a storm of messages that doesn't end"

    def _trace_deliveries(self) -> None:
        take = self.broker.pop_due

        def traced(now: float) -> Delivery | None:
            delivery = take(now)
            self._trace.update(repr((now, delivery)).encode())
            if delivery is not None and isinstance(delivery.event, Received):
                self._overhear(delivery.event)
            return delivery

        self.broker.pop_due = traced  # type: ignore[method-assign]

    def _overhear(self, received: Received) -> None:
        if received.topic.endswith("/up/hello"):
            with suppress(PeerError):
                hello = wire.decode(received.payload, Kind.HELLO).message
                self.oracle.hello(self.topics.parse(received.topic).agent, hello)


class Loader:
    """Loads a journal as the product does: from rows, and from a snapshot where there is one."""

    def __init__(self, snapshot_every: int) -> None:
        self._every = snapshot_every
        self._snapshot: tuple[int, SnapshotRows] | None = None

    def __call__(self, journal: Sequence[Record]) -> FederationState:
        records = [from_row(to_row(record)) for record in journal]
        if self._snapshot is None:
            state, length = replay(records), len(records)
        else:
            length, rows = self._snapshot
            state = from_rows(rows)
            for record in records[length:]:
                state.apply(record)
        if self._every and len(records) >= length + self._every * (self._snapshot is not None):
            self._snapshot = len(records), to_rows(state)
        return state
