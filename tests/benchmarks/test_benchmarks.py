"""The benchmarks in a tiny setting: they run and give numbers that can be."""

import io
import json
import math
import sys
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

from benchmarks import __main__ as command
from benchmarks import (
    coordinator,
    demo,
    durability,
    footprint,
    installed_size,
    simulator,
    thin_demo,
    timing,
    wire,
)
from benchmarks import report as reports
from benchmarks import resting_agent as resting
from benchmarks.training import bench as training
from benchmarks.training import comparison, networks
from plantfed_lab.results import DemoResult

COUNTS = "updates rounds staleness bytes_up bytes_down messages_up messages_down"


def cells(report: reports.Report) -> list[float]:
    return [
        cell
        for grid in report.grids
        for row in grid.rows
        for cell in row
        if not isinstance(cell, str)
    ]


def column(grid: reports.Grid, name: str) -> list:
    return [row[grid.columns.index(name)] for row in grid.rows]


def shown(report: reports.Report) -> str:
    console = Console(file=io.StringIO(), width=120)
    reports.show(report, f"make bench BENCH='{report.name}'", console)
    return console.file.getvalue()


def check(report: reports.Report) -> None:
    assert all(math.isfinite(cell) and cell >= 0 for cell in cells(report))
    assert all(len(set(grid.columns)) == len(grid.columns) for grid in report.grids)
    json.dumps(report.numbers(), allow_nan=False)
    assert f"make bench BENCH='{report.name}'" in shown(report)


def test_the_wire_is_measured():
    report = wire.measure([1000], samples=2)
    check(report)
    assert column(report.grids[0], "format")[0] == "PlantFed"
    assert column(report.grids[0], "ratio encode")[0] == 1
    assert column(report.grids[0], "ratio bytes")[0] == 1
    assert min(column(report.grids[0], "encode us") + column(report.grids[0], "decode us")) > 0


def test_the_simulator_is_measured():
    report = simulator.measure((simulator.Case(machines=3, slices=2, updates=4),))
    check(report)
    (best,) = column(report.grids[0], "updates per CPU s, best slice")
    (worst,) = column(report.grids[0], "worst slice")
    assert best >= worst > 0
    assert [goal.unit for goal in report.goals] == ["ms"]


def test_all_formats_carry_the_same_change():
    change = wire.change_of(50)
    for form in wire.formats_of(change):
        decoded = form.decode(form.encode()) * form.step
        assert np.array_equal(decoded, change * wire.STEP) == form.exact
    assert [form.name for form in wire.formats_of(change) if not form.exact] == ["PlantFed, top-k"]


def test_the_format_that_is_not_exact_carries_the_largest_of_the_change():
    change = wire.change_of(500)
    (top_k,) = [form for form in wire.formats_of(change) if not form.exact]
    sent = top_k.decode(top_k.encode())
    largest = np.argsort(-np.abs(change), kind="stable")[:10]
    assert set(np.flatnonzero(sent)) == set(largest.tolist())


def test_the_coordinator_is_measured():
    case = coordinator.Case((4, 3), members=8, slices=2, updates=16)
    report = coordinator.measure(case, case)
    check(report)
    throughput, commits, start, memory = report.grids
    assert min(cell for row in throughput.rows for cell in row) > 0
    assert min(cell for row in commits.rows for cell in row[1:]) > 0
    of_snapshot, of_all = column(start, "records replayed")
    assert of_snapshot <= of_all
    assert column(memory, "bytes per parameter")[0] >= 16


def test_durability_is_measured():
    case = durability.Case(4, 2, 8, 8, (4, 3), large_members=5, tail=7)
    report = durability.measure(case)
    check(report)
    plain, entropy, replayed, recovered = report.grids
    for ingest in (plain, entropy):
        synced, _, single, _, of_single = column(ingest, "updates per s")
        assert min(synced, single, of_single) > 0
    assert column(replayed, "updates") == [
        "dense, plain",
        "dense, entropy",
        "1 % of the numbers, entropy",
    ]
    plain_kb, entropy_kb, sparse_kb = column(replayed, "KB each")
    assert plain_kb > entropy_kb > sparse_kb
    assert column(recovered, "members") == [5]
    assert column(recovered, "updates replayed") == [7]
    # z and w, eight bytes a number
    assert column(recovered, "MB of rows") == [
        5 * 2 * 8 * column(recovered, "numbers each")[0] / 1e6
    ]
    assert len(report.goals) == 6


