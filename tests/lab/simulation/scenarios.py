"""Small scenarios for tests, as files."""

from pathlib import Path

from plantfed_lab.simulation.result import SimulationResult
from plantfed_lab.simulation.run import simulate
from plantfed_lab.simulation.scenario import load_scenario

CODED = """
[scenario]
name = "quick"
updates = 60

[data]
kind = "none"

[machines]
count = 6
max_rounds_without_new_rows = "no limit"
compute_s = { kind = "lognormal", median = 30, sigma = 0.6 }
slowdown = { kind = "pareto", minimum = 1, shape = 1.5 }
uplink_bits_per_s = 64e3
downlink_bits_per_s = 64e3
latency_s = 0.3
loss = 0.02
"""
"""With messages as a federation has them by default."""
QUICK = '[federation.compression]\ncoding = "plain"\n' + CODED
"""The same, five times sooner: for whatever does not depend on how long messages are."""


def write(folder: Path, text: str = QUICK) -> Path:
    path = folder / "scenario.toml"
    path.write_text(text, encoding="utf-8")
    return path


def simulated(folder: Path, text: str = QUICK, seed: int = 0) -> SimulationResult:
    return simulate(load_scenario(str(write(folder, text))), seed, lambda _: None)
