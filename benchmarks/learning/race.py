"""The race: virtual time and bytes until the accuracy of tuned synchronous FedAPM is reached.

Everybody is tuned: the synchronous baseline over learning rate and penalty; every rival over the
learning rate, FedBuff over its server step besides; asynchronous FedAPM over the grid of the
synchronous one, and in a row of its own it runs with what is best for that one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from statistics import mean, median

from benchmarks.learning.contest import (
    HEAVY_TAILS,
    RELAXATION,
    STRONG_SKEW,
    Contender,
    Job,
    Speeds,
    Track,
    best,
    carry_out,
    reached,
    seconds_to,
)
from benchmarks.learning.federation import Measurement
from benchmarks.learning.pool import run_all
from benchmarks.learning.tasks import FILES, is_here
from benchmarks.report import Cell, Goal, Grid, Report
from plantfed_shared.wording import counted

RATES, PENALTIES = (0.05, 0.1, 0.2), (0.05, 0.1, 0.2)
SERVER_STEPS = (1.0, 2.0, 4.0, 6.0, 10.0)
SHARES = (0.6, 0.9)
TARGETS = (0.97, 0.99)
SEEDS = 3
PATIENCE = 1.5
"""A contender may take so many times as long as the baseline."""
QUICK_S = 600.0


@dataclass(frozen=True, slots=True)
class Race:
    """One kind of inequality.

    Attributes:
        speeds: of the computers.
        longest_s: virtual seconds a run of the baseline may take.
        times_sooner: than tuned synchronous FedAPM, that asynchronous FedAPM promises.
    """

    speeds: Speeds
    longest_s: float
    times_sooner: float


RACES = {
    "race-tails": Race(HEAVY_TAILS, 5_000, 2.0),
    "race-skew": Race(STRONG_SKEW, 20_000, 4.0),
}

Tuning = Mapping[Contender, Sequence[Track]]
"""Settings that were tried, and their tracks by seed."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """What everybody is compared with.

    Attributes:
        contender: tuned synchronous FedAPM.
        tracks: of it, by seed.
    """

    contender: Contender
    tracks: Sequence[Track]

    def target(self, seed: int, part: float) -> float:
        """That part of its best accuracy."""
        return part * best(self.tracks[seed])

    def patience_s(self, seed: int) -> float:
        """How long a contender may take, virtual seconds."""
        return PATIENCE * seconds_to(self.tracks[seed], self.target(seed, TARGETS[-1]))


def run(name: str, *, quick: bool, data: Path | None) -> Report:
    """One race, three seeds.

    Args:
        name: of :data:`RACES`.
        quick: one seed, few contenders.
        data: folder with the digits.
    """
    report, race = Report(name), RACES[name]
    if data is None or not is_here("digits", data):
        report.skipped.append(f"{FILES['digits']} is not in a folder given by --data")
        return report
    seeds = range(1 if quick else SEEDS)
    longest_s = QUICK_S if quick else race.longest_s
    job = Job(data, race.speeds, 0, Contender("", "fedapm", None), longest_s)
    baseline = tuned_baseline(report, job, seeds)
    _race(report, race, baseline, data, quick=quick)
    if quick:
        report.goals.clear()
        report.notes.append("one seed, a short run: too little to compare anything")
    report.notes += NOTES
    return report


def tuned_baseline(report: Report, job: Job, seeds: Sequence[int]) -> "Baseline":
    """Run synchronous FedAPM with the whole grid and take the best; adds the table of it.

    Args:
        report: gets the table.
        job: of which seed and contender vary.
        seeds: to run.
    """
    grid = _grid(Contender("lr {lr}, rho {rho}", "fedapm", None), PENALTIES)
    jobs = [replace(job, seed=seed, contender=c) for c in grid for seed in seeds]
    tuning = run_jobs(f"{report.name}: baseline", jobs)
    taken = tuned(tuning, _highest(tuning))
    report.grids.append(_tuning_table(job.speeds.name, tuning, taken))
    return Baseline(taken, tuning[taken])


NOTES = [
    "virtual time; accuracy of the newest release with each machine's head, mean over machines, "
    "smoothed over three measurements 10 s apart; bytes are MQTT packets of both directions; the "
    "target is that part of the best accuracy of tuned synchronous fedapm",
    "all columns are synchronous / asynchronous, median over seeds: more is better; in brackets "
    f"each seed; 0 where it was not reached in {PATIENCE:g} times the synchronous time to 99 %",
    "own lr: the best of .05, .1 and .2 for that row; own rho as well; server steps and shares are "
    "all shown",
]


def _race(report: Report, race: Race, baseline: Baseline, data: Path, *, quick: bool) -> None:
    seeds = range(len(baseline.tracks))
    rows = _contenders(baseline.contender.settings, quick=quick)
    jobs = [
        Job(
            data,
            race.speeds,
            seed,
            contender,
            baseline.patience_s(seed),
            enough=baseline.target(seed, TARGETS[-1]),
        )
        for variants in rows
        for contender in variants
        for seed in seeds
    ]
    tracks = run_jobs(report.name, jobs)
    goals = [baseline.target(seed, TARGETS[-1]) for seed in seeds]
    taken = [tuned({c: tracks[c] for c in variants}, goals) for variants in rows]
    cells = [_row(c, tracks[c], baseline) for c in taken]
    columns = ["asynchronous contender"]
    for target in TARGETS:
        what = ("times sooner", "seeds", "bytes up", "bytes down")
        columns += [f"{target:.0%}: {name}" for name in what]
    title = f"{race.speeds.name}: against synchronous fedapm with {baseline.contender.name}"
    report.grids.append(Grid(f"{title}, {counted(len(seeds), 'seed')}", columns, cells))
    report.goals += _goals(race, pairs_at(tracks[taken[0]], baseline, TARGETS[-1]))


def run_jobs(name: str, jobs: Sequence[Job]) -> dict[Contender, list[Track]]:
    """Tracks by contender and seed."""
    found: dict[Contender, list[Track]] = {}
    for job, track in zip(jobs, run_all(name, carry_out, jobs), strict=True):
        found.setdefault(job.contender, []).append(track)
    return found


# ---------------------------------------------------------------- who takes part


def _grid(contender: Contender, penalties: Sequence[float | None]) -> list[Contender]:
    """A contender with every learning rate and penalty; its name says which."""
    return [
        Contender(
            contender.name.format(lr=rate, rho=penalty),
            contender.mode,
            contender.arrivals,
            (
                *contender.settings,
                ("learning_rate", rate),
                *(() if penalty is None else (("penalty", penalty),)),
            ),
        )
        for rate in RATES
        for penalty in penalties
    ]


def _contenders(same: tuple[tuple[str, float], ...], *, quick: bool) -> list[list[Contender]]:
    """Rows of the table, each with the settings it may choose from; ours is the first."""
    relaxed = (("relaxation", RELAXATION),)
    ours = Contender("fedapm, relaxation 1.6, own lr {lr}, rho {rho}", "fedapm", 1, relaxed)
    name = "fedbuff, server step {step:g}, own lr {{lr}}"
    buffers = [
        Contender(name.format(step=step), "fedbuff", 4, (("server_step", step),))
        for step in SERVER_STEPS
    ]
    if quick:
        return [_grid(ours, PENALTIES)[:1], _grid(buffers[0], [None])[:1]]
    name = "fedasync, share {share:g}, own lr {{lr}}"
    rivals = [
        *buffers,
        *(
            Contender(name.format(share=share), "fedasync", 1, (("server_step", share),))
            for share in SHARES
        ),
        Contender("fedalt, own lr {lr}", "fedalt", 4),
        Contender("fedsim, own lr {lr}", "fedsim", 4),
    ]
    return [
        _grid(ours, PENALTIES),
        [Contender("fedapm, relaxation 1.6, synchronous lr, rho", "fedapm", 1, (*same, *relaxed))],
        [Contender("the same, relaxation 1", "fedapm", 1, same)],
        [Contender("the same, relaxation 1.6, 4 arrivals", "fedapm", 4, (*same, *relaxed))],
        *(_grid(rival, [None]) for rival in rivals),
    ]


def tuned(tuning: Tuning, goals: Sequence[float]) -> Contender:
    """Who reaches an accuracy soonest, in the median over seeds.

    Args:
        tuning: what was tried.
        goals: accuracy for each seed.
    """

    def order(contender: Contender) -> tuple[float, float, float]:
        own = tuning[contender]
        times = [seconds_to(track, goal) for track, goal in zip(own, goals, strict=True)]
        return median(times), sum(times), -mean(map(best, own))

    return min(tuning, key=order)


def _highest(tuning: Tuning) -> list[float]:
    """By seed, 99 % of the best accuracy of all that was tried."""
    return [TARGETS[-1] * max(map(best, each)) for each in zip(*tuning.values(), strict=True)]


# ---------------------------------------------------------------- tables

Pair = tuple[Measurement | None, Measurement | None]
"""(baseline, contender) at a target."""


def pairs_at(own: Sequence[Track], baseline: Baseline, part: float) -> list[Pair]:
    """By seed, where baseline and contender reach that part of the baseline's best accuracy."""
    goals = [baseline.target(seed, part) for seed in range(len(own))]
    return [
        (reached(theirs, goal), reached(track, goal))
        for theirs, track, goal in zip(baseline.tracks, own, goals, strict=True)
    ]


