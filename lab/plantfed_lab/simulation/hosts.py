"""The two kinds of computers: a plant's machine with its agent, and the coordinator's server."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

from plantfed_agent import events as agent_events
from plantfed_agent.budget import LinkLimits
from plantfed_agent.machine import AgentMachine
from plantfed_agent.pace import Pace
from plantfed_agent.rounds import Work
from plantfed_agent.state import AgentState, with_changes
from plantfed_agent.training import TrainingOutcome, TrainingTask
from plantfed_coordinator import events as coordinator_events
from plantfed_coordinator.machine import FederationMachine
from plantfed_coordinator.records import EpochStarted, Record
from plantfed_coordinator.releases import Selector, draw_participants
from plantfed_coordinator.state import FederationState
from plantfed_lab.simulation.engine import Boundary, Simulation
from plantfed_lab.simulation.process import ProcessHost
from plantfed_lab.simulation.stopwatch import Stopwatch
from plantfed_shared import wire
from plantfed_shared.bus.port import (
    BusEvent,
    Connected,
    Disconnected,
    Listening,
    Received,
    SessionSettings,
    Will,
)
from plantfed_shared.errors import PlantfedError
from plantfed_shared.messages import Status
from plantfed_shared.topics import COORDINATOR, Topics
from plantfed_shared.version import software_version

Train = Callable[[TrainingTask], TrainingOutcome]
NO_LIMIT = 10**9
KEPT_LOG_LINES = 200


_WRITES = (agent_events.Persist, agent_events.KeepPieces, agent_events.DropPieces)
"""Each is a transaction of its own."""


def unlimited_pace() -> Pace:
    """Of a machine whose rows never wear out."""
    return Pace(max_rounds_without_new_rows=NO_LIMIT)


class AgentHost(ProcessHost[AgentMachine, agent_events.Event, agent_events.Action]):
    """A plant's machine: an agent, its disk and its computer.

    Args:
        simulation: it is part of.
        topics: of the federation.
        name: id of the agent.
        train: does a local round; called at the virtual end of the round.
        compute_s: draws how many virtual seconds a round takes.

    Attributes:
        pace: makes the timers and limits of the agent at every start.
        limits: of its link, at every start; who sets them tells the agent what it reads there.
        disk: survives a crash.
        half: what is half fetched on its disk; nothing else survives.
        machine: the agent, or None while it is down.
        stopped: why the agent has ended its program for good, or None.
        log: the last lines it has written.
        on_persist: told that the disk holds another state.
        on_stop: told the error with which it has, if it was one.
        trouble: the last warning it has written.
        on_round: told that a round was finished, with an outcome or an error.
        starts: so far.
        failed_rounds: that ended with an error.
        computing: runs during rounds, also those that a crash cuts off.
        down: runs while no agent does.
    """

    def __init__(
        self,
        simulation: Simulation,
        topics: Topics,
        name: str,
        train: Train,
        compute_s: Callable[[], float],
    ) -> None:
        super().__init__(simulation, client_id=name)
        self.name = name
        self.train = train
        self.compute_s = compute_s
        self.pace: Callable[[], Pace] = unlimited_pace
        self.limits = LinkLimits()
        self.disk = AgentState()
        self.half: agent_events.HalfFetched | None = None
        self.stopped: agent_events.Stop | None = None
        self.log: deque[str] = deque(maxlen=KEPT_LOG_LINES)
        self.on_persist: Callable[[], None] = lambda: None
        self.on_stop: Callable[[PlantfedError], None] = lambda _: None
        self.trouble = ""
        self.on_round: Callable[[], None] = lambda: None
        self.starts = 0
        self.failed_rounds = 0
        self.computing = Stopwatch()
        self.down = Stopwatch()
        self.down.start(simulation.now)
        self._topics = topics

    @property
    def is_idle(self) -> bool:
        """Whether its agent runs, and does nothing until it is told something."""
        machine = self.machine
        return machine is not None and machine.work is Work.IDLE and machine.next_timer() is None

    def start(self) -> None:
        """Start the agent from its disk; one that has stopped for good stays as it is."""
        if self.stopped is not None:
            return
        self.starts += 1
        self.down.stop(self._simulation.now)
        self.machine = AgentMachine(
            self.name,
            self._topics,
            self.disk,
            self.pace(),
            software_version(),
            limits=self.limits,
            half=self.half,
        )
        farewell = wire.encode(Status(online=False, software=""))
        session = SessionSettings(
            self.client_id,
            self._topics.agent_subscriptions(self.name),
            will=Will(self._topics.status(self.name), farewell),
        )
        self._simulation.hosts[self.client_id] = self
        self._simulation.broker.connect(session, self._simulation.now)

    def crash(self) -> None:
        """Kill the agent; only its disk is left."""
        self._end_process(clean=False)

    def _event_of(self, event: BusEvent) -> agent_events.Event | None:
        match event:
            case Connected(max_payload_bytes):
                return agent_events.BusConnected(max_payload_bytes)
            case Received(topic, payload, _, retained):
                return agent_events.MessageArrived(topic, payload, retained)
            case Listening(topic, allowed):
                return agent_events.LaneAnswered(topic, allowed)
            case Disconnected():
                return agent_events.BusDisconnected()
            case _:
                return None

    def _time_has_passed(self) -> agent_events.Event:
        return agent_events.TimerDue()

    def _carry_out(self, actions: Sequence[agent_events.Action]) -> None:
        writes = [action for action in actions if isinstance(action, _WRITES)]
        if not self._simulation.survives(self, Boundary.PERSIST):
            return
        for number, write in enumerate(writes):
            if number > 0 and not self._simulation.survives(self, Boundary.PERSIST):
                return
            if not self._commit(partial(self._write, write)):
                return
        for action in actions:
            if self.machine is None:
                return
            self._do(action)

    def _write(self, action: agent_events.Action) -> None:
        match action:
            case agent_events.Persist(state, changed):
                kept = {name: getattr(state, name) for name in changed}
                self.disk = with_changes(self.disk, **kept)
                self.on_persist()
            case agent_events.KeepPieces(half):
                before = self.half
                if before is not None and before.content == half.content:
                    half = replace(half, pieces=(*before.pieces, *half.pieces))
                self.half = half
            case agent_events.DropPieces():
                self.half = None

    def _do(self, action: agent_events.Action) -> None:
        match action:
            case agent_events.Publish(topic, payload, retain):
                self._publish(topic, payload, retain=retain)
            case agent_events.Listen(topic):
                self._simulation.broker.listen(self.client_id, topic, self._simulation.now)
            case agent_events.StopListening(topic):
                self._simulation.broker.stop_listening(self.client_id, topic, self._simulation.now)
            case agent_events.Train(ticket, task):
                self._begin_round(ticket, task)
            case agent_events.Note(text, warning):
                self.log.append(text)
                self.trouble = text if warning else self.trouble
            case agent_events.Stop():
                self.stopped = action
                self._end_process(clean=True)
                if action.error is not None:
                    self.on_stop(action.error)

    def _begin_round(self, ticket: int, task: TrainingTask) -> None:
        machine = self.machine
        self.computing.start(self._simulation.now)

        def finish() -> None:
            if self.machine is machine:
                self.computing.stop(self._simulation.now)
                self.handle(self._outcome(ticket, task))
                self.on_round()

        self._simulation.after(self.compute_s(), finish)

    def _outcome(self, ticket: int, task: TrainingTask) -> agent_events.Event:
        try:
            return agent_events.RoundDone(ticket, self.train(task))
        except PlantfedError as error:
            self.failed_rounds += 1
            return agent_events.RoundFailed(ticket, error)

    def _end_process(self, *, clean: bool) -> None:
        now = self._simulation.now
        self.machine = None
        self.computing.stop(now)
        self.down.start(now)
        self._simulation.broker.disconnect(self.client_id, now, clean=clean)


class CoordinatorHost(
    ProcessHost[FederationMachine, coordinator_events.Event, coordinator_events.Action]
):
    """The coordinator's server: its machine and its journal; its computing takes no virtual time.

    Args:
        simulation: it is part of.
        topics: of the federation.
        founding: the first record.
        new_bits: draws 64 random bits for a new epoch.
        client_id: on the broker; None for the coordinator's usual one.

    Attributes:
        select: draws the participants of synchronous rounds.
        journal: all that survives a crash.
        keeps_journal: False where nothing will ever be replayed: it holds every update there was.
        load: makes the state of a journal at a start.
        commits_within_s: what arrives within so long is committed together; 0 for one by one.
        observe: told of every record right after it was persisted.
    """

    def __init__(
        self,
        simulation: Simulation,
        topics: Topics,
        founding: EpochStarted,
        new_bits: Callable[[], int],
        client_id: str | None = None,
    ) -> None:
        super().__init__(simulation, client_id or f"{topics.federation}-{COORDINATOR}")
        self.select: Selector = draw_participants
        self.journal: list[Record] = [founding]
        self.keeps_journal = True
        self.load: Callable[[Sequence[Record]], FederationState] = replay
        self.commits_within_s = 0.0
        self.observe: Callable[[Record], None] = lambda _: None
        self._topics = topics
        self._new_bits = new_bits
        self._batch: list[coordinator_events.Action] = []
        self._tokens: list[int] = []

    def start(self) -> None:
        """Start the coordinator from its journal."""
        self.machine = FederationMachine(
            self.load(self.journal), self._topics, self._new_bits, self.monotonic_s, self.select
        )
        session = SessionSettings(
            self.client_id, self._topics.coordinator_subscriptions(), persistent=True
        )
        self._simulation.hosts[self.client_id] = self
        self._simulation.broker.connect(session, self._simulation.now)

    def crash(self) -> None:
        """Kill the coordinator; only its journal is left.

        Raises:
            RuntimeError: it keeps none.
        """
        if not self.keeps_journal:
            raise RuntimeError("a coordinator that keeps no journal can't come back")
        self.machine = None
        self._batch, self._tokens = [], []
        self._simulation.broker.disconnect(self.client_id, self._simulation.now, clean=False)

    @property
    def has_uncommitted(self) -> bool:
        """Whether its machine is ahead of the journal: something waits to be committed."""
        return bool(self._batch)

    def edit(self, definition: bytes) -> None:
        """Put other settings in force, as an operator does with a start.

        Args:
            definition: canonical bytes, of the same structure.
        """
        if self.machine is not None:
            self._carry_out(self.machine.start_epoch(definition, "the settings were edited"))
            self._simulation.watch_timer(self)

    def _event_of(self, event: BusEvent) -> coordinator_events.Event | None:
        match event:
            case Connected(max_payload_bytes):
                return coordinator_events.BusConnected(max_payload_bytes)
            case Received(topic, payload, _, retained):
                return coordinator_events.MessageArrived(topic, payload, retained)
            case _:
                return None

    def _time_has_passed(self) -> coordinator_events.Event:
        return coordinator_events.TimerDue()

    def _acknowledge(self, token: int) -> None:
        if self._batch:
            self._tokens.append(token)
        else:
            super()._acknowledge(token)

    def _carry_out(self, actions: Sequence[coordinator_events.Action]) -> None:
        begins, machine = not self._batch, self.machine
        self._batch += actions
        if not self.commits_within_s:
            self._finish(machine)
        elif begins:
            self._simulation.after(self.commits_within_s, partial(self._finish, machine))

    def _finish(self, machine: FederationMachine | None) -> None:
        """Persist all there is together, then publish, then acknowledge."""
        if self.machine is not machine or not self._batch:
            return  # it has been killed meanwhile
        batch, self._batch = self._batch, []
        tokens, self._tokens = self._tokens, []
        records = [a.record for a in batch if isinstance(a, coordinator_events.Persist)]
        if not self._simulation.survives(self, Boundary.PERSIST):
            return
        if records and not self._commit(partial(self._append, records)):
            return
        for action in batch:
            if isinstance(action, coordinator_events.Publish) and not self._publish(
                action.topic, action.payload, retain=action.retain
            ):
                return
        for token in tokens:
            if self.machine is machine:
                super()._acknowledge(token)

    def _append(self, records: list[Record]) -> None:
        if self.keeps_journal:
            self.journal += records
        for record in records:
            self.observe(record)


def replay(journal: Iterable[Record]) -> FederationState:
    """The state after all records of a journal.

    Raises:
        ValueError: it doesn't begin with the start of an epoch.
    """
    records = iter(journal)
    founding = next(records)
    if not isinstance(founding, EpochStarted):
        raise ValueError("a journal begins with the start of an epoch")
    state = FederationState.begin(founding)
    for record in records:
        state.apply(record)
    return state
