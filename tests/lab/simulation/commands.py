"""``plantfed simulate`` as a process or in this one, and what it says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.lab.simulation.scenarios import QUICK

from plantfed_lab.cli import commands
from plantfed_shared.command_line import run as run_command

NOTHING_HAPPENS, DATA, TRAINING, STORAGE, SETTINGS, INTERRUPTED = 1, 65, 70, 74, 78, 130
HEAD = """[agent]
id = "{id}"
federation = "tennessee-eastman"

[broker]
url = "mqtt://127.0.0.1:1883"
"""
ENDLESS = QUICK.replace("updates = 60", "duration_s = 3e8\nevaluate_every_s = 1e4")


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "plantfed_lab", "simulate", *map(str, arguments)]


def run(
    *arguments: object, folder: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        cwd=folder,
        check=False,
        timeout=100,
    )


def run_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> subprocess.CompletedProcess[str]:
    """The same without a process of its own, which takes most of a second to import it all."""
    words = ["plantfed", "simulate", *map(str, arguments)]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as end:
        run_command(commands, "plantfed")
    assert isinstance(end.value.code, int)
    said = capsys.readouterr()
    return subprocess.CompletedProcess(words, end.value.code, said.out, said.err)


def assert_one_line(outcome: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert outcome.returncode == code, outcome
    lines = outcome.stderr.splitlines()
    assert len(lines) == 1, outcome.stderr
    assert lines[0].startswith("plantfed: ")
    for word in words:
        assert word in lines[0], lines[0]
