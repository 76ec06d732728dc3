import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from plantfed_lab.processes import Processes, last_line, signals_interrupt
from plantfed_shared.errors import BrokerRefused, PlantfedError

ENDS = "import sys; print('plantfed-agent: no such user', file=sys.stderr); sys.exit({})"
SLEEPS = "import time; print('ready', flush=True); time.sleep(60)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + SLEEPS
WITH_CHILD = (
    "import subprocess, sys; c = subprocess.Popen([sys.executable, '-c', 'import time;"
    "time.sleep(60)'], start_new_session=True); print(c.pid, flush=True);" + DEAF
)


def module(folder: Path, text: str) -> str:
    """A module that the started Python finds: it gets the folder by PYTHONPATH."""
    (folder / "program_of_test.py").write_text(text)
    return "program_of_test"


@pytest.fixture(autouse=True)
def _path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(tmp_path), before))))


def until(condition: object, within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_process_that_ends_early_gives_its_last_words_and_exit_code(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        child = processes.start("plant-01", module(tmp_path, ENDS.format(77)), [], tmp_path)
        child.process.wait()
        with pytest.raises(BrokerRefused, match=r"^plant-01: .*77: no such user") as caught:
            processes.check()
    assert caught.value.exit_code == 77


def test_an_unknown_exit_code_is_an_error_too(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        child = processes.start("plant-01", module(tmp_path, ENDS.format(0)), [], tmp_path)
        child.process.wait()
        with pytest.raises(PlantfedError, match="exit code 0") as caught:
            processes.check()
    assert caught.value.exit_code == 1


def test_all_have_ended_when_the_block_ends(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        name = module(tmp_path, SLEEPS)
        children = [processes.start(f"p{n}", name, [], tmp_path) for n in range(3)]
        until(lambda: all(last_line(c.log) == "ready" for c in children))
        processes.check()
    assert {c.process.returncode for c in children} == {-signal.SIGTERM}


def test_who_does_not_listen_is_killed_with_all_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plantfed_lab.processes.STOP_PATIENCE_S", 0.2)
    with Processes(tmp_path) as processes:
        child = processes.start("deaf", module(tmp_path, WITH_CHILD), [], tmp_path)
        until(lambda: "ready" in child.log.read_text())
        grandchild = psutil.Process(int(child.log.read_text().split()[0]))
    assert child.process.returncode == -signal.SIGKILL
    until(lambda: not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE)


def test_children_end_when_the_parent_is_killed(tmp_path: Path) -> None:
    name = module(tmp_path, SLEEPS)
    parent_text = (
        "import time; from pathlib import Path; from plantfed_lab.processes import Processes\n"
        f"p = Processes(Path({str(tmp_path)!r}))\n"
        f"print(p.start('child', {name!r}, [], Path({str(tmp_path)!r})).process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", parent_text], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        until(lambda: last_line(tmp_path / "child.log") == "ready")
        parent.kill()
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_interrupt_and_are_given_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), signals_interrupt():
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_the_last_line_skips_empty_ones(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("first\n last one \n\n")
    (tmp_path / "empty").write_text("")
    assert last_line(tmp_path / "log") == "last one"
    assert last_line(tmp_path / "empty") == ""