def test_footprint_is_judged_by_its_goals():
    report = reports.Report("footprint")
    at_rest = resting.Usage(processes=1, resident=65_000_000, private=1, processor=2.0)
    busiest = resting.Usage(processes=2, resident=90_000_000, private=1, processor=1.0)
    footprint.add_resting(
        report, resting.Footprint(busiest, at_rest, 5, seconds=60.0, processor=0.06)
    )
    packages = {f"package-{i}": (9 - i) * 10**6 for i in range(8)}
    footprint.add_installed(report, installed_size.Installed(45 * 10**6, packages))
    check(report)
    assert [goal.what for goal in report.missed] == ["RSS at rest"]
    assert "MISSED" in shown(report)
    assert "plantfed[agent]" in shown(report)
    assert report.grids[1].rows[-2] == ("3 others", 10.0)


def test_disk_bytes_counts_a_file_once(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(bytes(10_000))
    (tmp_path / "link").hardlink_to(file)
    once = installed_size.disk_bytes([file])
    assert once >= 10_000
    assert installed_size.disk_bytes([file, file, tmp_path / "link"]) == once


@pytest.mark.parametrize(
    ("complaint", "unreachable"),
    [
        ("ERROR: Could not find a version that satisfies x<3 (from versions: none)", True),
        ("WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConn", True),
        ("ERROR: Could not find a version that satisfies x<3 (from versions: 3.1, 4.0)", False),
        ("error: subprocess-exited-with-error", False),
    ],
)
def test_an_unreachable_index_is_told_from_a_failure(complaint, unreachable):
    assert installed_size.no_index_answers(complaint) == unreachable


def test_without_a_package_index_the_size_is_skipped_loudly(monkeypatch):
    used = resting.Usage(processes=1, resident=1, private=1, processor=0.0)

    def unreachable() -> installed_size.Installed:
        raise installed_size.NoIndexError("no route to host")

    monkeypatch.setattr(installed_size, "measure", unreachable)
    monkeypatch.setattr(
        footprint.resting_agent, "measure", lambda *_: resting.Footprint(used, used, 5, 1.0, 0.0)
    )
    report = footprint.run(quick=True)
    assert not report.missed
    assert "SKIPPED: installed size: the package index cannot be reached" in shown(report)


def test_a_demo_is_summed_up(demo_result):
    report = demo.report_of(demo_result)
    check(report)
    _, accuracy, traffic = report.grids
    assert accuracy.rows[0] == ("personal (PlantFed)", pytest.approx(0.7), 0.6)
    assert traffic.rows[0] == ("up", 8000, 400.0, 0.5)


def thin_result(dense: DemoResult, *, points_lost: float, times_fewer: float) -> DemoResult:
    personal = dense.accuracy.personal - points_lost / 100
    up, down = (round(n / times_fewer) for n in (dense.bytes.up, dense.bytes.down))
    changes = {
        "thin": True,
        "accuracy": dense.accuracy.model_copy(update={"personal": personal}),
        "bytes": dense.bytes.model_copy(update={"up": up, "down": down}),
    }
    return dense.model_copy(update=changes)


def test_a_thin_demo_is_set_beside_the_dense_one(demo_result):
    thin = thin_result(demo_result, points_lost=0.5, times_fewer=20)
    report = thin_demo.report_of([thin_demo.Pair(demo_result, thin)])
    check(report)
    learnt, traffic, differences = report.grids
    assert learnt.rows[0] == ("dense, seed 10", pytest.approx(0.7), 0.6, 10, 10, 10)
    assert traffic.rows == [
        ("dense, seed 10", 4.0, 8.0, 400.0, 800.0),
        ("thin, seed 10", 0.2, 0.4, 20.0, 40.0),
    ]
    assert differences.rows == [("seed 10", pytest.approx(0.5), 20.0, 20.0)]


@pytest.mark.parametrize(
    ("points_lost", "times_fewer", "missed"),
    [
        ((1.5, 0.4), 40, []),
        ((-9.0, -9.0), 40, []),
        ((1.5, 0.7), 40, ["accuracy lost, mean over seeds"]),
        ((0.0, 0.0), 2, ["bytes up", "bytes down"]),
    ],
)
def test_a_thin_demo_is_judged_by_the_mean_over_seeds(
    demo_result, points_lost, times_fewer, missed
):
    pairs = [
        thin_demo.Pair(
            demo_result, thin_result(demo_result, points_lost=p, times_fewer=times_fewer)
        )
        for p in points_lost
    ]
    assert [goal.what for goal in thin_demo.goals_of(pairs) if not goal.met] == missed


def test_a_thin_demo_is_run_with_the_same_plants_as_the_dense_one(monkeypatch, demo_result):
    asked = []

    def run_demo(out, *same, thin):
        asked.append((same, thin))
        return demo_result.model_copy(update={"thin": thin})

    monkeypatch.setattr(thin_demo, "run_demo", run_demo)
    report = thin_demo.run(quick=True)
    assert sorted(asked, key=lambda one: one[1]) == [(asked[0][0], False), (asked[0][0], True)]
    assert [row[0] for row in report.grids[0].rows] == ["dense, seed 10", "thin, seed 10"]
    assert not report.goals


@pytest.fixture
def demo_result() -> DemoResult:
    site = {"settings_lines": 1, "settings_files": [], "train_rows": 1, "test_rows": 1}
    agent = {**dict.fromkeys(COUNTS.split(), 1), "site": {**site, "classes": []}}
    others = {"local": 0.5, "global": 0.4, "of_other_mode": 0.45}
    agents = [
        {**agent, "id": name, "accuracy": {**others, "personal": personal}}
        for name, personal in (("a", 0.6), ("b", 0.8))
    ]
    found = {
        **dict.fromkeys(("plantfed", "started", "federation", "schedule"), "x"),
        "network": "mlp",
        **dict.fromkeys(("seed", "releases", "seconds", "total_seconds"), 10),
        "updates": 20,
        "versions": {},
        "thin": False,
        "algorithm": {},
        "other_mode": "fedapm",
        "compression": {},
        "broker": {"kind": "mosquitto", "url": "x"},
        "model": {"checksum": "x", "k": 1, "shared_parameters": 200, "personal_parameters": 1},
        "accuracy": {**others, "personal": 0.7},
        "bytes": {"up": 8000, "down": 16000},
        "messages": {"up": 20, "down": 20},
        "staleness_counts": [],
        "reported": [],
        "packages": [],
        "agents": agents,
    }
    return DemoResult.model_validate(found)


SMALL = networks.Network(
    "small", (2, 8), (("conv", (2, 3, 3)), ("relu", ()), ("pool", (2,)), ("flatten", ()))
)
SMALL = replace(SMALL, layers=(*SMALL.layers, ("linear", (12, 4))))

FAKE_TORCH = """
import json, sys
print(1.5, flush=True)
for line in sys.stdin:
    asked = line.strip()
    if asked.isdigit():
        print(0.001 * int(asked), flush=True)
    else:
        from pathlib import Path
        ours = Path(asked.replace("with_torch", "with_plantfed")).read_bytes()
        Path(asked).write_bytes(ours)
        print(10**9, flush=True)
"""
"""Answers as the process with torch does; its weights are ours."""


@pytest.fixture
def fake_torch(tmp_path) -> str:
    """A Python whose torch takes a millisecond a step."""
    program = tmp_path / "fake.py"
    program.write_text(FAKE_TORCH)
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nexec {sys.executable} {program}\n")
    python.chmod(0o755)
    return str(python)


def test_training_is_measured_beside_torch(fake_torch):
    pair = comparison.compare(SMALL, 4, fake_torch, slices=2)
    assert pair.difference == 0
    assert pair.torch == comparison.Side(pytest.approx(0.001), 1.5, 10**9)
    assert 0 < pair.ours.step_s < 0.1
    assert 0 < pair.ours.ready_s < 30
    assert 2e7 < pair.ours.peak_bytes < 5e8
    assert pair.ratio > 0.01


def test_other_weights_than_torchs_end_the_benchmark(fake_torch, monkeypatch, tmp_path):
    wrong = "import numpy as np; w = dict(np.load(asked.replace('with_torch', 'with_plantfed')))"
    wrong += "; w['0.bias'] = w['0.bias'] * 1.001; np.savez(asked, **w)"
    program = tmp_path / "fake.py"
    copied = "Path(asked).write_bytes(ours)"
    assert copied in FAKE_TORCH
    program.write_text(FAKE_TORCH.replace(copied, wrong))
    with pytest.raises(RuntimeError, match="after 8 steps the weights differ by"):
        comparison.compare(SMALL, 4, fake_torch, slices=1)


def test_the_products_of_a_step_are_counted():
    # forward, weights and, but for the first layer, inputs; two operations each
    assert networks.flops(SMALL) == 2 * (2 * 8 * 2 * 3 * 3 + 3 * 12 * 4)
    assert networks.flops(networks.NETWORKS["mlp"]) == 338_688


def test_training_is_judged_by_its_goals():
    ours = comparison.Side(step_s=0.001, ready_s=0.2, peak_bytes=100 * 10**6)
    theirs = comparison.Side(step_s=0.0015, ready_s=1.1, peak_bytes=260 * 10**6)
    pair = comparison.Pair(ours, theirs, ratio=1.5, difference=1e-6)
    report = training.report_of(dict.fromkeys(training.GOALS, pair), 1e11, "2.13")
    check(report)
    assert [goal.what for goal in report.missed] == [
        "MLP 561-128-64-6, 50: time of a step",
        "MLP 561-128-64-6, 8: time of a step",
        "1-D CNN, 9x128, 8: time of a step",
    ]
    at_peak = column(report.grids[0], "% of GEMM peak")[0]
    assert at_peak == pytest.approx(100 * 16.9344e6 / 1e11 / 0.001)


def test_without_torch_training_is_skipped_in_one_line(tmp_path):
    report = training.run(quick=True, torch=str(tmp_path / "none"))
    assert not report.grids
    assert not report.goals
    (reason,) = report.skipped
    assert reason.endswith("has no torch; name one that has: --torch PYTHON")


def test_jobs_are_timed_in_turn():
    costs = timing.interleaved(
        {"small": lambda: sum(range(100)), "large": lambda: sum(range(9000))}, 3
    )
    assert costs["small"].ratio == 1
    assert costs["large"].ratio > 2
    assert 0 < costs["small"].seconds < costs["large"].seconds


def test_a_goal_is_met_up_to_its_limit():
    assert reports.Goal("x", 64.0, 64.0, "MB").met
    assert not reports.Goal("x", 64.1, 64.0, "MB").met


def test_a_benchmark_that_fails_does_not_stop_the_others(monkeypatch, tmp_path):
    def fails(*, quick: bool) -> reports.Report:
        raise RuntimeError("no [luck]")

    def works(*, quick: bool) -> reports.Report:
        return reports.Report("wire", goals=[reports.Goal("x", 2.0, 1.0, "MB")])

    monkeypatch.setattr(command, "BENCHMARKS", {"demo": fails, "wire": works})
    monkeypatch.setattr(command, "LEARNING", {})
    json_file = tmp_path / "new" / "numbers.json"
    outcome = CliRunner().invoke(command.main, ["--quick", "--json", str(json_file)])
    assert outcome.exit_code == 1
    assert "FAILED: RuntimeError: no [luck]" in outcome.output
    assert "not as promised: demo: failed, wire: x" in outcome.output
    numbers = json.loads(json_file.read_text())
    assert numbers["benchmarks"]["demo"]["failed"] == "RuntimeError: no [luck]"
    assert not numbers["benchmarks"]["wire"]["goals"][0]["met"]
    assert {"date", "processor", "cores", "load"} <= set(numbers["machine"])
