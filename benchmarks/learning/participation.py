"""How few machines may take part in a round."""

from pathlib import Path
from statistics import mean

from benchmarks.learning.accuracy import Job, carry_out
from benchmarks.learning.pool import run_all
from benchmarks.report import Cell, Grid, Report
from plantfed_shared.wording import counted

FRACTIONS = (0.1, 0.3, 1.0)
MODES = ("fedapm", "fedalt", "fedsim", "fedavg")
ROUNDS = 60
SEEDS = 3


def run(*, quick: bool, data: Path | None) -> Report:
    """Accuracy of each mode at each fraction, Tennessee Eastman."""
    rounds, seeds = (5, 1) if quick else (ROUNDS, SEEDS)
    jobs = [
        Job("tep", data, seed, mode, participation=fraction, rounds=rounds)
        for mode in MODES
        for fraction in FRACTIONS
        for seed in range(seeds)
    ]
    outcomes = dict(zip(jobs, run_all("participation", carry_out, jobs), strict=True))
    rows: list[tuple[Cell, ...]] = []
    for mode in MODES:
        cells: list[Cell] = [mode]
        for fraction in FRACTIONS:
            of_both = [
                o for j, o in outcomes.items() if (j.mode, j.participation) == (mode, fraction)
            ]
            cells += [mean(o.mean for o in of_both), mean(o.worst for o in of_both)]
        rows.append(tuple(cells))
    columns = ["mode"]
    for fraction in FRACTIONS:
        columns += [f"{fraction:.0%} mean", f"{fraction:.0%} worst"]
    over = f"{counted(seeds, 'seed')}, end of {rounds} synchronous rounds"
    title = f"tep by the part of the machines in a round, {over}"
    report = Report("participation", grids=[Grid(title, columns, rows)])
    if quick:
        report.notes.append("too few rounds to compare anything")
    return report
