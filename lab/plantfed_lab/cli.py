"""``plantfed``: the demo and the simulator."""

# one thread for numpy here and in what is started: before anything imports it
import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

from collections.abc import Iterator  # noqa: E402
from contextlib import contextmanager  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any, Literal  # noqa: E402

import click  # noqa: E402

from plantfed_shared.command_line import missing_extra  # noqa: E402
from plantfed_shared.entry_point import InterruptEndsAtOnce  # noqa: E402
from plantfed_shared.version import software_version  # noqa: E402

MAX_AGENTS = 200
OF_THE_EXTRA = frozenset(
    {"cryptography", "jinja2", "markupsafe", "matplotlib", "packaging", "psutil", "rich"}
)
"""Modules that only ``pip install 'plantfed[lab]'`` brings."""


@contextmanager
def _imports() -> Iterator[None]:
    """Ctrl-C ends it at once, and what only the extra brings may be missing."""
    with InterruptEndsAtOnce():
        try:
            yield
        except ModuleNotFoundError as missing:
            if (missing.name or "").partition(".")[0] not in OF_THE_EXTRA:
                raise
            # the command is installed with every part, what it needs only with its own
            missing_extra("plantfed", "lab")


class Output(click.Path):
    """A file or folder to be written; standard output is for people."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse what names none."""
        if str(value) in ("", "-"):
            self.fail(f"{value!r} names no {self.name}; give its path", param, ctx)
        return super().convert(value, param, ctx)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(software_version())
def commands() -> None:
    """Federated learning for factories, tried out on one machine.

    Exit codes: 0 done, 1 a process was killed or nothing happens any more, 2 wrong command line,
    65 rows, 69 broker, 70 every round is in vain, 74 disk, 78 settings, 130 Ctrl-C, 141 who read
    its output went away; else that of a process which ended early.
    """


@commands.command()
@click.option(
    "--agents",
    type=click.IntRange(1, MAX_AGENTS),
    default=20,
    show_default=True,
    help="Plants, each with an agent of its own.",
)
@click.option(
    "--releases",
    type=click.IntRange(1),
    default=600,
    show_default=True,
    help="Models to agree on before it ends.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=0,
    show_default=True,
    help="Of split, start and draws.",
)
@click.option("--sync", is_flag=True, help="Rounds with drawn participants: agents wait.")
@click.option("--thin", is_flag=True, help="Short messages, as for thin links.")
@click.option(
    "--mode",
    type=click.Choice(["auto", "fedapm"]),
    default="auto",
    show_default=True,
    help="One setting for all machines, or personal heads; the other one is simulated beside it.",
)
@click.option(
    "--model",
    "network",
    type=click.Choice(["mlp", "cnn1d"]),
    default="mlp",
    show_default=True,
    help="Perceptron on rows, or a compiled 1-D CNN on windows of them.",
)
@click.option("--broker", metavar="URL", help="Of a running broker that asks for no password.")
@click.option(
    "--out",
    type=Output(file_okay=False, path_type=Path),
    default="plantfed-demo",
    show_default=True,
    help="Folder; what an earlier demo left in it is removed.",
)
@click.option(
    "--json",
    "json_file",
    type=Output(dir_okay=False, path_type=Path),
    help="Gets a copy of OUT/result.json.",
)
def demo(
    agents: int,
    releases: int,
    seed: int,
    sync: bool,
    thin: bool,
    mode: Literal["auto", "fedapm"],
    network: Literal["mlp", "cnn1d"],
    broker: str | None,
    out: Path,
    json_file: Path | None,
) -> None:
    """Let plants of the Tennessee Eastman process learn together, each a process of its own."""
    # what a demo needs takes a second to load; --help and --version don't
    with _imports():
        from rich.console import Console

        from plantfed_lab.demo import DemoOptions, run_demo
        from plantfed_lab.processes import signals_interrupt
        from plantfed_lab.summary import summary
        from plantfed_lab.tennessee_eastman import MAX_PLANTS_WITH_WINDOWS

    if network == "cnn1d" and agents > MAX_PLANTS_WITH_WINDOWS:
        raise click.BadParameter(
            f"{agents} plants share too few rows for windows: --model cnn1d takes at most "
            f"{MAX_PLANTS_WITH_WINDOWS}",
            param_hint="--agents",
        )
    options = DemoOptions(
        agents=agents,
        releases=releases,
        seed=seed,
        schedule="sync" if sync else "async",
        thin=thin,
        mode=mode,
        network=network,
        broker=broker,
        out=out,
        json_file=json_file,
    )
    console = Console()
    with signals_interrupt():
        result = run_demo(options, console)
    console.print(summary(result), highlight=False)
    click.echo(f"report: {(out / 'report.html').resolve()}")


@commands.command()
@click.argument("scenario")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=0,
    show_default=True,
    help="Of split, start and draws.",
)
@click.option(
    "--json",
    "json_file",
    type=Output(dir_okay=False, path_type=Path),
    help="Gets the result.",
)
@click.option(
    "--out",
    type=Output(file_okay=False, path_type=Path),
    help="Folder; gets result.json and report.html.",
)
def simulate(scenario: str, seed: int, json_file: Path | None, out: Path | None) -> None:
    """Let the real machines run under a virtual clock, as SCENARIO says.

    SCENARIO is a TOML file, or the name of one that comes with PlantFed: flaky, skewed-speeds,
    tep-20, thin-link.
    """
    with _imports():
        from rich.console import Console

        from plantfed_lab.simulation.command import (
            SimulateOptions,
            refuse_end_without_result,
            run_simulate,
        )
        from plantfed_lab.simulation.summary import summary

    options = SimulateOptions(scenario=scenario, seed=seed, json_file=json_file, out=out)
    result = run_simulate(options, Console())
    click.echo(summary(result))
    if out is not None:
        click.echo(f"report: {(out / 'report.html').resolve()}")
    refuse_end_without_result(result, scenario)
