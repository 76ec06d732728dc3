"""How ``plantfed simulate`` ends when it is stopped, and what becomes of its result."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from tests.lab.simulation.commands import (
    ENDLESS,
    INTERRUPTED,
    SETTINGS,
    STORAGE,
    assert_one_line,
    command,
    run,
    run_here,
)
from tests.lab.simulation.scenarios import QUICK, write
from tests.lab.simulation.test_own_files import sites

from plantfed_shared.command_line import UNREAD


def test_a_result_that_cannot_be_written_is_refused_before_the_run(tmp_path: Path) -> None:
    path = write(tmp_path, ENDLESS)
    (tmp_path / "file").touch()
    assert_one_line(
        run(path, "--json", tmp_path / "file" / "r.json"), STORAGE, "file: ", "no folder"
    )
    (tmp_path / "out" / "report.html").mkdir(parents=True)
    assert_one_line(run(path, "--out", tmp_path / "out"), STORAGE, "out/report.html")


def test_what_the_scenario_reads_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, sites(tmp_path))
    out = tmp_path / "out"
    out.mkdir()
    (out / "result.json").symlink_to(path)
    (tmp_path / "link.json").hardlink_to(tmp_path / "plant-02" / "test.npz")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    words = ("would overwrite", "which the simulation reads")
    for read in ("scenario.toml", "federation.toml", "plant-01/agent.toml", "plant-01/train.csv"):
        target = tmp_path / read
        outcome = run_here(monkeypatch, capsys, path, "--json", target)
        assert_one_line(outcome, SETTINGS, f"{target}: ", *words)
    for option, target in (("--json", tmp_path / "link.json"), ("--out", out)):
        outcome = run_here(monkeypatch, capsys, path, option, target)
        assert_one_line(outcome, SETTINGS, str(target), *words)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_the_result_is_not_written_where_the_report_is(tmp_path: Path) -> None:
    path, out = write(tmp_path, ENDLESS), tmp_path / "out"
    outcome = run(path, "--json", out / "report.html", "--out", out)
    assert_one_line(outcome, SETTINGS, "out/report.html", "where --out writes its report")


def test_a_reader_that_goes_away_ends_it_in_silence(tmp_path: Path) -> None:
    with started(write(tmp_path, ENDLESS), "--out", tmp_path / "out") as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(timeout=60) == UNREAD
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert not (tmp_path / "out").exists()


def started(*arguments: object) -> subprocess.Popen[str]:
    """A run that has shown that it is going on."""
    process = subprocess.Popen(
        command(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("  0%")
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_with_one_line(number: signal.Signals, tmp_path: Path) -> None:
    with started(write(tmp_path, ENDLESS), "--out", tmp_path / "out") as process:
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED
    assert errors.startswith("plantfed: stopped at virtual second")
    assert len(errors.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_stopped_leaves_the_result_of_another(
    number: signal.Signals, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with started(write(tmp_path, ENDLESS), "--out", out) as process:
        assert run(write(tmp_path), "--out", out).returncode == 0
        found = {path: path.read_bytes() for path in out.iterdir()}
        assert {path.name for path in found} == {"report.html", "result.json"}
        process.send_signal(number)
        process.communicate(timeout=60)
    assert {path: path.read_bytes() for path in out.iterdir()} == found


def test_a_run_that_is_killed_leaves_no_empty_result(tmp_path: Path) -> None:
    with started(
        write(tmp_path, ENDLESS), "--out", tmp_path / "out", "--json", tmp_path / "r.json"
    ) as process:
        process.kill()
        process.communicate(timeout=60)
    assert not [path for path in tmp_path.rglob("*.*") if path.stat().st_size == 0]


def test_a_folder_that_another_run_has_tidied_away_is_made_again(tmp_path: Path) -> None:
    text = QUICK.replace("updates = 60", "updates = 200")
    with started(write(tmp_path, text), "--json", tmp_path / "out" / "r.json") as process:
        (tmp_path / "out").rmdir()
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads((tmp_path / "out" / "r.json").read_text())["updates"] == 200
