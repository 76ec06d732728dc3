"""Commands and services as processes of their own, and waiting for what they do."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil

T = TypeVar("T")

PROGRAMS = {
    "agent": "plantfed_agent",
    "coordinator": "plantfed_coordinator",
    "broker": "plantfed_broker",
}
MARK = "PLANTFED_TEST_PLANT"
"""Environment variable that tells the processes of one test from all others."""
POLL_S = 0.02
STOP_WITHIN_S = 5.0
"""What every service promises for SIGTERM."""


# ---------------------------------------------------------------------- waiting


def until(condition: Callable[[], T | None], what: str, within_s: float = 40.0) -> T:
    """Poll until a condition holds; returns what it returned."""
    deadline = time.monotonic() + within_s
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(POLL_S)


# ---------------------------------------------------------------------- processes


def find_mosquitto() -> str | None:
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))
    return shutil.which("mosquitto", path=path)


def command_of(program: str, *arguments: object) -> list[str]:
    return [sys.executable, "-P", "-m", PROGRAMS[program], *map(str, arguments)]


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str


def run(
    program: str, *arguments: object, within_s: float = 30.0, cwd: Path | None = None
) -> Outcome:
    """Run one command to its end."""
    done = subprocess.run(
        command_of(program, *arguments),
        capture_output=True,
        text=True,
        timeout=within_s,
        stdin=subprocess.DEVNULL,
        cwd=cwd,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


class Running:
    """A service in the background that writes to one file."""

    def __init__(self, command: Sequence[str], log_file: Path, mark: str) -> None:
        self.log_file = log_file
        self._log_start = log_file.stat().st_size if log_file.exists() else 0
        with log_file.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, MARK: mark, "PYTHONWARNINGS": "error"},
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        """What it has written since it was started."""
        return self.log_from(0)

    def log_from(self, place: int) -> str:
        """The same from this byte on."""
        with self.log_file.open("rb") as file:
            file.seek(self._log_start + place)
            return file.read().decode()

    def says(self, text: str, within_s: float = 40.0) -> None:
        """Wait for a line."""

        def said() -> bool:
            if text in self.log:
                return True
            assert self._process.poll() is None, f"ended without {text!r}:\n{self.log}"
            return False

        until(said, f"{self.log_file.name} says {text!r}", within_s)

    def children(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            return list(psutil.Process(self.pid).children(recursive=True))
        return []

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def pause(self) -> None:
        """SIGSTOP; it writes nothing any more once this has returned, until it is sent SIGCONT."""
        self.send(signal.SIGSTOP)
        until(lambda: psutil.Process(self.pid).status() == psutil.STATUS_STOPPED, "it pauses", 5)

    def poll(self) -> int | None:
        """The exit code, once it has ended."""
        return self._process.poll()

    def kill(self) -> None:
        """SIGKILL: it can do nothing about it."""
        assert self._process.poll() is None, f"had ended before:\n{self.log}"
        self._process.kill()
        self._process.wait()

    def ends(self, within_s: float = 40.0) -> int:
        """Wait for its end; returns the exit code."""
        code = until(lambda: (self._process.poll(),) != (None,), "it ends", within_s)
        assert code
        return self._process.returncode

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end in good order; returns the exit code."""
        assert self._process.poll() is None, f"had ended before:\n{self.log}"
        self.send(number)
        return self.ends(STOP_WITHIN_S)

    def dispose(self) -> None:
        """End it, whatever it does."""
        if self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_WITHIN_S)
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()


def marked(mark: str) -> list[psutil.Process]:
    """Every living process that was started for one test, by whomever."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            alive = process.status() != psutil.STATUS_ZOMBIE
            if alive and process.environ().get(MARK) == mark and process.pid != os.getpid():
                found.append(process)
    return found
