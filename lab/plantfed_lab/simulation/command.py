"""``plantfed simulate``: shows a simulation while it runs, and tells and keeps what it found."""

from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Self

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from plantfed_lab.processes import signals_interrupt
from plantfed_lab.progress import LINE_EVERY_S
from plantfed_lab.results import write_text
from plantfed_lab.simulation.result import SimulationResult
from plantfed_lab.simulation.run import Moment, simulate
from plantfed_lab.simulation.scenario import load_scenario
from plantfed_shared.entry_point import INTERRUPTED
from plantfed_shared.errors import StorageError


@dataclass(frozen=True, slots=True)
class SimulateOptions:
    """What the reader asked for.

    Attributes:
        scenario: name of a shipped one, or a path.
        seed: of everything that is drawn.
        json_file: gets the result, or None.
        out: folder for the result and what is made from it, or None.
    """

    scenario: str
    seed: int
    json_file: Path | None
    out: Path | None


def run_simulate(options: SimulateOptions, console: Console) -> SimulationResult:
    """Run a scenario, show it, and write what was asked for.

    Raises:
        PlantfedError: the scenario is wrong, or a file can't be written.
        click.exceptions.Exit: Ctrl-C or SIGTERM.
    """
    loaded = load_scenario(options.scenario)
    _prepare(options)
    shown: Moment | None = None
    try:
        with signals_interrupt(), Display(console, loaded.scenario.scenario.name) as display:

            def watch(moment: Moment) -> None:
                nonlocal shown
                shown = moment
                display.show(moment)

            result = simulate(loaded, options.seed, watch)
    except KeyboardInterrupt:
        reached = f" at virtual second {shown.seconds:.0f}" if shown else ""
        click.echo(f"plantfed: stopped{reached}; nothing was written", err=True)
        raise click.exceptions.Exit(INTERRUPTED) from None
    _write(result, options)
    return result


def _prepare(options: SimulateOptions) -> None:
    """Find out now, not after the run, whether what was asked for can be written."""
    try:
        if options.out is not None:
            options.out.mkdir(parents=True, exist_ok=True)
        for path in _json_files(options):
            path.open("a", encoding="utf-8").close()
    except OSError as error:
        where = str(error.filename)
        raise StorageError(f"cannot be written: {error.strerror}", where=where) from None


def _json_files(options: SimulateOptions) -> list[Path]:
    in_folder = [] if options.out is None else [options.out / "result.json"]
    return in_folder + ([] if options.json_file is None else [options.json_file])


def _write(result: SimulationResult, options: SimulateOptions) -> None:
    for path in _json_files(options):
        write_text(path, result.to_json())


class Display:
    """A bar on a terminal, else a line every few seconds.

    Args:
        console: where to show it.
        name: of the scenario.
    """

    def __init__(self, console: Console, name: str) -> None:
        self._next_line_at = 0.0
        self._bar: Progress | None = None
        self._task = TaskID(0)
        if console.is_terminal:
            columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[at]}")
            self._bar = Progress(*columns, TimeRemainingColumn(), console=console, transient=True)
            self._task = self._bar.add_task(name, total=1.0, at="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, moment: Moment) -> None:
        """Show how far it is."""
        score = moment.latest.mean_score
        shown_score = "" if score is None else f", score {score:.3f}"
        text = (
            f"{duration(moment.seconds)}, {moment.releases} releases, {moment.updates} updates"
            f"{shown_score}"
        )
        if self._bar is not None:
            self._bar.update(self._task, completed=moment.part, at=text)
        elif monotonic() >= self._next_line_at:
            self._next_line_at = monotonic() + LINE_EVERY_S
            click.echo(f"{moment.part:4.0%}  {text}")


def summary(result: SimulationResult) -> str:
    """The result in a few lines."""
    n = len(result.machines)
    days = max(result.seconds, 1e-9) / 86_400
    kilobytes = (result.bytes.up + result.bytes.down) / 1000 / n / days
    lines = [
        f"{result.scenario}, seed {result.seed}: {n} machines, {duration(result.seconds)} "
        f"(ended by: {result.ended_by})",
        f"{result.releases} releases, {result.updates} updates, staleness "
        f"{_mean_staleness(result):.1f} releases on average, at most "
        f"{max(len(result.staleness_counts) - 1, 0)}",
        f"{result.bytes.up / 1e6:.1f} MB up, {result.bytes.down / 1e6:.1f} MB down, "
        f"{kilobytes:,.0f} KB per machine and day at this pace",
        *_scores(result),
        f"model {result.model.checksum}",
    ]
    return "\n".join(lines)


def _scores(result: SimulationResult) -> list[str]:
    if result.mean_score is None or result.worst_score is None:
        return []
    worst = min((m for m in result.machines if m.score is not None), key=lambda m: m.score or 0.0)
    lines = [
        f"{result.score_kind} {result.mean_score:.3f} on average, "
        f"{result.worst_score:.3f} on {worst.id}"
    ]
    if result.target is not None:
        reached = result.target.reached
        when = "not reached" if reached is None else f"reached after {duration(reached.seconds)}"
        lines.append(f"target {result.target.score:g} {when}")
    return lines


def _mean_staleness(result: SimulationResult) -> float:
    total = sum(n * count for n, count in enumerate(result.staleness_counts))
    return total / max(result.updates, 1)


def duration(seconds: float) -> str:
    """Virtual seconds for a reader: "90 s", "2.5 h", "3.0 d"."""
    if seconds < 600:
        return f"{seconds:.0f} s"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} d"
