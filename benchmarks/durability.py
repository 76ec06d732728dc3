"""What it costs to lose nothing: commits that reach the disk, replay, a start after a crash."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import numpy as np

from benchmarks.host import ROOT, filesystem
from benchmarks.report import Goal, Grid, Report
from benchmarks.traffic import definition_with, new_journal
from plantfed_coordinator.events import MessageArrived, Persist
from plantfed_coordinator.journal import FILE_NAME, Journal, replay
from plantfed_coordinator.machine import FederationMachine
from plantfed_coordinator.records import Applied, EpochStarted, Joined, Released
from plantfed_coordinator.service import COMMIT_AT_MOST
from plantfed_coordinator.state import FederationState
from plantfed_shared import wire
from plantfed_shared.codec import Coding, encode_integers
from plantfed_shared.definition import FederationDefinition
from plantfed_shared.lattice import Integers, checksum, upper_half
from plantfed_shared.messages import Epoch, Hello, ModelName, Update
from plantfed_shared.store import reading
from plantfed_shared.topics import Kind, Topics

CHANGE_SCALE = 20
"""Standard deviation of a change, in steps: about 6.4 bits a number."""
EPOCH = Epoch(1, 5)
RECOVERY = """
import sys, time
from pathlib import Path
from plantfed_coordinator.journal import Journal

def peak_bytes():
    # of this program alone; what getrusage says begins with its parent's
    (line,) = (x for x in open("/proc/self/status") if x.startswith("VmHWM"))
    return 1024 * int(line.split()[1])

