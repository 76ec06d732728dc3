"""Hosts: the product's machines with what they have persisted, and what carries out their actions.

The order of every step is that of the services: persist, publish, acknowledge.  Between any two of
them the engine may crash a host; it then starts again from its disk or journal, and nothing else.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

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


def unlimited_pace() -> Pace:
    """Of a machine whose rows never wear out."""
    return Pace(max_rounds_without_new_rows=NO_LIMIT)


class AgentHost:
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
        self.client_id = self.name = name
        self.train = train
        self.compute_s = compute_s
        self.pace: Callable[[], Pace] = unlimited_pace
        self.limits = LinkLimits()
        self.disk = AgentState()
        self.half: agent_events.HalfFetched | None = None
        self.machine: AgentMachine | None = None
        self.stopped: agent_events.Stop | None = None
        self.log: deque[str] = deque(maxlen=KEPT_LOG_LINES)
        self.on_stop: Callable[[PlantfedError], None] = lambda _: None
        self.trouble = ""
        self.on_round: Callable[[], None] = lambda: None
        self.starts = 0
        self.failed_rounds = 0
        self.computing = Stopwatch()
        self.down = Stopwatch()
        self.down.start(simulation.now)
        self._simulation = simulation
        self._topics = topics

    @property
    def is_down(self) -> bool:
        """Whether no agent is running on it."""
        return self.machine is None

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

    def receive(self, event: BusEvent) -> None:
        """Take in what the broker delivers."""
        match event:
            case Connected(max_payload_bytes):
                self.handle(agent_events.BusConnected(max_payload_bytes))
            case Received(topic, payload, token, retained):
                done = self.handle(agent_events.MessageArrived(topic, payload, retained))
                if done and self._simulation.survives(self, Boundary.ACKNOWLEDGE):
                    self._simulation.broker.acknowledge(self.client_id, token)
            case Listening(topic, allowed):
                self.handle(agent_events.LaneAnswered(topic, allowed))
            case Disconnected():
                self.handle(agent_events.BusDisconnected())

    def next_timer(self) -> float | None:
        """When the agent wants to be told that time has passed."""
        return None if self.machine is None else self.machine.next_timer()

    def take_timer(self) -> None:
        """Tell the agent that time has passed."""
        self.handle(agent_events.TimerDue())

    def handle(self, event: agent_events.Event) -> bool:
        """Tell it something and do what it asks for; False if it is down at the end."""
        if self.machine is None:
            return False
        actions = self.machine.handle(event, self._simulation.now)
        if actions:
            self._carry_out(actions)
        self._simulation.watch_timer(self)
        return self.machine is not None

    def _carry_out(self, actions: Sequence[agent_events.Action]) -> None:
        if not self._simulation.survives(self, Boundary.PERSIST):
            return
        for action in actions:
            if not self._write(action):
                return
        for action in actions:
            if self.machine is None:
                return
            self._do(action)

    def _write(self, action: agent_events.Action) -> bool:
        """Each is a commit of its own; returns whether the agent has not been killed before it."""
        match action:
            case agent_events.Persist(state, changed):
                kept = {name: getattr(state, name) for name in changed}
                self.disk = with_changes(self.disk, **kept)
            case agent_events.KeepPieces(half):
                if not self._simulation.survives(self, Boundary.PERSIST):
                    return False
                before = self.half
                if before is not None and before.content == half.content:
                    half = replace(half, pieces=(*before.pieces, *half.pieces))
                self.half = half
            case agent_events.DropPieces():
                if not self._simulation.survives(self, Boundary.PERSIST):
                    return False
                self.half = None
        return True

    def _do(self, action: agent_events.Action) -> None:
        match action:
            case agent_events.Publish(topic, payload, retain):
                if self._simulation.survives(self, Boundary.PUBLISH):
                    self._simulation.broker.publish(
                        self.client_id, topic, payload, self._simulation.now, retain=retain
                    )
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


class CoordinatorHost:
    """The coordinator's server: its machine and its journal; its computing takes no virtual time.

    Args:
        simulation: it is part of.
        topics: of the federation.
        founding: the first record.
        new_bits: draws 64 random bits for a new epoch.

    Attributes:
        select: draws the participants of synchronous rounds.
        journal: all that survives a crash.
        keeps_journal: False where nothing will ever be replayed: it holds every update there was.
        observe: told of every record right after it was persisted.
        machine: the coordinator, or None while it is down.
    """

    def __init__(
        self,
        simulation: Simulation,
        topics: Topics,
        founding: EpochStarted,
        new_bits: Callable[[], int],
    ) -> None:
        self.client_id = f"{topics.federation}-{COORDINATOR}"
        self.select: Selector = draw_participants
        self.journal: list[Record] = [founding]
        self.keeps_journal = True
        self.observe: Callable[[Record], None] = lambda _: None
        self.machine: FederationMachine | None = None
        self._simulation = simulation
        self._topics = topics
        self._new_bits = new_bits

    @property
    def is_down(self) -> bool:
        """Whether no coordinator is running on it."""
        return self.machine is None

    def start(self) -> None:
        """Start the coordinator from its journal."""
        now = self._simulation.now
        self.machine = FederationMachine(
            replay(self.journal), self._topics, self._new_bits, now, self.select
        )
        session = SessionSettings(
            self.client_id, self._topics.coordinator_subscriptions(), persistent=True
        )
        self._simulation.hosts[self.client_id] = self
        self._simulation.broker.connect(session, now)

    def crash(self) -> None:
        """Kill the coordinator; only its journal is left.

        Raises:
            RuntimeError: it keeps none.
        """
        if not self.keeps_journal:
            raise RuntimeError("a coordinator that keeps no journal can't come back")
        self.machine = None
        self._simulation.broker.disconnect(self.client_id, self._simulation.now, clean=False)

    def edit(self, definition: bytes) -> None:
        """Put other settings in force, as an operator does with a start.

        Args:
            definition: canonical bytes, of the same structure.
        """
        if self.machine is not None:
            self._carry_out(self.machine.start_epoch(definition, "the settings were edited"))
            self._simulation.watch_timer(self)

    def receive(self, event: BusEvent) -> None:
        """Take in what the broker delivers."""
        match event:
            case Connected(max_payload_bytes):
                self.handle(coordinator_events.BusConnected(max_payload_bytes))
            case Received(topic, payload, token, retained):
                done = self.handle(coordinator_events.MessageArrived(topic, payload, retained))
                if done and self._simulation.survives(self, Boundary.ACKNOWLEDGE):
                    self._simulation.broker.acknowledge(self.client_id, token)

    def next_timer(self) -> float | None:
        """When the coordinator wants to be told that time has passed."""
        return None if self.machine is None else self.machine.next_timer()

    def take_timer(self) -> None:
        """Tell the coordinator that time has passed."""
        self.handle(coordinator_events.TimerDue())

    def handle(self, event: coordinator_events.Event) -> bool:
        """Tell it something and do what it asks for; False if it is down at the end."""
        if self.machine is None:
            return False
        actions = self.machine.handle(event, self._simulation.now)
        if actions:
            self._carry_out(actions)
        self._simulation.watch_timer(self)
        return self.machine is not None

    def _carry_out(self, actions: Sequence[coordinator_events.Action]) -> None:
        if not self._simulation.survives(self, Boundary.PERSIST):
            return
        records = [a.record for a in actions if isinstance(a, coordinator_events.Persist)]
        if self.keeps_journal:
            self.journal += records
        for record in records:
            self.observe(record)
        for action in actions:
            if isinstance(action, coordinator_events.Publish):
                if not self._simulation.survives(self, Boundary.PUBLISH):
                    return
                self._simulation.broker.publish(
                    self.client_id,
                    action.topic,
                    action.payload,
                    self._simulation.now,
                    retain=action.retain,
                )


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
