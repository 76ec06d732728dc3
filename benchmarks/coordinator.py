"""The coordinator: updates per processor second, commits, start from a journal, memory."""

import tempfile
import tracemalloc
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.host import filesystem
from benchmarks.report import Cell, Grid, Report
from benchmarks.timing import interleaved
from benchmarks.traffic import Load, Spent, definition_with, new_journal
from plantfed_coordinator.journal import FILE_NAME, load_state
from plantfed_coordinator.service import COMMIT_AT_MOST
from plantfed_coordinator.state import FederationState
from plantfed_shared.definition import FederationDefinition
from plantfed_shared.store import reading


@dataclass(frozen=True)
class Case:
    """One federation under load.

    Attributes:
        hidden: widths of the two shared layers.
        members: number of agents.
        slices: parts of a run; medians are over them.
        updates: in one slice.
    """

    hidden: tuple[int, int]
    members: int
    slices: int
    updates: int


SMALL = Case((64, 32), members=32, slices=9, updates=200)
LARGE = Case((1000, 946), members=4, slices=4, updates=6)
QUICK_SMALL = Case((64, 32), members=32, slices=5, updates=120)
QUICK_LARGE = Case((1000, 946), members=4, slices=2, updates=4)
START_SAMPLES = 5


def run(*, quick: bool) -> Report:
    """Both sizes; the other questions at the small one."""
    return measure(QUICK_SMALL if quick else SMALL, QUICK_LARGE if quick else LARGE)


def measure(small: Case, large: Case) -> Report:
    """See the module."""
    report = Report("coordinator")
    with new_journal() as (journal, folder):
        load = Load(definition_with(small.hidden), small.members, journal, COMMIT_AT_MOST)
        rows = [_throughput_row(small, _slices(load, small))]
        _measure_start(report, folder)
        _measure_memory(report, folder)
    with new_journal() as (journal, _):
        load = Load(definition_with(large.hidden), large.members, journal, COMMIT_AT_MOST)
        rows.append(_throughput_row(large, _slices(load, large)))
    report.grids.insert(0, Grid("throughput, commits of up to 32 messages", THROUGHPUT, rows))
    report.grids.insert(1, _group_commit(small))
    report.notes.append(
        "the real machines of coordinator and agents, by direct calls; processor time of the "
        "coordinator alone; an update is answered with the next model as a difference; a release "
        "every members/8 arrivals; journal on "
        f"{filesystem(Path(tempfile.gettempdir()))}, synchronous"
    )
    return report


# ---------------------------------------------------------------------- throughput

THROUGHPUT = (
    "shared parameters",
    "members",
    "updates per CPU s",
    "CPU ms: update",
    "CPU ms: commit",
    "journal bytes per update",
)


def _slices(load: Load, case: Case) -> list[Spent]:
    load.run(2 * case.members)  # all have joined
    return [load.run(case.updates) for _ in range(case.slices)]


def _throughput_row(case: Case, slices: Sequence[Spent]) -> list[Cell]:
    def per_update(seconds: Sequence[float]) -> float:
        return median(s / spent.updates for s, spent in zip(seconds, slices, strict=True))

    update = per_update([s.handling for s in slices])
    commit = per_update([s.committing for s in slices])
    return [
        definition_with(case.hidden).lattice().size,
        case.members,
        1 / per_update([s.processor for s in slices]),
        update * 1e3,
        commit * 1e3,
        sum(s.journal_bytes for s in slices) / sum(s.updates for s in slices),
    ]


# ---------------------------------------------------------------------- commits


def _group_commit(case: Case) -> Grid:
    definition = definition_with(case.hidden)
    alone, grouped = _side_by_side(definition, case)
    rows = [
        _commit_row("every message alone", alone),
        _commit_row(f"up to {COMMIT_AT_MOST} messages", grouped),
        (
            "ratio, median over slices",
            median(_commit_ms(a) / _commit_ms(g) for a, g in zip(alone, grouped, strict=True)),
            median(_wall_ms(a) / _wall_ms(g) for a, g in zip(alone, grouped, strict=True)),
        ),
    ]
    columns = ("in one commit", "CPU ms per update", "wall ms per update")
    return Grid("group commit: what writing the journal costs", columns, rows)


def _side_by_side(definition: FederationDefinition, case: Case) -> tuple[list[Spent], list[Spent]]:
    with ExitStack() as stack:
        journals = [stack.enter_context(new_journal())[0] for _ in range(2)]
        loads = [
            Load(definition, case.members, journal, group)
            for journal, group in zip(journals, (1, COMMIT_AT_MOST), strict=True)
        ]
        for load in loads:
            load.run(2 * case.members)
        pairs = [[load.run(case.updates) for load in loads] for _ in range(case.slices)]
    return [alone for alone, _ in pairs], [grouped for _, grouped in pairs]


def _commit_row(name: str, slices: Sequence[Spent]) -> tuple[Cell, ...]:
    return name, median(map(_commit_ms, slices)), median(map(_wall_ms, slices))


def _commit_ms(spent: Spent) -> float:
    return 1e3 * spent.committing / spent.updates


def _wall_ms(spent: Spent) -> float:
    return 1e3 * spent.commit_wall / spent.updates


# ---------------------------------------------------------------------- start and memory


def _measure_start(report: Report, folder: Path) -> None:
    with reading(folder / FILE_NAME) as database:
        costs = interleaved(
            {
                "newest snapshot and what follows": lambda: load_state(database),
                "the whole journal": lambda: load_state(database, from_snapshot=False),
            },
            START_SAMPLES,
        )
        replayed = [_loaded(folder, from_snapshot=flag)[1] for flag in (True, False)]
    rows = [
        (name, records, cost.seconds * 1e3, cost.ratio)
        for (name, cost), records in zip(costs.items(), replayed, strict=True)
    ]
    columns = ("start by reading", "records replayed", "CPU ms", "ratio")
    report.grids.append(Grid("start with the same journal", columns, rows))


def _measure_memory(report: Report, folder: Path) -> None:
    tracemalloc.start()
    state, _ = _loaded(folder, from_snapshot=False)
    parameters, members = state.terms.lattice.size, len(state.members)
    before, _ = tracemalloc.get_traced_memory()
    state.members.clear()
    without_members, _ = tracemalloc.get_traced_memory()
    older = len(state.versions) - 1
    state.versions = {state.k: state.model}
    without_versions, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    per_member = (before - without_members) / members
    per_version = (without_members - without_versions) / max(1, older)
    rows = [
        ("a member", members, per_member / 1e3, per_member / parameters),
        (
            "an older release that a member still has",
            older,
            per_version / 1e3,
            per_version / parameters,
        ),
    ]
    columns = ("memory of", "there were", "KB each", "bytes per parameter")
    report.grids.append(Grid(f"memory at {parameters:,} parameters", columns, rows))


def _loaded(folder: Path, *, from_snapshot: bool) -> tuple[FederationState, int]:
    with reading(folder / FILE_NAME) as database:
        loaded = load_state(database, from_snapshot=from_snapshot)
    if loaded is None:
        raise RuntimeError("the journal is empty")
    return loaded.state, loaded.replayed