before = peak_bytes()
begin, begin_cpu = time.perf_counter(), time.process_time()
journal = Journal(Path(sys.argv[1]), time.time)
state = journal.load()
wall, cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
rows = sum(m.contribution.z.nbytes + m.contribution.dual.nbytes for m in state.members.values())
print(wall, cpu, peak_bytes() - before - rows, rows, len(state.members), state.updates)
journal.close()
"""

HIDDEN_OF_10_KB = {Coding.PLAIN: (40, 11), Coding.ENTROPY: (104, 68)}
"""Widths of the two shared layers of a federation with dense updates so long."""


@dataclass(frozen=True)
class Case:
    """How much of everything.

    Attributes:
        members: of the federations whose updates of 10 KB are taken in.
        slices: medians are over them.
        updates: in one slice.
        replayed: updates in the journal that is replayed.
        large_hidden: of the federation that is recovered and replayed.
        large_members: of it.
        tail: updates behind the snapshot it is recovered from.
    """

    members: int
    slices: int
    updates: int
    replayed: int
    large_hidden: tuple[int, int]
    large_members: int
    tail: int


FULL = Case(32, 9, 256, 200, (400, 195), 1000, 1000)
QUICK = Case(32, 5, 128, 60, (400, 195), 100, 100)


def run(*, quick: bool) -> Report:
    """All three questions."""
    return measure(QUICK if quick else FULL)


def measure(case: Case) -> Report:
    """See the module."""
    report = Report("durability")
    for coding in HIDDEN_OF_10_KB:
        _measure_ingest(report, case, coding)
    _measure_replay(report, case)
    _measure_recovery(report, case)
    report.notes.append(
        f"journal on {filesystem(Path(tempfile.gettempdir()))}; ingest: wall time;"
        " replay and recovery: processor time, as others may use the machine; a GB is of decoded"
        " int64 numbers"
    )
    return report


# ---------------------------------------------------------------------- ingest


class Ingest:
    """Updates as they come from the bus, through machine and journal; what is answered is dropped.

    Args:
        definition: of the federation.
        members: number of agents.
        journal: a new one.
        group: updates in one commit.
    """

    def __init__(
        self, definition: FederationDefinition, members: int, journal: Journal, group: int
    ) -> None:
        first = EpochStarted(EPOCH, 0, definition.to_bytes(), "created")
        self._journal = journal
        self._group = group
        self._topics = Topics(definition.federation)
        self._machine = FederationMachine(FederationState.begin(first), self._topics, lambda: 1, 0)
        self._now = 0.0
        journal.append([first], {})
        hello = wire.encode(
            Hello(
                epoch=None,
                incarnation=0,
                applied_seq=0,
                outstanding=None,
                dual_checksum=0,
                newest=None,
                software="load",
                proof=None,
            )
        )
        self.take([(self._topics.up(f"m{i}", Kind.HELLO), hello) for i in range(members)])

    def take(self, messages: Sequence[tuple[str, bytes]]) -> float:
        """Handle and commit; returns seconds on the wall."""
        begin = perf_counter()
        for start in range(0, len(messages), self._group):
            records = []
            for topic, payload in messages[start : start + self._group]:
                self._now += 1e-5
                actions = self._machine.handle(MessageArrived(topic, payload), self._now)
                records += [action.record for action in actions if isinstance(action, Persist)]
            self._journal.append(records, {})
            self._journal.work(self._machine.state)
        return perf_counter() - begin

    @property
    def updates(self) -> int:
        """Applied so far."""
        return self._machine.state.updates


class Senders:
    """Agents that send valid updates; each trains on the first model for ever.

    Args:
        definition: of the federation.
        members: number of agents.
        coding: of the changes.
    """

    def __init__(self, definition: FederationDefinition, members: int, coding: Coding) -> None:
        self._coding = coding
        first = EpochStarted(EPOCH, 0, definition.to_bytes(), "created")
        state = FederationState.begin(first)
        self._terms = state.terms
        self._base = ModelName(EPOCH, 0, checksum(state.model))
        self._duals = [np.zeros_like(state.model) for _ in range(members)]
        self._topics = Topics(definition.federation)
        self._rng = np.random.default_rng(0)
        self._sent = 0
        self.bytes = 0

    def messages(self, count: int) -> list[tuple[str, bytes]]:
        """The next so many, of all in turn."""
        return [self._next() for _ in range(count)]

    def _next(self) -> tuple[str, bytes]:
        agent, seq = self._sent % len(self._duals), self._sent // len(self._duals) + 1
        self._sent += 1
        lattice = self._terms.lattice
        change = random_change(lattice.size, self._rng)
        self._duals[agent] = self._duals[agent] + lattice.relaxed(change)
        update = Update(
            base=self._base,
            incarnation=1,
            seq=seq,
            weight=1,
            definition=self._terms.digest[:8],
            dual_check=upper_half(checksum(self._duals[agent])),
            score=0.5,
            want=0,
            others=0,
        )
        tail = encode_integers(change, lattice, self._coding)
        self.bytes += len(tail)
        return self._topics.up(f"m{agent}", Kind.UPDATE), wire.encode(update, tail)


def random_change(size: int, rng: np.random.Generator) -> Integers:
    """A dense change, codec steps."""
    return np.rint(rng.standard_normal(size) * CHANGE_SCALE).astype(np.int64)


def _measure_ingest(report: Report, case: Case, coding: Coding) -> None:
    definition = definition_with(HIDDEN_OF_10_KB[coding])
    senders = Senders(definition, case.members, coding)
    with ExitStack() as stack:
        durable, unsynced, alone = (stack.enter_context(new_journal())[0] for _ in range(3))
        # what the product never does
        unsynced._database.execute("PRAGMA synchronous = OFF")
        pipelines = {
            f"up to {COMMIT_AT_MOST} updates in a commit, synced": (durable, COMMIT_AT_MOST),
            "the same, not synced": (unsynced, COMMIT_AT_MOST),
            "every update in a commit of its own, synced": (alone, 1),
        }
        ingests = {
            name: Ingest(definition, case.members, journal, group)
            for name, (journal, group) in pipelines.items()
        }
        taken: dict[str, list[float]] = {name: [] for name in ingests}
        for number in range(case.slices + 1):
            messages = senders.messages(case.updates)
            for name, ingest in ingests.items():
                seconds = ingest.take(messages)
                if number:  # the first one fills caches
                    taken[name].append(seconds)
        sent = (case.slices + 1) * case.updates
        if any(ingest.updates != sent for ingest in ingests.values()):
            raise RuntimeError("updates were refused")
    synced, fast, single = taken.values()
    of_fast = median(f / s for f, s in zip(fast, synced, strict=True))
    of_single = median(a / s for a, s in zip(single, synced, strict=True))
    rows = [(name, case.updates / median(times)) for name, times in taken.items()]
    rows += [("ratio to the same, not synced; median over slices", of_fast)]
    rows += [("ratio to every update alone; the same", of_single)]
    size = f"{senders.bytes / sent / 1e3:.1f} KB, {definition.lattice().size:,} numbers"
    title = f"ingest of {coding} updates of {size}: decode, check, apply, journal"
    report.grids.append(Grid(title, ("commits", "updates per s"), rows))
    what = f"{coding}: rate without fsync over durable ingest"
    report.goals.append(Goal(what, 1 / of_fast, 1 / 0.4, "times"))
    if coding == Coding.PLAIN:  # else it is decoding that takes the time
        what = "plain: durable ingest's time over that of a commit per update"
        report.goals.append(Goal(what, 1 / of_single, 1 / 10, "times"))


# ---------------------------------------------------------------------- replay


def _measure_replay(report: Report, case: Case) -> None:
    definition = definition_with(case.large_hidden)
    rows = []
    kinds = (
        ("dense, plain", 1.0, Coding.PLAIN),
        ("dense, entropy", 1.0, Coding.ENTROPY),
        ("1 % of the numbers, entropy", 0.01, Coding.ENTROPY),
    )
    for name, density, coding in kinds:
        with new_journal() as (journal, folder):
            content = _fill(journal, definition, case.replayed, density, coding)
            begin = process_time()
            with reading(folder / FILE_NAME) as database, database.moment():
                updates = [step.state.updates for step in replay(database, 0)][-1]
            seconds = process_time() - begin
        decoded = updates * definition.lattice().size * 8
        rows.append(
            (name, updates, content / updates / 1e3, updates / seconds, decoded / seconds / 1e9)
        )
    columns = ("updates", "replayed", "KB each", "per CPU s", "GB/s decoded")
    title = f"replay of updates of {definition.lattice().size:,} numbers"
    report.grids.append(Grid(title, columns, rows))
    report.goals.append(
        Goal("time to replay a GB of dense plain updates", 1 / rows[0][-1], 1 / 0.8, "s")
    )


def _fill(
    journal: Journal, definition: FederationDefinition, updates: int, density: float, coding: Coding
) -> int:
    """Members that update in turn, a release for every eight; returns the bytes of the changes."""
    rng = np.random.default_rng(0)
    first = EpochStarted(EPOCH, 0, definition.to_bytes(), "created")
    state = FederationState.begin(first)
    joined = [Joined(f"m{i}", 1) for i in range(8)]
    for record in joined:
        state.apply(record)
    journal.append([first, *joined], {})
    content = 0
    for number in range(updates):
        change = random_change(state.model.size, rng)
        change[rng.random(change.size) >= density] = 0
        encoded = encode_integers(change, state.terms.lattice, coding)
        content += len(encoded)
        agent = f"m{number % 8}"
        applied = Applied(agent, 1, number // 8 + 1, number, state.k, 1, None, encoded)
        state.apply(applied)
        records: list[Applied | Released] = [applied]
        if number % 8 == 7:
            records.append(Released(state.k + 1, checksum(state.next_model())))
            state.apply(records[-1])
        journal.append(records, {})
    return content


# ---------------------------------------------------------------------- recovery


def _measure_recovery(report: Report, case: Case) -> None:
    definition = definition_with(case.large_hidden)
    with _large_journal(definition, case) as folder:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", RECOVERY, str(folder)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env=environment, cwd=ROOT
        )
        disk = sum(path.stat().st_size for path in folder.iterdir())
    wall, seconds, beyond, rows, members, updates = map(float, done.stdout.split())
    if (members, updates) != (case.large_members, case.tail):
        raise RuntimeError("another federation was recovered")
    columns = (
        "members",
        "numbers each",
        "updates replayed",
        "CPU s",
        "wall s",
        "MB of rows",
        "MB beyond",
        "MB on disk",
    )
    numbers = definition.lattice().size
    counts = case.large_members, numbers, case.tail
    cells = (*counts, seconds, wall, rows / 1e6, beyond / 1e6, disk / 1e6)
    report.grids.append(Grid("start from a snapshot and what follows it", columns, [cells]))
    report.goals.append(Goal("recovery", seconds, 10.0, "CPU s"))
    report.goals.append(Goal("memory beyond the members' rows", beyond / 1e6, 150.0, "MB"))


@contextmanager
def _large_journal(definition: FederationDefinition, case: Case) -> Iterator[Path]:
    """A snapshot of all members, and updates of different ones behind it."""
    rng = np.random.default_rng(0)
    with new_journal() as (journal, folder):
        first = EpochStarted(EPOCH, 0, definition.to_bytes(), "created")
        state = FederationState.begin(first)
        joined = [Joined(f"m{i}", 1) for i in range(case.large_members)]
        for record in joined:
            state.apply(record)
        journal.append([first, *joined], {})
        # one is not due yet
        journal._snapshots.begin(state, journal._last_id)
        while journal.has_work:
            journal.work(state)
        for number in range(case.tail):
            agent, seq = number % case.large_members, number // case.large_members + 1
            change = random_change(state.model.size, rng)
            encoded = encode_integers(change, state.terms.lattice, Coding.ENTROPY)
            journal.append([Applied(f"m{agent}", 1, seq, number, 0, 1, None, encoded)], {})
        journal.close()
        yield folder
