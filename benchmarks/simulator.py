"""The simulator: agent updates per processor second with training switched off."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.report import Cell, Goal, Grid, Report
from benchmarks.timing import processor_time
from plantfed_lab.simulation.build import Federation, build
from plantfed_lab.simulation.scenario import load_scenario
from plantfed_shared.codec import Coding

SCENARIO = """
[scenario]
name = "bench"
updates = 1

[data]
kind = "none"

[federation]
compression = {{ coding = "{coding}" }}

[machines]
count = {machines}
max_rounds_without_new_rows = "no limit"
compute_s = {{ kind = "lognormal", median = 30, sigma = 0.6 }}
slowdown = {{ kind = "uniform", low = 0.8, high = 1.2 }}
"""
LONGEST_S = 1e9
GOAL_PER_CPU_S = 1000
MS = 1000.0


@dataclass(frozen=True)
class Case:
    """One federation.

    Attributes:
        machines: in it.
        slices: parts of the run.
        updates: in one slice.
        coding: of all numbers; entropy coding costs more than all the rest.
    """

    machines: int
    slices: int
    updates: int
    coding: str = Coding.PLAIN


FULL = (Case(20, 20, 250), Case(1000, 20, 250), Case(20, 20, 50, Coding.ENTROPY))
QUICK = (Case(20, 6, 100), Case(1000, 6, 100), Case(20, 6, 20, Coding.ENTROPY))


def run(*, quick: bool) -> Report:
    """Both sizes of federation."""
    return measure(QUICK if quick else FULL)


def measure(cases: tuple[Case, ...]) -> Report:
    """See the module."""
    report = Report("simulator")
    rows: list[tuple[Cell, ...]] = []
    for case in cases:
        federation = _warm(case)
        slices = sorted(_seconds_per_update(federation, case) for _ in range(case.slices))
        speeds = (1 / slices[0], 1 / median(slices), 1 / slices[-1])
        rows.append((case.machines, str(case.coding), *speeds))
        if case.coding == Coding.PLAIN:
            what = f"processor time of an update among {case.machines:,} machines, plain"
            report.goals.append(Goal(what, MS * slices[0], MS / GOAL_PER_CPU_S, "ms"))
    columns = (
        "machines",
        "coding",
        "updates per CPU s, best slice",
        "median slice",
        "worst slice",
    )
    report.grids.append(Grid("simulated updates, training off, 5,472 numbers each", columns, rows))
    report.notes.append(
        "agents, coordinator, broker and clock together; asynchronous, a release for every "
        "machines/8 arrivals; the goal is about the best slice, since whatever "
        "else runs on this computer slows the others"
    )
    return report


def _warm(case: Case) -> Federation:
    """A federation in which everybody has joined and answered once or twice."""
    with tempfile.TemporaryDirectory(prefix="plantfed-bench-") as folder:
        path = Path(folder) / "bench.toml"
        text = SCENARIO.format(machines=case.machines, coding=case.coding)
        path.write_text(text, encoding="utf-8")
        federation = build(load_scenario(str(path)), seed=0)
    _advance(federation, 2 * case.machines)
    return federation


def _seconds_per_update(federation: Federation, case: Case) -> float:
    before = federation.recorder.updates
    seconds = processor_time(lambda: _advance(federation, case.updates))
    return seconds / (federation.recorder.updates - before)


def _advance(federation: Federation, updates: int) -> None:
    wanted = federation.recorder.updates + updates
    federation.simulation.run(LONGEST_S, until=lambda: federation.recorder.updates >= wanted)
