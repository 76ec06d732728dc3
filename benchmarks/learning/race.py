"""The race: virtual time and bytes until the accuracy of tuned synchronous FedAPM is reached.

The task is `digits`.  A computer has a speed of its own (lognormal), every round takes a heavy-
tailed time (Pareto), links have 64 to 256 kbit/s; the same for all contenders of a seed.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, inf, log
from pathlib import Path
from statistics import median

from benchmarks.learning.federation import Computer, Federation, Measurement
from benchmarks.learning.pool import run_all
from benchmarks.learning.tasks import FILES, Task, digits, is_here
from benchmarks.report import Cell, Goal, Grid, Report
from plantfed_lab.simulation.links import LinkQuality
from plantfed_shared.definition import Mode, Schedule
from plantfed_shared.wording import counted

MEASURE_EVERY_S = 10.0
LATENCY_S = 0.05
SLOWEST_LINK, FASTEST_LINK = 64e3, 256e3
TYPICAL_ROUND_S = 5.0
LONGEST_TAIL = 60.0
STEADY_PART = 0.7
"""Of a round's time; the rest has the tail."""
RATES, PENALTIES = (0.05, 0.1, 0.2), (0.05, 0.1, 0.2)
RELAXATION = 51 / 32
"""1.6 as a number the lattice can hold."""
TARGETS = (0.97, 0.99)
SEEDS = 3


@dataclass(frozen=True, slots=True)
class Speeds:
    """How unequal the computers are.

    Attributes:
        name: for the table.
        sigma: of the lognormal speed of a machine.
        tail: shape of the Pareto of a round.
        horizon_s: virtual seconds a run may take.
        times_sooner: than tuned synchronous FedAPM, that asynchronous FedAPM promises.
    """

    name: str
    sigma: float
    tail: float
    horizon_s: float
    times_sooner: float


HEAVY_TAILS = Speeds("heavy tails", 0.6, 1.5, 5_000, 2.0)
STRONG_SKEW = Speeds("strong skew", 1.6, 1.2, 20_000, 4.0)


@dataclass(frozen=True, slots=True)
class Contender:
    """What takes part in the race.

    Attributes:
        name: for the table.
        mode: of the federation.
        arrivals: per release; None for synchronous rounds of all machines.
        settings: of the algorithm.
    """

    name: str
    mode: Mode
    arrivals: int | None
    settings: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """One run.

    Attributes:
        data: folder with the digits.
        speeds: of the computers.
        seed: of split, start, computers and links.
        contender: who runs.
        enough: it ends when the smoothed mean accuracy has reached this.
    """

    data: Path
    speeds: Speeds
    seed: int
    contender: Contender
    enough: float = inf


Track = list[Measurement]
"""A measurement every 10 virtual seconds."""


def carry_out(job: Job) -> Track:
    """Let one contender run."""
    task = digits(job.seed, job.data)
    everybody, horizon_s = len(task.machines), job.speeds.horizon_s
    if job.contender.arrivals is None:
        schedule = Schedule(
            kind="sync", participation=1.0, min_members=everybody, deadline_s=10 * horizon_s
        )
    else:
        schedule = Schedule(
            arrivals=job.contender.arrivals, min_members=everybody, release_after_s=10 * horizon_s
        )
    definition = task.defined(
        job.contender.mode, schedule, lattice_bits=16, **dict(job.contender.settings)
    )
    federation = Federation(
        task, definition, seed=job.seed, computers=computers(task, job.speeds, job.seed)
    )
    found: Track = []
    while federation.seconds < horizon_s:
        federation.run(MEASURE_EVERY_S)
        found.append(federation.measure())
        if len(found) >= 3 and smoothed(found)[-2] >= job.enough:
            break
    return found


def computers(task: Task, speeds: Speeds, seed: int) -> dict[str, Computer]:
    """The computers and links of one seed; the same for all contenders."""
    return {name: _computer(speeds, random.Random(f"{seed} {name}")) for name in task.machines}


