"""Thin links: bytes and time until the accuracy of tuned synchronous FedAPM, with small messages.

The race's task, links and computers (heavy tails).  The baseline's messages are as long as those of
float32; compressed runs send few numbers in few bits and fetch differences of coarser releases.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from benchmarks.learning.contest import HEAVY_TAILS, RELAXATION, Contender, Job, Track
from benchmarks.learning.federation import Measurement
from benchmarks.learning.race import TARGETS, Baseline, pairs_at, run_jobs, tuned_baseline
from benchmarks.learning.tasks import FILES, is_here
from benchmarks.report import Cell, Goal, Grid, Report
from plantfed_shared.definition import Compression
from plantfed_shared.wording import counted

LONGEST_S, QUICK_S = 5_000.0, 600.0
SEEDS = 3
PART_OF_PLAIN_TIME = 1.0
LOW_RANK = Compression(kind="low-rank", bits=3, keep=0.16, keep_at_most=0.16)
TOP_K = Compression(kind="top-k", keep=0.03, keep_at_most=0.03)
RELEASE_BITS = (8, 6)
PACE = 0.85
ARRIVALS = 1
USUAL = (("learning_rate", 0.2), ("penalty", 0.1))
SMALL, LARGE = (64, 32), (256, 64)
"""Bodies of 15 and of 67 thousand parameters."""


@dataclass(frozen=True, slots=True)
class Promise:
    """How many times fewer bytes than the baseline: medians, and no seed below.

    Attributes:
        up: to 97 % and 99 %.
        down: the same.
        up_of_seed: to 97 % and 99 %, of the worst seed.
        down_of_seed: of the worst seed.
    """

    up: tuple[float, float]
    down: float | None = None
    up_of_seed: tuple[float, float] | None = None
    down_of_seed: float | None = None


PROMISES = {
    "thin-15k": (SMALL, Promise((50.0, 35.0), 8.0, (40.0, 15.0), 5.0)),
    "thin-67k": (LARGE, Promise((40.0, 25.0))),
}


def run(name: str, *, quick: bool, data: Path | None) -> Report:
    """One size of the network, three seeds.

    Args:
        name: of :data:`PROMISES`.
        quick: one seed and a short run.
        data: folder with the digits.
    """
    report = Report(name)
    if data is None or not is_here("digits", data):
        report.skipped.append(f"{FILES['digits']} is not in a folder given by --data")
        return report
    hidden, promise = PROMISES[name]
    seeds = range(1 if quick else SEEDS)
    longest_s = QUICK_S if quick else LONGEST_S
    job = Job(data, HEAVY_TAILS, 0, Contender("", "fedapm", None), longest_s, hidden=hidden)
    baseline = tuned_baseline(report, job, seeds)
    contenders = _contenders(baseline.contender.settings)
    jobs = [
        replace(
            job,
            seed=seed,
            contender=contender,
            longest_s=baseline.patience_s(seed),
            enough=baseline.target(seed, TARGETS[-1]),
        )
        for contender in contenders
        for seed in seeds
    ]
    tracks = run_jobs(name, jobs)
    report.grids.append(_table(tracks, baseline, len(seeds)))
    if quick:
        report.notes.append("one seed, a short run: too little to compare anything")
    else:
        plain, small = (tracks[contender] for contender in contenders[:2])
        report.goals += _goals(promise, small, plain, baseline)
    report.notes.append(
        "baseline / contender by seed and, in front, the median; 0: not reached in 1.5 times the "
        "baseline's time; bytes are MQTT packets of both directions"
    )
    return report


def _contenders(same: tuple[tuple[str, float], ...]) -> list[Contender]:
    """Uncompressed first, then what the promises are about."""
    plain = Contender("plain", "fedapm", ARRIVALS, (*same, ("relaxation", RELAXATION)))
    small = small_contender(LOW_RANK, same)
    unhurried = "no pace"
    buffered = ("server_step", 4.0)
    return [
        plain,
        replace(small, name="low-rank", compression=LOW_RANK),
        replace(small, name=f"low-rank, {unhurried}", compression=LOW_RANK, pace=0.0),
        replace(small, name="top-k", compression=TOP_K),
        replace(small, name=f"top-k, {unhurried}", compression=TOP_K, pace=0.0),
        replace(plain, name="dense, entropy-coded", compression=Compression()),
        *(
            Contender(
                f"fedbuff, server step 4, {name}",
                "fedbuff",
                4,
                (same[0], ("memory", 1.0), buffered),
                compression,
                RELEASE_BITS,
            )
            for name, compression in (("low-rank", LOW_RANK), ("top-k", TOP_K))
        ),
    ]


def small_contender(
    compression: Compression, same: tuple[tuple[str, float], ...] = USUAL
) -> Contender:
    """All that makes messages short.

    Args:
        compression: of the updates.
        same: learning rate and penalty.
    """
    settings = (*same, ("relaxation", 1.0), ("memory", 0.5))
    return Contender("", "fedapm", ARRIVALS, settings, compression, RELEASE_BITS, PACE)


Amount = Callable[[Measurement], float]
AMOUNTS: dict[str, Amount] = {
    "time": lambda m: m.seconds,
    "up": lambda m: m.bytes_up,
    "down": lambda m: m.bytes_down,
}


def ratios(own: Sequence[Track], baseline: Baseline, part: float, amount: Amount) -> list[float]:
    """How many times less than the baseline, by seed; 0 where it was not reached."""
    return [
        0.0 if b is None or c is None else amount(b) / amount(c)
        for b, c in pairs_at(own, baseline, part)
    ]


def _table(tracks: dict[Contender, list[Track]], baseline: Baseline, seeds: int) -> Grid:
    rows: list[tuple[Cell, ...]] = []
    for contender, own in tracks.items():
        cells: list[Cell] = [contender.name]
        for part in TARGETS:
            for amount in AMOUNTS.values():
                found = ratios(own, baseline, part, amount)
                cells.append(f"{median(found):.1f} ({', '.join(f'{r:.2g}' for r in found)})")
        rows.append(tuple(cells))
    columns = ["asynchronous fedapm", *(f"{p:.0%}: {name}" for p in TARGETS for name in AMOUNTS)]
    title = f"times less than synchronous fedapm with {baseline.contender.name}"
    return Grid(f"{title}, {counted(seeds, 'seed')}", columns, rows)


def _goals(
    promise: Promise, own: Sequence[Track], plain: Sequence[Track], baseline: Baseline
) -> list[Goal]:
    goals: list[Goal] = []

    def add(what: str, found: float, wanted: float) -> None:
        part = 1 / found if found else float("inf")
        goals.append(Goal(what, part, 1 / wanted, "of the baseline's"))

    for number, part in enumerate(TARGETS):
        up = ratios(own, baseline, part, AMOUNTS["up"])
        down = ratios(own, baseline, part, AMOUNTS["down"])
        add(f"bytes up to {part:.0%}, median", median(up), promise.up[number])
        if promise.up_of_seed is not None:
            add(f"bytes up to {part:.0%}, worst seed", min(up), promise.up_of_seed[number])
        if promise.down is not None:
            add(f"bytes down to {part:.0%}, median", median(down), promise.down)
        if promise.down_of_seed is not None:
            add(f"bytes down to {part:.0%}, worst seed", min(down), promise.down_of_seed)
        times = [median(ratios(t, baseline, part, AMOUNTS["time"])) for t in (plain, own)]
        share = times[0] / times[1] if times[1] else float("inf")
        what = f"time to {part:.0%}, median"
        goals.append(Goal(what, share, PART_OF_PLAIN_TIME, "of the uncompressed run's"))
    return goals
