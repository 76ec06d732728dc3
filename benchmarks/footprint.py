"""How small an agent is: at rest, and as installed."""

from rich.console import Console

from benchmarks import installed_size, resting_agent
from benchmarks.report import Cell, Goal, Grid, Report
from benchmarks.resting_agent import Footprint, Usage

REST_S, QUICK_REST_S = 60.0, 25.0
GOAL_RESIDENT_MB = 64.0
GOAL_PROCESSOR_PERCENT = 0.5
GOAL_INSTALLED_MB = 200.0
LARGEST = 5
MB = 1e6


def run(*, quick: bool) -> Report:
    """Both halves."""
    report = Report("footprint")
    rest_s = QUICK_REST_S if quick else REST_S
    add_resting(report, resting_agent.measure(rest_s, Console(stderr=True)))
    try:
        add_installed(report, installed_size.measure())
    except installed_size.NoIndexError as error:
        report.skipped.append(f"installed size: the package index cannot be reached: {error}")
    return report


def add_resting(report: Report, found: Footprint) -> None:
    """Memory and processor time."""
    percent = 100 * found.processor / found.seconds
    rows: list[tuple[Cell, ...]] = [
        ("while training, at most", *_usage_cells(found.busiest), "-"),
        (f"{found.seconds:.0f} s at rest", *_usage_cells(found.resting), percent),
    ]
    columns = ("one agent", "processes", "RSS MB", "of it private", "% of a core")
    title = f"all processes of an agent with one plant's rows, {found.rounds} rounds"
    report.grids.append(Grid(title, columns, rows))
    resident = found.resting.resident / MB
    report.goals += [
        Goal("RSS at rest", resident, GOAL_RESIDENT_MB, "MB"),
        Goal("processor at rest", percent, GOAL_PROCESSOR_PERCENT, "% of a core"),
    ]
    report.notes.append(
        "at rest begins when the training process has ended, 20 s after the last round "
        "(rest_after_s)"
    )


def add_installed(report: Report, found: installed_size.Installed) -> None:
    """Megabytes on disk."""
    largest = list(found.packages.items())[:LARGEST]
    rest = found.n_bytes - sum(size for _, size in largest)
    rows = [(name, size / MB) for name, size in largest]
    others = f"{len(found.packages) - len(largest)} others"
    rows += [(others, rest / MB), ("all", found.n_bytes / MB)]
    title = "pip install 'plantfed[agent]' in a fresh environment"
    report.grids.append(Grid(title, ("package", "MB on disk"), rows))
    report.goals.append(Goal("installed", found.n_bytes / MB, GOAL_INSTALLED_MB, "MB"))


def _usage_cells(found: Usage) -> tuple[int, float, float]:
    return found.processes, found.resident / MB, found.private / MB
