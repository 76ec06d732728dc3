"""``python -m benchmarks [NAME ...] [--quick]``."""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from subprocess import SubprocessError
from time import monotonic
from typing import Any

import click
from rich.console import Console

from benchmarks import (
    codec,
    coordinator,
    demo,
    durability,
    footprint,
    host,
    simulator,
    thin_demo,
    unseen,
    wire,
)
from benchmarks.learning import (
    accuracy,
    auto_bytes,
    exactness,
    nobody_waits,
    one_setting,
    other_meaning,
    participation,
    race,
    thin,
)
from benchmarks.report import Report, show
from benchmarks.training import bench as training
from plantfed_shared.errors import PlantfedError

BENCHMARKS = {
    "footprint": footprint.run,
    "coordinator": coordinator.run,
    "durability": durability.run,
    "wire": wire.run,
    "simulator": simulator.run,
    "demo": demo.run,
    "thin-demo": thin_demo.run,
}
LEARNING: dict[str, Callable[..., Report]] = {
    "accuracy": accuracy.run,
    "one-setting": one_setting.run,
    "other-meaning": other_meaning.run,
    "nobody-waits": nobody_waits.run,
    "auto-bytes": auto_bytes.run,
    **{name: partial(race.run, name) for name in race.RACES},
    **{name: partial(thin.run, name) for name in thin.PROMISES},
    "exactness": exactness.run,
    "participation": participation.run,
    "codec": codec.run,
    "unseen": unseen.run,
}
"""Those that read data."""
TRAINING = "training"
"""The one beside torch."""
MIN_WIDTH = 100
LATEST = host.ROOT / "build" / "benchmarks.json"


def _run(name: str, *, quick: bool, data: Path | None, torch: str | None) -> Report:
    if name == TRAINING:
        return training.run(quick=quick, torch=torch)
    if name in LEARNING:
        return LEARNING[name](quick=quick, data=data)
    return BENCHMARKS[name](quick=quick)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, type=click.Choice([*BENCHMARKS, TRAINING, *LEARNING]))
@click.option("--quick", is_flag=True, help="Fewer repetitions, a shorter demo.")
@click.option(
    "--data",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Folder with data that is not shipped: cmapss_fd001.npz, cwru_12k_bands.npz, mnist5k.npz.",
)
@click.option("--torch", metavar="PYTHON", help="A Python that has torch, for training.")
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=LATEST,
    show_default="build/benchmarks.json",
    help="Gets all numbers, the machine and the date.",
)
def main(
    names: tuple[str, ...], quick: bool, data: Path | None, torch: str | None, json_file: Path
) -> None:
    """Measure what PlantFed costs: all benchmarks, or those named.

    Exit codes: 0 done, 1 a goal is missed or a benchmark failed, 2 wrong command line.
    """
    console = Console()
    # a table in a log file may be as wide as it wants
    console.width = max(console.width, MIN_WIDTH)
    machine = host.facts()
    console.print(
        f"{machine['date']}  {machine['commit']}  {machine['processor']}, {machine['cores']} cores"
        f", Python {machine['python']}, {host.load_line()}\n",
        highlight=False,
    )
    results: dict[str, Any] = {}
    bad: list[str] = []
    for name in dict.fromkeys(names or [*BENCHMARKS, TRAINING, *LEARNING]):
        begin = monotonic()
        try:
            report = _run(name, quick=quick, data=data, torch=torch)
        except (PlantfedError, OSError, RuntimeError, SubprocessError) as error:
            # the others are still worth having
            report = Report(name, failed=f"{type(error).__name__}: {error}")
        options = f"{' --quick' if quick else ''}{f' --data {data}' if data else ''}"
        options += f" --torch {torch}" if torch and name == TRAINING else ""
        command = f"make bench BENCH='{name}{options}'"
        report.notes.append(f"took {monotonic() - begin:.0f} s; {host.load_line()}")
        show(report, command, console)
        results[name] = report.numbers()
        bad += [f"{name}: {goal.what}" for goal in report.missed]
        bad += [f"{name}: failed"] if report.failed else []
    json_file.parent.mkdir(parents=True, exist_ok=True)
    everything = {"machine": machine, "quick": quick, "benchmarks": results}
    json_file.write_text(json.dumps(everything, indent=2) + "\n", encoding="utf-8")
    click.echo(f"numbers: {json_file}")
    if bad:
        sys.exit(f"not as promised: {', '.join(bad)}")


if __name__ == "__main__":
    main()
