"""What mode ``auto`` sends and fetches against FedAvg, both with the codec of thin links.

Rounds are synchronous, so both have as many updates and releases.  ``whole`` sends changes whole,
entropy coded; ``thin`` sends what ``plantfed demo --thin`` sends, with its algorithm, FedAvg with
the memory of 1 that it bears.  Releases are rounded alike.  FedAvg may come to rest where it knows
less: so bytes are also counted until each first has 99 % of the accuracy that FedAvg ends with.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.learning.accuracy import LONGEST_S, ROUNDS
from benchmarks.learning.federation import Federation, Measurement
from benchmarks.learning.one_setting import UNSEEN
from benchmarks.learning.pool import run_all
from benchmarks.learning.tasks import TASKS, those_here
from benchmarks.report import Cell, Goal, Grid, Report
from plantfed_lab.tennessee_eastman import THIN, THIN_RELEASES
from plantfed_shared.definition import FederationDefinition, Mode, Schedule

AUTO: Mode = "auto"
FEDAVG: Mode = "fedavg"
MESSAGES: dict[str, dict[str, Any]] = {"whole": {}, "thin": THIN["compression"]}
PARTICIPATION = 0.3
LATTICE_BITS = 16
UP, DOWN = 1.0, 1.1
ENOUGH = 0.99


@dataclass(frozen=True, slots=True)
class Job:
    """One run.

    Attributes:
        task: name of the data set.
        data: folder of those that are not shipped.
        seed: of split, start and draws.
        mode: of the federation.
        messages: one of :data:`MESSAGES`.
        rounds: of the run.
    """

    task: str
    data: Path | None
    seed: int
    mode: Mode
    messages: str
    rounds: int


def carry_out(job: Job) -> tuple[Measurement, ...]:
    """Run one federation; how it stood at each release."""
    task = TASKS[job.task](job.seed, job.data)
    schedule = Schedule(
        kind="sync",
        participation=PARTICIPATION,
        min_members=len(task.machines),
        max_releases=job.rounds,
        seed=job.seed,
    )
    document = task.defined(job.mode, schedule, LATTICE_BITS).model_dump()
    document |= {**THIN_RELEASES, "compression": MESSAGES[job.messages]}
    if job.messages == "thin":
        document["algorithm"] |= THIN["algorithm"] if job.mode == AUTO else {"memory": 1.0}
    definition = FederationDefinition.model_validate(document)
    federation = Federation(task, definition, seed=job.seed, as_reference=True)
    course: list[Measurement] = []
    federation.on_release = lambda: course.append(federation.measure())
    if not federation.run(LONGEST_S, lambda: federation.state.final):
        raise RuntimeError(f"{job} stopped after {federation.updates} updates")
    # the last model has yet to reach the machines
    federation.run(60.0)
    return (*course, federation.measure())


def run(*, quick: bool, data: Path | None) -> Report:
    """Both modes on all data sets, on the unseen seeds of ``one-setting``."""
    report = Report("auto-bytes")
    names = those_here(TASKS, data, report.skipped)
    rounds, n_seeds = (3, 1) if quick else (ROUNDS, 12)
    jobs = [
        Job(name, data, seed, mode, messages, rounds)
        for name in names
        for messages in MESSAGES
        for mode in (AUTO, FEDAVG)
        for seed in UNSEEN[name][:n_seeds]
    ]
    found = dict(zip(jobs, run_all("auto-bytes", carry_out, jobs), strict=True))
    rows: list[tuple[Cell, ...]] = []
    for messages in MESSAGES:
        of_all = []
        for name in names:
            pairs = [
                (course, found[_of_fedavg(job)])
                for job, course in found.items()
                if (job.task, job.messages, job.mode) == (name, messages, AUTO)
            ]
            of_all += pairs
            up, down = (mean(_at_end([pair], what) for pair in pairs) for what in BYTES)
            rows.append((messages, name, up, down, *_reached(pairs)))
            if not quick:
                report.goals += _goals(f"{name}, {messages}", up, down)
        up, down = (_at_end(of_all, what) for what in BYTES)
        rows.append((messages, TOGETHER, up, down, "", "", ""))
        if not quick:
            report.goals += _goals(f"{TOGETHER}, {messages}", up, down)
    columns = ["messages", "set", "up", "down", "down until 99 %", "auto ends at", "fedavg ends at"]
    report.grids.append(Grid("bytes of auto by those of fedavg, same rounds", columns, rows))
    if quick:
        report.notes.append("too few rounds to compare anything")
    return report


BYTES = ("bytes_up", "bytes_down")
TOGETHER = "all sets together"
Course = tuple[Measurement, ...]
Pair = tuple[Course, Course]
"""Of auto and of FedAvg."""


def _of_fedavg(job: Job) -> Job:
    return Job(job.task, job.data, job.seed, FEDAVG, job.messages, job.rounds)


def _at_end(pairs: Sequence[Pair], what: str) -> float:
    """Sum over runs by sum over runs."""
    auto, fedavg = (
        sum(getattr(course[-1], what) for course in c) for c in zip(*pairs, strict=True)
    )
    return float(auto / fedavg)


def _reached(pairs: Sequence[Pair]) -> tuple[Cell, ...]:
    """Bytes down until there is enough, and where both end."""
    until = [_until_enough(*pair) for pair in pairs]
    reached = [factor for factor in until if factor is not None]
    soon: Cell = mean(reached) if len(reached) == len(until) else "not reached"
    return soon, *(mean(course[-1].mean for course in each) for each in zip(*pairs, strict=True))


def _goals(what: str, up: float, down: float) -> list[Goal]:
    where = f"{what}: bytes of all machines by FedAvg's"
    return [Goal(f"{where}, up", up, UP, "times"), Goal(f"{where}, down", down, DOWN, "times")]


def _until_enough(auto: Course, fedavg: Course) -> float | None:
    """Bytes down until there is 99 % of what FedAvg ends with; None where auto never has it."""
    enough = ENOUGH * fedavg[-1].mean
    first = [next((m.bytes_down for m in c if m.mean >= enough), None) for c in (auto, fedavg)]
    return None if first[0] is None or first[1] is None else first[0] / first[1]
