"""``plantfed simulate``: shows a simulation while it runs, and tells and keeps what it found."""

from dataclasses import dataclass
from os.path import isfile, realpath, samefile
from pathlib import Path
from time import monotonic
from typing import Self

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from plantfed_lab.processes import signals_interrupt
from plantfed_lab.progress import LINE_EVERY_S
from plantfed_lab.result_files import folders, make_folder, refuse_unwritable, write_text
from plantfed_lab.simulation.forecast import simulate_and_forecast
from plantfed_lab.simulation.report import render_simulation_report
from plantfed_lab.simulation.result import SimulationResult
from plantfed_lab.simulation.run import Moment
from plantfed_lab.simulation.scenario import (
    MAX_POINTS,
    LoadedScenario,
    load_scenario,
    scenario_file,
)
from plantfed_lab.simulation.sites import files_read
from plantfed_lab.simulation.wording import duration
from plantfed_shared.entry_point import INTERRUPTED
from plantfed_shared.errors import ConfigError, PlantfedError, TrainingError
from plantfed_shared.wording import counted

SOON_S = 1.0
"""What is built within this is not worth a line."""


@dataclass(frozen=True, slots=True)
class SimulateOptions:
    """What the reader asked for.

    Attributes:
        scenario: name of a shipped one, or a path.
        seed: of everything that is drawn.
        json_file: gets the result, or None.
        out: folder for the result and its report, or None.
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
    _refuse_overwriting(options, loaded)
    with folders(_folders(options)):
        for path in (*_json_files(options), *_report_files(options)):
            refuse_unwritable(path)  # now, not after the run
        result = _simulate(loaded, options.seed, console)
        _write(result, options)
    return result


def _simulate(loaded: LoadedScenario, seed: int, console: Console) -> SimulationResult:
    shown: Moment | None = None
    try:
        with signals_interrupt(), Display(console, loaded.scenario.scenario.name) as display:

            def watch(moment: Moment) -> None:
                nonlocal shown
                shown = moment
                display.show(moment)

            return simulate_and_forecast(loaded, seed, watch, display.forecast, display.building)
    except KeyboardInterrupt:
        reached = f" at virtual second {shown.seconds:.0f}" if shown else ""
        click.echo(f"plantfed: stopped{reached}; nothing was written", err=True)
        raise click.exceptions.Exit(INTERRUPTED) from None


def refuse_end_without_result(result: SimulationResult, scenario: str) -> None:
    """Say what kept a simulation from the end that its scenario wants.

    Args:
        result: of it.
        scenario: name of a shipped one, or a path.

    Raises:
        PlantfedError: no update was applied for a week; TrainingError: every round was in vain;
            ConfigError: its curve was becoming too long.
    """
    where = str(scenario_file(scenario))
    match result.ended_by:
        case "nothing happens any more":
            raise PlantfedError(
                "nothing happens any more: no update in a week of virtual time",
                where=where,
                hint="Its machines rest after machines.max_rounds_without_new_rows, or are never "
                "all there; give duration_s to end it sooner",
            )
        case "every round is in vain":
            raise TrainingError(f"every round is in vain; {result.trouble}", where=where)
        case "too many points of the curve":
            raise ConfigError(
                f"ended after {duration(result.seconds)} of virtual time, with {MAX_POINTS:,} "
                "points of its curve",
                where=where,
                hint="Raise scenario.evaluate_every_s, or give a duration_s",
            )


def _refuse_overwriting(options: SimulateOptions, loaded: LoadedScenario) -> None:
    reports = _report_files(options)
    if options.json_file and realpath(options.json_file) in map(realpath, reports):
        raise ConfigError(
            f"--json {options.json_file} is where --out writes its report",
            hint="Name another file, or leave --json out: --out writes a result.json as well",
        )
    existing = [path for path in (*_json_files(options), *reports) if isfile(path)]  # noqa: PTH113
    for source in files_read(loaded) if existing else ():
        for path in existing:
            # not by name: it may be a link
            if isfile(source) and samefile(source, path):  # noqa: PTH113, PTH121
                raise ConfigError(
                    f"--json or --out would overwrite {source}, which the simulation reads",
                    where=str(path),
                    hint="Name another file or folder",
                )


def _folders(options: SimulateOptions) -> list[Path]:
    files = (*_json_files(options), *_report_files(options))
    return sorted({path.parent for path in files})


def _json_files(options: SimulateOptions) -> list[Path]:
    in_folder = [] if options.out is None else [options.out / "result.json"]
    return in_folder + ([] if options.json_file is None else [options.json_file])


def _report_files(options: SimulateOptions) -> list[Path]:
    return [] if options.out is None else [options.out / "report.html"]


def _write(result: SimulationResult, options: SimulateOptions) -> None:
    # another run that was stopped may have found them empty
    for folder in _folders(options):
        make_folder(folder)
    for path in _json_files(options):
        write_text(path, result.to_json())
    for path in _report_files(options):
        write_text(path, render_simulation_report(result))


class Display:
    """A bar on a terminal, else a line every few seconds.

    Args:
        console: where to show it.
        name: of the scenario.
    """

    def __init__(self, console: Console, name: str) -> None:
        self._began = monotonic()
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
        self._tell(moment.part, text)

    def building(self, done: int, of: int) -> None:
        """Show how many machines are there."""
        if monotonic() - self._began > SOON_S:
            self._tell(0.0, f"building: {done:,} of {counted(of, 'machine')}")

    def forecast(self, change: str, part: float) -> None:
        """Show which change is tried, and how much of the forecast is done."""
        self._tell(part, f"forecast: {change}")

    def _tell(self, part: float, text: str) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=part, at=text)
        elif monotonic() >= self._next_line_at:
            self._next_line_at = monotonic() + LINE_EVERY_S
            click.echo(f"{part:4.0%}  {text}")
