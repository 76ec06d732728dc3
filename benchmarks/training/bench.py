"""The benchmark ``training``."""

import subprocess
import sys
from statistics import median

from benchmarks.report import Cell, Goal, Grid, Report
from benchmarks.training.comparison import GEMM_SIZE, Pair, compare, gemm_peak
from benchmarks.training.networks import NETWORKS, flops

SLICES, QUICK_SLICES = 60, 8
GEMM_REPEATS = 60
GOALS = {
    ("mlp", 50): 1.8,
    ("mlp", 8): 1.8,
    ("cnn1d", 50): 1.3,
    ("cnn1d", 8): 1.8,
    ("cnn2d", 50): 0.8,
    ("cnn2d", 8): 0.8,
}
"""Times torch's samples per processor second, by network and rows of a batch."""
GOAL_MEMORY = 0.4
GOAL_READY = 1 / 5
MB = 1e6


def run(*, quick: bool, torch: str | None = None) -> Report:
    """All networks.

    Args:
        quick: fewer slices.
        torch: a Python that has torch; the one that runs this for None.
    """
    python = torch or sys.executable
    version = torch_version(python)
    if version is None:
        report = Report("training")
        report.skipped.append(
            f"training beside torch: {python} has no torch; name one that has: --torch PYTHON"
        )
        return report
    slices = QUICK_SLICES if quick else SLICES
    pairs = {(name, rows): compare(NETWORKS[name], rows, python, slices) for name, rows in GOALS}
    return report_of(pairs, gemm_peak(GEMM_REPEATS), version)


def torch_version(python: str) -> str | None:
    """Of the torch a Python has; None for none."""
    asked = [python, "-c", "import torch; print(torch.__version__)"]
    try:
        found = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=120)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def report_of(pairs: dict[tuple[str, int], Pair], peak: float, version: str) -> Report:
    """What was found, and the goals.

    Args:
        pairs: by network and rows.
        peak: float32 operations per processor second of a matrix product.
        version: of torch.
    """
    report = Report("training")
    speed: list[tuple[Cell, ...]] = []
    process: list[tuple[Cell, ...]] = []
    for (name, rows), pair in pairs.items():
        ours, theirs = pair.ours, pair.torch
        what = f"{NETWORKS[name].what}, {rows}"
        at_peak = flops(NETWORKS[name]) * rows / peak
        speed.append(
            (
                what,
                rows / ours.step_s,
                rows / theirs.step_s,
                pair.ratio,
                1e3 * ours.step_s,
                100 * at_peak / ours.step_s,
                100 * at_peak / theirs.step_s,
                pair.difference,
            )
        )
        memory = ours.peak_bytes / theirs.peak_bytes
        process.append(
            (
                what,
                ours.peak_bytes / MB,
                theirs.peak_bytes / MB,
                memory,
                ours.ready_s,
                theirs.ready_s,
                ours.ready_s / theirs.ready_s,
            )
        )
        least = GOALS[name, rows]
        report.goals += [
            Goal(f"{what}: time of a step", 1 / pair.ratio, 1 / least, "of torch's"),
            Goal(f"{what}: peak RSS", memory, GOAL_MEMORY, "of torch's"),
        ]
    # what is imported is the same whatever the network
    ready = median(pair.ours.ready_s / pair.torch.ready_s for pair in pairs.values())
    report.goals.append(Goal("until it can train", ready, GOAL_READY, "of torch's import"))
    of_speed = ["network, batch", "samples per CPU s", "torch", "ratio", "ms a step"]
    of_speed += ["% of GEMM peak", "torch %", "weights differ by"]
    title = f"one ADMM step on one thread, beside torch {version}, eager"
    report.grids.append(Grid(title, of_speed, speed))
    of_process = ["network, batch", "peak RSS MB", "torch", "ratio"]
    of_process += ["ready after CPU s", "torch's import", "of it"]
    report.grids.append(Grid("the training processes", of_process, process))
    report.notes.append(
        f"processor time, slices in turn, medians; peak: {peak / 1e9:.0f} GFLOP/s, numpy's best at "
        f"{GEMM_SIZE} x {GEMM_SIZE}; ready: from the start of Python, ours with session, torch's "
        "with import only"
    )
    return report
