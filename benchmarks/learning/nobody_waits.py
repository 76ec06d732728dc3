"""Mode ``auto`` asynchronously, against the same number of updates in synchronous rounds.

Computers have a speed of their own (lognormal, sigma .7) and rounds vary a little.  Three stories:
as it is; one agent is without a link for 200 releases, from a tenth of the run on, and a hundred
updates follow its return; half of the machines are ten times slower.
"""

import random
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from statistics import mean, stdev

from benchmarks.learning.accuracy import LONGEST_S, POINT, ROUNDS
from benchmarks.learning.federation import Computer, Federation
from benchmarks.learning.one_setting import UNSEEN
from benchmarks.learning.pool import run_all
from benchmarks.learning.tasks import TASKS, those_here
from benchmarks.report import Cell, Goal, Grid, Report
from plantfed_shared.definition import Schedule

PARTICIPATION = 0.3
SYNC, USUAL, RETURNS, SLOW = "sync", "async", "one returns", "half are slow"
STORIES = (SYNC, USUAL, RETURNS, SLOW)
SPEED_SIGMA, ROUND_SIGMA, SLOWER = 0.7, 0.2, 10.0
AWAY_RELEASES, AFTER_RETURN = 200, 100
BEHIND = 1.5 * POINT


@dataclass(frozen=True, slots=True)
class Job:
    """One run.

    Attributes:
        task: name of the data set.
        data: folder of those that are not shipped.
        seed: of split, start, computers and draws.
        story: one of :data:`STORIES`.
        rounds: synchronous ones; the others have as many updates.
    """

    task: str
    data: Path | None
    seed: int
    story: str
    rounds: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a run: accuracy over machines, and updates and releases it took."""

    mean: float
    worst: float
    updates: int
    releases: int


def carry_out(job: Job) -> Outcome:
    """Run one federation."""
    task = TASKS[job.task](job.seed, job.data)
    names = list(task.machines)
    wanted = job.rounds * max(1, int(PARTICIPATION * len(names)))
    schedule = Schedule(min_members=len(names), seed=job.seed)
    if job.story == SYNC:
        schedule = Schedule(
            kind="sync",
            participation=PARTICIPATION,
            min_members=len(names),
            max_releases=job.rounds,
            seed=job.seed,
        )
    federation = Federation(
        task,
        task.defined("auto", schedule),
        seed=job.seed,
        computers=_computers(names, job),
        as_reference=job.story == SYNC,
    )
    if job.story == RETURNS:
        wanted = max(wanted, _one_returns(federation, names, job, wanted // 10) + AFTER_RETURN)

    def ended() -> bool:
        return federation.state.final if job.story == SYNC else federation.updates >= wanted

    if not federation.run(LONGEST_S, ended):
        raise RuntimeError(f"{job} stopped after {federation.updates} updates")
    used = federation.measure()
    return Outcome(used.mean, used.worst, federation.updates, federation.state.k)


def _computers(names: list[str], job: Job) -> dict[str, Computer]:
    slow = random.Random(f"{job.seed} slow").sample(names, len(names) // 2)
    factor = {name: SLOWER if job.story == SLOW and name in slow else 1.0 for name in names}
    return {name: _computer(random.Random(f"{job.seed} {name}"), factor[name]) for name in names}


def _computer(chance: random.Random, factor: float) -> Computer:
    typical = factor * chance.lognormvariate(0, SPEED_SIGMA)
    return Computer(lambda: typical * chance.lognormvariate(0, ROUND_SIGMA))


def _one_returns(federation: Federation, names: list[str], job: Job, after: int) -> int:
    """Let one go and come back; returns how many updates there are then."""
    federation.run(LONGEST_S, lambda: federation.updates >= after)
    away = random.Random(f"{job.seed} away").choice(names)
    back_at = federation.state.k + AWAY_RELEASES
    federation.cut(away)
    federation.run(LONGEST_S, lambda: federation.state.k >= back_at)
    federation.mend(away)
    return federation.updates


def run(*, quick: bool, data: Path | None) -> Report:
    """All stories on all data sets."""
    report = Report("nobody-waits")
    names = those_here(TASKS, data, report.skipped)
    rounds, n_seeds = (3, 1) if quick else (ROUNDS, None)
    jobs = [
        Job(name, data, seed, story, rounds)
        for name in names
        for story in STORIES
        for seed in UNSEEN[name][:n_seeds]
    ]
    found = dict(zip(jobs, run_all("nobody-waits", carry_out, jobs), strict=True))
    report.grids += [_levels(names, found), _behind(names, found)]
    if quick:
        report.notes.append("too few rounds to compare anything")
    else:
        report.goals += [
            Goal(f"{name}, {story}: behind sync by", mean(_gaps(found, name, story)), BEHIND, "")
            for story in STORIES
            for name in names
            if story != SYNC
        ]
    return report


def _of(found: dict[Job, Outcome], name: str, story: str) -> dict[int, Outcome]:
    """By seed."""
    return {j.seed: outcome for j, outcome in found.items() if (j.task, j.story) == (name, story)}


def _gaps(found: dict[Job, Outcome], name: str, story: str) -> list[float]:
    """By how much the same seed's synchronous run ends higher."""
    sync = _of(found, name, SYNC)
    return [sync[seed].mean - one.mean for seed, one in _of(found, name, story).items()]


def _levels(names: list[str], found: dict[Job, Outcome]) -> Grid:
    rows: list[tuple[Cell, ...]] = []
    for story in STORIES:
        cells: list[Cell] = [story]
        for name in names:
            each = _of(found, name, story).values()
            cells += [mean(o.mean for o in each), mean(o.worst for o in each)]
            cells.append(mean(o.updates for o in each))
        rows.append(tuple(cells))
    columns = ["story", *(f"{n}{what}" for n in names for what in ("", " worst", " updates"))]
    return Grid("auto, end of run", columns, rows)


def _behind(names: list[str], found: dict[Job, Outcome]) -> Grid:
    rows: list[tuple[Cell, ...]] = []
    for story in STORIES[1:]:
        cells: list[Cell] = [story]
        for name in names:
            gaps = _gaps(found, name, story)
            error = stdev(gaps) / sqrt(len(gaps)) if len(gaps) > 1 else 0.0
            cells += [mean(gaps), error]
        rows.append(tuple(cells))
    columns = ["story", *(f"{name}{what}" for name in names for what in ("", " +-"))]
    return Grid("behind sync by, mean over seeds and its standard error", columns, rows)