def _row(contender: Contender, own: Sequence[Track], baseline: Baseline) -> tuple[Cell, ...]:
    cells: list[Cell] = [contender.name]
    for part in TARGETS:
        cells += _ratio_cells(pairs_at(own, baseline, part))
    return tuple(cells)


def _ratio_cells(pairs: Sequence[Pair]) -> list[Cell]:
    """Median of the ratios baseline / contender; a seed that never arrives counts as 0."""
    arrived = sum(b is not None and c is not None for b, c in pairs)
    share = f"{arrived}/{len(pairs)}"
    if not arrived:
        return ["never", share, "-", "-"]
    ratios: list[Callable[[Measurement], float]] = [
        lambda m: m.seconds,
        lambda m: m.bytes_up,
        lambda m: m.bytes_down,
    ]
    sooner, up, down = (
        [0.0 if b is None or c is None else of(b) / of(c) for b, c in pairs] for of in ratios
    )
    each = ", ".join(f"{ratio:.2g}" for ratio in sooner)
    return [f"{median(sooner):.2f} ({each})", share, median(up), median(down)]


def _goals(race: Race, pairs: Sequence[Pair]) -> list[Goal]:
    part = [inf if b is None or c is None else c.seconds / b.seconds for b, c in pairs]
    what = f"{race.speeds.name}: time of asynchronous fedapm to 99 %"
    return [
        Goal(f"{what}, median", median(part), 1 / race.times_sooner, "of synchronous"),
        Goal(f"{what}, slowest seed", max(part), 1.0, "of synchronous"),
    ]


def _tuning_table(speeds: str, tuning: Tuning, taken: Contender) -> Grid:
    goals = _highest(tuning)
    rows: list[tuple[Cell, ...]] = []
    for contender, own in tuning.items():
        times = [seconds_to(track, goal) for track, goal in zip(own, goals, strict=True)]
        rows.append(
            (
                contender.name + (" (taken)" if contender == taken else ""),
                mean(map(best, own)),
                ", ".join("never" if t == inf else f"{t:.0f}" for t in times),
            )
        )
    columns = ("synchronous fedapm", "best accuracy", "s to 99 % of the grid's best, by seed")
    return Grid(f"{speeds}: tuning of the baseline", columns, rows)
