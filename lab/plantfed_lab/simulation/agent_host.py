"""A plant's machine: an agent, its disk and its computer."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from plantfed_agent import events as agent_events
from plantfed_agent.budget import LinkLimits
from plantfed_agent.machine import AgentMachine
from plantfed_agent.pace import Pace
from plantfed_agent.rounds import Work
from plantfed_agent.state import AgentState, with_changes
from plantfed_agent.training import TrainingOutcome, TrainingTask
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
from plantfed_shared.topics import Topics
from plantfed_shared.version import software_version

Train = Callable[[TrainingTask], TrainingOutcome]
NO_LIMIT = 10**9
KEPT_LOG_LINES = 200


_WRITES = (
    agent_events.Persist,
    agent_events.KeepPieces,
    agent_events.DropPieces,
    agent_events.KeepArtefact,
)
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
        half: what is half fetched on its disk.
        artefacts: the compiled model on its disk, by digest; nothing else survives.
        copies: artefacts by digest, one for all machines whose disks have it.
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
        self.artefacts: dict[bytes, bytes] = {}
        self.copies: dict[bytes, bytes] = {}
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
            artefacts=frozenset(self.artefacts),
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
            case agent_events.KeepArtefact(digest, encoded):
                self.artefacts = {digest: self.copies.setdefault(digest, encoded)}

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
