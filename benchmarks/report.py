"""What a benchmark found, as numbers to keep and as tables to read."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

Cell = str | int | float


@dataclass(frozen=True)
class Goal:
    """A number that has to stay below a limit.

    Attributes:
        what: it is.
        value: found.
        limit: it must not exceed.
        unit: of both.
    """

    what: str
    value: float
    limit: float
    unit: str

    @property
    def met(self) -> bool:
        return self.value <= self.limit


@dataclass(frozen=True)
class Grid:
    """One table; cells are kept as numbers and rounded when they are shown."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass
class Report:
    """The outcome of one benchmark.

    Attributes:
        name: of the benchmark.
        grids: its tables.
        goals: what the project has promised.
        notes: how to read them.
        skipped: what was not measured, and why.
        failed: why there is nothing else here.
    """

    name: str
    grids: list[Grid] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: str = ""

    @property
    def missed(self) -> list[Goal]:
        return [goal for goal in self.goals if not goal.met]

    def numbers(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            "tables": [
                {
                    "title": grid.title,
                    "rows": [dict(zip(grid.columns, row, strict=True)) for row in grid.rows],
                }
                for grid in self.grids
            ],
            "goals": [
                {"what": g.what, "value": g.value, "limit": g.limit, "unit": g.unit, "met": g.met}
                for g in self.goals
            ],
            "notes": self.notes,
            "skipped": self.skipped,
            "failed": self.failed,
        }


def show(report: Report, command: str, console: Console) -> None:
    """Print a report with the command that repeats it."""
    console.rule(f"[bold]{report.name}[/bold]   {escape(command)}", align="left")
    for grid in report.grids:
        table = Table(show_edge=False, pad_edge=False)
        for number, column in enumerate(grid.columns):
            table.add_column(escape(column), justify="right" if number else "left")
        for row in grid.rows:
            table.add_row(*(escape(_shown(cell)) for cell in row))
        # a title of the table would be wrapped to its width
        console.print(f"[italic]{escape(grid.title)}[/italic]")
        console.print(table, "")
    for goal in report.goals:
        verdict = "[green]met[/green]" if goal.met else "[bold red]MISSED[/bold red]"
        console.print(
            f"goal: {goal.what} at most {_shown(goal.limit)} {goal.unit}: "
            f"{_shown(goal.value)} {goal.unit}, {verdict}"
        )
    for note in report.notes:
        console.print(f"[dim]{escape(note)}[/dim]")
    for reason in report.skipped:
        console.print(f"[bold yellow]SKIPPED: {escape(reason)}[/bold yellow]")
    if report.failed:
        console.print(f"[bold red]FAILED: {escape(report.failed)}[/bold red]")
    console.print()


def _shown(cell: Cell) -> str:
    if isinstance(cell, str):
        return cell
    if isinstance(cell, int) or abs(cell) >= 1000:
        return f"{cell:,.0f}"
    return f"{cell:.3g}"
