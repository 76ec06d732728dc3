"""Whole demos as a reader starts them, and a broker that lets anybody in."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psutil
from tests.e2e.processes import find_mosquitto, until
from tests.free_ports import free_port

MARK = "PLANTFED_TEST_DEMO"
"""Environment variable that tells the processes of one test from all others."""


class Demo:
    """One demo, not yet started; its processes carry a mark."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.mark = uuid4().hex

    def start(self, *arguments: str, within: Sequence[str] = ()) -> "subprocess.Popen[str]":
        """Start it, possibly by another program that gets the command as its last arguments."""
        command = [sys.executable, "-P", "-m", "plantfed_lab", "demo", "--out", str(self.out)]
        return subprocess.Popen(
            [*within, *command, *arguments],
            env={**os.environ, MARK: self.mark},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def processes(self) -> list[psutil.Process]:
        return [p for p in psutil.process_iter() if self._is_ours(p)]

    def wait_for(self, words: str, n_processes: int) -> None:
        deadline = time.monotonic() + 30
        while True:
            commands = [" ".join(command_line(p)) for p in self.processes()]
            if sum(words in command for command in commands) >= n_processes:
                return
            assert time.monotonic() < deadline, commands
            time.sleep(0.05)

    def assert_nothing_is_left(self) -> None:
        deadline = time.monotonic() + 20
        while left := self.processes():
            assert time.monotonic() < deadline, [command_line(p) for p in left]
            time.sleep(0.05)

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return (
                process.status() != psutil.STATUS_ZOMBIE
                and process.environ().get(MARK) == self.mark
            )
        except psutil.Error:
            return False


def command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@contextmanager
def open_broker(folder: Path) -> Iterator[str]:
    """The address of a broker that asks for no password: mosquitto, else nats-server."""
    port = free_port()
    config = folder / "broker.conf"
    mosquitto = find_mosquitto()
    if mosquitto:
        config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    else:
        config.write_text(
            f'server_name: "test"\njetstream {{ store_dir: "{folder / "store"}" }}\n'
            f'listen: "127.0.0.1:{free_port()}"\nmqtt {{ listen: "127.0.0.1:{port}" }}\n'
        )
    program = mosquitto or str(Path(sys.executable).with_name("nats-server"))
    with (
        (folder / "broker.log").open("wb") as log,
        subprocess.Popen([program, "-c", str(config)], stdout=log, stderr=log) as process,
    ):
        try:
            until(lambda: _listens(process.pid, port), "the broker listens")
            yield f"mqtt://127.0.0.1:{port}"
        finally:
            process.terminate()


def _listens(pid: int, port: int) -> bool:
    found = psutil.Process(pid).net_connections("tcp")
    return any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in found)