def _computer(speeds: Speeds, chance: random.Random) -> Computer:
    typical = TYPICAL_ROUND_S * chance.lognormvariate(0, speeds.sigma)
    rate = exp(chance.uniform(log(SLOWEST_LINK), log(FASTEST_LINK)))

    def compute_s() -> float:
        tail = min(chance.paretovariate(speeds.tail), LONGEST_TAIL)
        return typical * (STEADY_PART + (1 - STEADY_PART) * tail)

    return Computer(compute_s, LinkQuality(rate, rate, LATENCY_S))


# ---------------------------------------------------------------- reading a track


def smoothed(track: Track) -> list[float]:
    """Mean accuracy of each measurement and its two neighbours; the ends as they are."""
    means = [m.mean for m in track]
    inner = [sum(means[i - 1 : i + 2]) / 3 for i in range(1, len(means) - 1)]
    return [*means[:1], *inner, *means[1:][-1:]]


def reached(track: Track, accuracy: float) -> Measurement | None:
    """The first measurement with this smoothed mean accuracy."""
    levels = smoothed(track)[:-1]
    return next((m for m, level in zip(track, levels, strict=False) if level >= accuracy), None)


def best(track: Track) -> float:
    """The highest smoothed mean accuracy."""
    return max(smoothed(track)[:-1])


# ---------------------------------------------------------------- the race


def tuned(tracks: Mapping[Contender, Sequence[Track]]) -> Contender:
    """Who reaches 99 % of the best accuracy of all soonest, in the median over seeds."""
    n_seeds = len(next(iter(tracks.values())))
    highest = [max(best(each[seed]) for each in tracks.values()) for seed in range(n_seeds)]

    def seconds(contender: Contender) -> tuple[float, float]:
        times = [
            _seconds(reached(track, TARGETS[-1] * top))
            for track, top in zip(tracks[contender], highest, strict=True)
        ]
        return median(times), sum(times)

    return min(tracks, key=seconds)


def _seconds(found: Measurement | None) -> float:
    return inf if found is None else found.seconds


def _grid() -> list[Contender]:
    return [
        Contender(
            f"lr {rate}, rho {penalty}",
            "fedapm",
            None,
            (("learning_rate", rate), ("penalty", penalty)),
        )
        for rate in RATES
        for penalty in PENALTIES
    ]


def _asynchronous(baseline: Contender, *, quick: bool) -> list[Contender]:
    same = baseline.settings
    ours = Contender("fedapm, relaxation 1.6", "fedapm", 1, (*same, ("relaxation", RELAXATION)))
    steps = (1.0,) if quick else (1.0, 2.0, 4.0, 6.0, 10.0)
    buffers = [
        Contender(f"fedbuff, server step {s:g}", "fedbuff", 4, (*same, ("server_step", s)))
        for s in steps
    ]
    if quick:
        return [ours, *buffers]
    return [
        ours,
        Contender("fedapm", "fedapm", 1, same),
        replace(ours, name="fedapm, relaxation 1.6, 4 arrivals", arrivals=4),
        *buffers,
        Contender("fedasync, share .6", "fedasync", 1, (*same, ("server_step", 0.6))),
        Contender("fedasync, share .9", "fedasync", 1, (*same, ("server_step", 0.9))),
        Contender("fedalt", "fedalt", 4, same),
        Contender("fedsim", "fedsim", 4, same),
    ]


def run(*, quick: bool, data: Path | None) -> Report:
    """Both kinds of inequality, three seeds."""
    report = Report("race")
    if data is None or not is_here("digits", data):
        report.skipped.append(f"{FILES['digits']} is not in a folder given by --data")
        return report
    seeds = 1 if quick else SEEDS
    for speeds in (HEAVY_TAILS, STRONG_SKEW):
        limited = replace(speeds, horizon_s=600) if quick else speeds
        _race(report, limited, data, seeds, quick=quick)
    if quick:
        report.goals.clear()
        report.notes.append("one seed and a short run: too little to compare anything")
    report.notes.append(
        "virtual time; accuracy of the newest release with each machine's head, mean over "
        "machines, smoothed over three measurements 10 s apart; bytes are MQTT packets of both "
        "directions; the target is that part of the best accuracy of tuned synchronous fedapm; "
        "all columns are synchronous / asynchronous, median over seeds, 0 where a seed never "
        "arrives: more is better; all contenders take the baseline's learning rate and penalty, so "
        "that only fedapm's were tuned for its kind, and fedbuff's server step was swept"
    )
    return report


