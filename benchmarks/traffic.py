"""A coordinator's machine and journal under load: the real agents' machines drive it by calls.

There is no broker and no training: an agent's round is a random change.  Only what the coordinator
does is timed.
"""

import tempfile
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from time import perf_counter, process_time, time

import numpy as np

from plantfed_agent import events as agent_events
from plantfed_agent.machine import AgentMachine
from plantfed_agent.pace import Pace
from plantfed_agent.state import AgentState
from plantfed_agent.training import TrainingOutcome, TrainingTask
from plantfed_coordinator.events import (
    Action,
    BusConnected,
    MessageArrived,
    Persist,
    Publish,
    TimerDue,
)
from plantfed_coordinator.founding import found_or_continue
from plantfed_coordinator.journal import Journal
from plantfed_coordinator.records import Applied
from plantfed_shared.bus.port import MAX_MESSAGE_BYTES
from plantfed_shared.definition import DenseModel, FederationDefinition, Input, Loss
from plantfed_shared.topics import EVERYBODY, Topics

FEDERATION = "load"
CHANGE_SCALE = 0.005
TICK_S = 1e-5
MOST_WAITS = 100
ENOUGH_ROUNDS = 10**9
N_INPUTS = 52
N_CLASSES = 22


@dataclass
class Spent:
    """Where the coordinator's time has gone; processor seconds unless said otherwise.

    Attributes:
        updates: applied.
        handling: messages; that of an update is answered with the next model.
        committing: writing the journal and its snapshots.
        commit_wall: the same in seconds on the wall.
        journal_bytes: of changes in the journal.
    """

    updates: int = 0
    handling: float = 0.0
    committing: float = 0.0
    commit_wall: float = 0.0
    journal_bytes: int = 0

    def __sub__(self, before: "Spent") -> "Spent":
        return Spent(*(getattr(self, f.name) - getattr(before, f.name) for f in fields(self)))

    @property
    def processor(self) -> float:
        """All processor seconds."""
        return self.handling + self.committing


class Load:
    """A coordinator with agents that train as often as the protocol lets them.

    Args:
        definition: of the federation.
        members: number of agents.
        journal: a new one.
        group: messages in one commit.
    """

    def __init__(
        self, definition: FederationDefinition, members: int, journal: Journal, group: int
    ) -> None:
        self.spent = Spent()
        self.journal = journal
        self._group = group
        self._topics = Topics(definition.federation)
        self._now = 0.0
        self._rng = np.random.default_rng(0)
        self._machine = found_or_continue(journal, definition, self._topics, lambda: 1, 0.0, "load")
        specification = definition.parameter_specification()
        self._head = np.zeros(sum(p.size for p in specification.personal), dtype=np.float32)
        self._inbox: deque[agent_events.Publish] = deque()
        self._lanes: dict[str, dict[str, None]] = defaultdict(dict)
        pace = [Pace(max_rounds_without_new_rows=ENOUGH_ROUNDS) for _ in range(members)]
        self._agents = {
            f"m{i:03d}": AgentMachine(f"m{i:03d}", self._topics, AgentState(), pace[i], "load")
            for i in range(members)
        }
        self._carry_out(self._machine.handle(BusConnected(MAX_MESSAGE_BYTES), self._now))
        for name in self._agents:
            self._tell(name, agent_events.BusConnected(MAX_MESSAGE_BYTES))

    def run(self, updates: int) -> Spent:
        """Go on for so many more updates; returns what they have cost."""
        before = Spent(*(getattr(self.spent, f.name) for f in fields(Spent)))
        while self.spent.updates < before.updates + updates:
            if not self._inbox:
                self._wait()
                continue
            size = min(self._group, len(self._inbox))
            self._step([self._inbox.popleft() for _ in range(size)])
        return self.spent - before

    def _wait(self) -> None:
        """Let time pass until the coordinator has something to say: it gathers equal requests."""
        for _ in range(MOST_WAITS):
            self._now = max(self._now, self._machine.next_timer())
            begin = process_time()
            actions = self._machine.handle(TimerDue(), self._now)
            self.spent.handling += process_time() - begin
            self._commit(actions)
            self._carry_out(actions)
            if self._inbox:
                return
        raise RuntimeError("nobody has anything to say")

    def _step(self, messages: Sequence[agent_events.Publish]) -> None:
        actions: list[Action] = []
        for message in messages:
            self._now += TICK_S
            begin = process_time()
            arrived = MessageArrived(message.topic, message.payload)
            actions += self._machine.handle(arrived, self._now)
            self.spent.handling += process_time() - begin
        self._commit(actions)
        self._carry_out(actions)

    def _commit(self, actions: Sequence[Action]) -> None:
        records = [action.record for action in actions if isinstance(action, Persist)]
        begin, begin_wall = process_time(), perf_counter()
        if records:
            self.journal.append(records, {})
        self.journal.work(self._machine.state)
        self.spent.committing += process_time() - begin
        self.spent.commit_wall += perf_counter() - begin_wall
        changes = [record.change for record in records if isinstance(record, Applied)]
        self.spent.updates += len(changes)
        self.spent.journal_bytes += sum(map(len, changes))

    def _carry_out(self, actions: Sequence[Action]) -> None:
        for action in actions:
            if isinstance(action, Publish):
                to = self._topics.parse(action.topic).agent
                arrived = agent_events.MessageArrived(action.topic, action.payload)
                everybody = self._lanes.get(action.topic, self._agents)
                for name in list(everybody) if to == EVERYBODY else (to,):
                    self._tell(name, arrived)

    def _tell(self, name: str, event: agent_events.Event) -> None:
        waiting = deque([event])
        while waiting:
            for action in self._agents[name].handle(waiting.popleft(), self._now):
                match action:
                    case agent_events.Publish():
                        self._inbox.append(action)
                    case agent_events.Listen(topic):
                        self._lanes[topic][name] = None
                        waiting.append(agent_events.LaneAnswered(topic, allowed=True))
                    case agent_events.StopListening(topic):
                        self._lanes[topic].pop(name, None)
                    case agent_events.Train(ticket, task):
                        waiting.append(agent_events.RoundDone(ticket, self._outcome(task)))

    def _outcome(self, task: TrainingTask) -> TrainingOutcome:
        noise = self._rng.standard_normal(task.base.size, dtype=np.float32)
        shared = task.base + np.float32(CHANGE_SCALE) * noise
        return TrainingOutcome(shared, self._head, 0.5, 0.5, 100, "rows", 0.0)


def definition_with(hidden: tuple[int, int]) -> FederationDefinition:
    """A federation like the Tennessee Eastman one with other layers; the last is personal."""
    return FederationDefinition(
        federation=FEDERATION,
        model=DenseModel(hidden=hidden),
        loss=Loss(kind="cross-entropy"),
        personal=("layer3.*",),
        inputs=tuple(Input(name=f"x{i}") for i in range(N_INPUTS)),
        classes=tuple(f"class {i}" for i in range(N_CLASSES)),
    )


@contextmanager
def new_journal() -> Iterator[tuple[Journal, Path]]:
    """A journal in a folder of its own, which goes with it."""
    with tempfile.TemporaryDirectory(prefix="plantfed-bench-") as folder:
        journal = Journal(Path(folder), time)
        try:
            yield journal, Path(folder)
        finally:
            journal.close()
