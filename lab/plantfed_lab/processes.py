"""Processes started through their public commands, watched, and ended in good order."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Self

import psutil

from plantfed_shared.errors import PlantfedError

STOP_PATIENCE_S = 15.0
_PROGRAM_NAME = re.compile(r"^plantfed-\w+: ")


@dataclass(frozen=True, slots=True)
class Child:
    """A running process.

    Attributes:
        name: for messages and for its log.
        module: the Python module it runs.
        process: itself.
        log: what it writes.
    """

    name: str
    module: str
    process: "subprocess.Popen[bytes]"
    log: Path


class Processes:
    """Context manager: when it ends, so have all processes.

    Args:
        log_dir: gets one file per process.
    """

    def __init__(self, log_dir: Path) -> None:
        self._log_dir = log_dir
        self._children: list[Child] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, name: str, module: str, arguments: Sequence[str], folder: Path) -> Child:
        """Run a module of this Python in a folder."""
        log = self._log_dir / f"{name}.log"
        # -P: a file in the folder must not pass for a module
        python = [sys.executable, "-P", "-m"]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*python, "plantfed_shared.tether", str(os.getpid()), *python, module, *arguments],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C reaches us alone, and we end the others in good order
                start_new_session=True,
            )
        child = Child(name, module, process, log)
        self._children.append(child)
        return child

    def check(self) -> None:
        """Find out whether all still run.

        Raises:
            PlantfedError: one has ended; with its last words and its exit code.
        """
        for child in self._children:
            if child.process.poll() is not None:
                raise _ended(child)

    def stop(self) -> None:
        """End all, those started last first, the same kind together; Ctrl-C waits for it."""
        with signals_ignored():
            for _, group in groupby(reversed(self._children), key=lambda child: child.module):
                _end([child.process for child in group])
        self._children.clear()


@contextmanager
def signals_ignored() -> Iterator[None]:
    """Neither Ctrl-C nor SIGTERM interrupts what is done in here."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """SIGTERM does what Ctrl-C does, and Ctrl-C also where a script started us in the background.

    Shells without job control start such a program with SIGINT ignored.
    """

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def last_line(log: Path) -> str:
    """The last line of a log that says something."""
    lines = log.read_bytes()[-4096:].decode(errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _ended(child: Child) -> PlantfedError:
    """Why a process ended, as the kind of error whose exit code it had."""
    code = child.process.returncode
    what = f"ended with exit code {code}" if code >= 0 else f"was killed by signal {-code}"
    said = _PROGRAM_NAME.sub("", last_line(child.log)) or "it said nothing"
    kind = {kind.exit_code: kind for kind in _kinds(PlantfedError)}.get(code, PlantfedError)
    return kind(f"{what}: {said}", where=child.name, hint=f"Look into {child.log}")


def _kinds(kind: type[PlantfedError]) -> Iterator[type[PlantfedError]]:
    for narrower in kind.__subclasses__():
        if "exit_code" in vars(narrower):
            yield narrower
        yield from _kinds(narrower)


def _end(processes: Sequence["subprocess.Popen[bytes]"]) -> None:
    for process in processes:
        if process.poll() is None:
            process.terminate()
    deadline = monotonic() + STOP_PATIENCE_S
    for process in processes:
        try:
            process.wait(max(0.0, deadline - monotonic()))
        except subprocess.TimeoutExpired:
            # what a killed process has started itself would be left alone
            stubborn = psutil.Process(process.pid)
            _kill([*stubborn.children(recursive=True), stubborn])
            process.wait()


def _kill(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