def _race(report: Report, speeds: Speeds, data: Path, seeds: int, *, quick: bool) -> None:
    grid = _grid()[:2] if quick else _grid()
    jobs = [Job(data, speeds, seed, c) for c in grid for seed in range(seeds)]
    tracks = run_all(f"race, {speeds.name}: tuning", carry_out, jobs)
    by_contender = {c: tracks[i * seeds : (i + 1) * seeds] for i, c in enumerate(grid)}
    baseline = tuned(by_contender)
    report.grids.append(_tuning_table(speeds, by_contender, baseline))
    of_baseline = by_contender[baseline]
    tops = [best(track) for track in of_baseline]
    contenders = _asynchronous(baseline, quick=quick)
    jobs = [
        Job(data, speeds, seed, c, enough=1.002 * TARGETS[-1] * tops[seed])
        for c in contenders
        for seed in range(seeds)
    ]
    tracks = run_all(f"race, {speeds.name}", carry_out, jobs)
    rows: list[tuple[Cell, ...]] = []
    for number, contender in enumerate(contenders):
        own = tracks[number * seeds : (number + 1) * seeds]
        cells: list[Cell] = [contender.name]
        for target in TARGETS:
            pairs = [
                (reached(theirs, target * top), reached(track, target * top))
                for theirs, track, top in zip(of_baseline, own, tops, strict=True)
            ]
            cells += _ratio_cells(pairs)
            if contender == contenders[0] and target == TARGETS[-1]:
                report.goals += _goals(speeds, pairs)
        rows.append(tuple(cells))
    columns = ["asynchronous contender"]
    for target in TARGETS:
        what = ("times sooner", "seeds", "bytes up", "bytes down")
        columns += [f"{target:.0%}: {name}" for name in what]
    title = f"{speeds.name}: against synchronous fedapm with {baseline.name}"
    report.grids.append(Grid(f"{title}, {counted(seeds, 'seed')}", columns, rows))


Pair = tuple[Measurement | None, Measurement | None]
"""(baseline, contender) at a target."""


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


def _goals(speeds: Speeds, pairs: Sequence[Pair]) -> list[Goal]:
    sooner = [0.0 if b is None or c is None else b.seconds / c.seconds for b, c in pairs]
    part = [inf if s == 0 else 1 / s for s in sooner]
    what = f"{speeds.name}: time of asynchronous fedapm to 99 %"
    return [
        Goal(f"{what}, median", median(part), 1 / speeds.times_sooner, "of synchronous"),
        Goal(f"{what}, slowest seed", max(part), 1.0, "of synchronous"),
    ]


def _tuning_table(
    speeds: Speeds, tracks: dict[Contender, list[Track]], baseline: Contender
) -> Grid:
    rows: list[tuple[Cell, ...]] = []
    n_seeds = len(tracks[baseline])
    highest = [max(best(each[seed]) for each in tracks.values()) for seed in range(n_seeds)]
    for contender, own in tracks.items():
        times = [
            _seconds(reached(track, TARGETS[-1] * top))
            for track, top in zip(own, highest, strict=True)
        ]
        rows.append(
            (
                contender.name + (" (taken)" if contender == baseline else ""),
                sum(map(best, own)) / n_seeds,
                ", ".join("never" if t == inf else f"{t:.0f}" for t in times),
            )
        )
    columns = ("synchronous fedapm", "best accuracy", "s to 99 % of the grid's best, by seed")
    return Grid(f"{speeds.name}: tuning of the baseline", columns, rows)
