"""The demo with short messages beside the demo as shipped: bytes, and what the machines recognise.

Both start at the same time with the same plants, and each has a broker of its own.
"""

import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from benchmarks.demo import AGENTS, QUICK_RELEASES, RELEASES, run_demo
from benchmarks.report import Cell, Goal, Grid, Report
from plantfed_lab.results import DemoResult
from plantfed_shared.wording import counted

SEEDS = 4
POINTS_LOST = 1.0
TIMES_FEWER_UP, TIMES_FEWER_DOWN = 15.0, 3.0
LEARNT = ("run", "mean accuracy", "worst machine", "releases", "updates per machine", "seconds")
SENT = ("run", "KB up per machine", "KB down", "bytes up per update", "bytes down")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two demos with the same seed.

    Attributes:
        dense: every parameter of every change, entropy-coded: as shipped.
        thin: short messages.
    """

    dense: DemoResult
    thin: DemoResult

    @property
    def points_lost(self) -> float:
        """Mean accuracy that short messages cost, percentage points; negative if they are ahead."""
        return 100 * (self.dense.accuracy.personal - self.thin.accuracy.personal)

    @property
    def times_fewer_up(self) -> float:
        """Bytes from the machines."""
        return self.dense.bytes.up / self.thin.bytes.up

    @property
    def times_fewer_down(self) -> float:
        """Bytes to the machines."""
        return self.dense.bytes.down / self.thin.bytes.down


def run(*, quick: bool) -> Report:
    """Run pairs of demos, one after the other, and compare them."""
    releases = QUICK_RELEASES if quick else RELEASES
    pairs = [_run_pair(seed, AGENTS, releases) for seed in range(1 if quick else SEEDS)]
    report = report_of(pairs)
    if quick:
        report.notes.append(f"{QUICK_RELEASES} releases are too few to judge by")
    else:
        report.goals += goals_of(pairs)
    return report


def report_of(pairs: Sequence[Pair]) -> Report:
    """The tables of some pairs."""
    runs = {
        f"{name}, seed {result.seed}": result
        for pair in pairs
        for name, result in (("dense", pair.dense), ("thin", pair.thin))
    }
    differences = [
        (f"seed {p.dense.seed}", p.points_lost, p.times_fewer_up, p.times_fewer_down) for p in pairs
    ]
    dense = pairs[0].dense
    title = f"Tennessee Eastman, {counted(len(dense.agents), 'plant')}, {dense.broker.kind}"
    return Report(
        "thin-demo",
        grids=[
            Grid(title, LEARNT, [(name, *_learnt(result)) for name, result in runs.items()]),
            Grid("traffic", SENT, [(name, *_sent(result)) for name, result in runs.items()]),
            Grid(
                "thin against dense",
                ("pair", "points lost", "times fewer bytes up", "times fewer bytes down"),
                differences,
            ),
        ],
        notes=[
            "bytes with MQTT headers and acknowledgements; who is faster differs from run to run, "
            "so accuracies vary by some tenths of a point"
        ],
    )


def goals_of(pairs: Sequence[Pair]) -> list[Goal]:
    """What is promised of the mean over pairs."""
    up, down = (1 / mean(getattr(p, f"times_fewer_{way}") for p in pairs) for way in ("up", "down"))
    lost = mean(pair.points_lost for pair in pairs)
    return [
        Goal("accuracy lost, mean over seeds", lost, POINTS_LOST, "points"),
        Goal("bytes up", up, 1 / TIMES_FEWER_UP, "of dense"),
        Goal("bytes down", down, 1 / TIMES_FEWER_DOWN, "of dense"),
    ]


def _learnt(result: DemoResult) -> tuple[Cell, ...]:
    accuracies = [agent.accuracy.personal for agent in result.agents]
    updates = result.updates / len(accuracies)
    return mean(accuracies), min(accuracies), result.releases, updates, result.seconds


def _sent(result: DemoResult) -> tuple[Cell, ...]:
    both_ways = (result.bytes.up, result.bytes.down)
    return (
        *(n_bytes / len(result.agents) / 1e3 for n_bytes in both_ways),
        *(n_bytes / result.updates for n_bytes in both_ways),
    )


def _run_pair(seed: int, agents: int, releases: int) -> Pair:
    with (
        tempfile.TemporaryDirectory(prefix="plantfed-bench-") as folder,
        ThreadPoolExecutor(2) as side_by_side,
    ):
        jobs = [
            side_by_side.submit(run_demo, Path(folder) / name, seed, agents, releases, thin=thin)
            for name, thin in (("dense", False), ("thin", True))
        ]
        dense, thin = (job.result() for job in jobs)
    return Pair(dense, thin)
