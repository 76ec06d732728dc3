"""The demo as a reader starts it, and what it has reached."""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.report import Cell, Grid, Report
from plantfed_lab.results import AgentResult, DemoResult

AGENTS, RELEASES, QUICK_RELEASES, SEED = 20, 600, 40, 0
FLOAT32_BYTES = 4
PATIENCE_S = 300.0

WAYS: dict[str, Callable[[AgentResult], float]] = {
    "personal (PlantFed)": lambda agent: agent.accuracy.personal,
    "the other mode, simulated": lambda agent: agent.accuracy.of_other_mode,
    "local (alone)": lambda agent: agent.accuracy.local,
    "global (FedAvg)": lambda agent: agent.accuracy.of_global,
}


def run(*, quick: bool) -> Report:
    """Run the demo and read its JSON."""
    with tempfile.TemporaryDirectory(prefix="plantfed-bench-") as folder:
        result = run_demo(Path(folder), SEED, AGENTS, QUICK_RELEASES if quick else RELEASES)
    report = report_of(result)
    if quick:
        report.notes.append(
            f"{QUICK_RELEASES} releases are too few to learn much: see traffic only"
        )
    return report


def report_of(result: DemoResult) -> Report:
    """The tables of one demo."""
    accuracy = [_accuracy_row(name, way, result) for name, way in WAYS.items()]
    whole = FLOAT32_BYTES * result.model.shared_parameters
    traffic = [
        (name, n_bytes, n_bytes / result.updates, n_bytes / result.updates / whole)
        for name, n_bytes in (("up", result.bytes.up), ("down", result.bytes.down))
    ]
    run_row = (
        f"{len(result.agents)} agents, {result.broker.kind}, seed {result.seed}",
        result.releases,
        result.updates,
        result.seconds,
        result.updates / result.seconds,
        result.total_seconds,
    )
    run_columns = ("run", "releases", "updates", "seconds", "updates/s", "s with baselines")
    traffic_columns = ("MQTT", "bytes", "bytes per update", "of float32")
    ways = ("accuracy", "mean", "worst machine")
    return Report(
        "demo",
        grids=[
            Grid("Tennessee Eastman, a process per plant", run_columns, [run_row]),
            Grid("what the machines recognise", ways, accuracy),
            Grid(
                f"traffic; the shared parameters in float32: {whole:,} B", traffic_columns, traffic
            ),
        ],
        notes=[
            "all models on the same test rows; bytes with MQTT headers and acknowledgements; the "
            "asynchronous run depends on who is faster, so its accuracies vary a little"
        ],
    )


def _accuracy_row(
    name: str, way: Callable[[AgentResult], float], result: DemoResult
) -> tuple[Cell, ...]:
    values = [way(agent) for agent in result.agents]
    return name, sum(values) / len(values), min(values)


def run_demo(out: Path, seed: int, agents: int, releases: int, *, thin: bool = False) -> DemoResult:
    """Run a demo as a reader does.

    Args:
        out: its folder.
        seed: of split, start and draws.
        agents: how many plants.
        releases: to be made.
        thin: with short messages.

    Raises:
        RuntimeError: it failed.
    """
    wanted = {"--agents": agents, "--releases": releases, "--seed": seed, "--out": out}
    arguments = [str(x) for pair in wanted.items() for x in pair] + ["--thin"] * thin
    done = subprocess.run(
        [sys.executable, "-P", "-m", "plantfed_lab", "demo", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the demo ended with exit code {done.returncode}: {done.stderr}")
    return DemoResult.model_validate_json((out / "result.json").read_bytes())
