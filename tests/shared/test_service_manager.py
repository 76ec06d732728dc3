"""sd_notify(3), with a socket of ours in the place of systemd's."""

import os
import socket
import threading
from collections.abc import Iterator
from math import inf
from pathlib import Path

import pytest

from plantfed_shared.service_manager import ServiceManager


class Manager:
    """Listens where systemd would."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        lines = []
        while True:
            try:
                lines.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return lines


@pytest.fixture(params=["file", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Manager, str]]:
    name = f"plantfed-{os.getpid()}-{tmp_path.name}"
    path = str(tmp_path / "notify")
    said, bound = ("@" + name, "\0" + name) if request.param == "abstract" else (path, path)
    made = Manager(bound)
    yield made, said
    made.socket.close()


def test_what_it_is_told(manager: tuple[Manager, str]) -> None:
    listener, address = manager
    environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000", "HOME": "/"}
    ours = ServiceManager(environment)
    assert ours.watchdog_s == 30.0
    assert environment == {"HOME": "/"}, "the training process must not speak for us"
    ours.ready()
    ours.status("connected")
    ours.status("connected")
    ours.alive()
    ours.stopping()
    expected = ["READY=1", "STATUS=connected", "WATCHDOG=1", "STOPPING=1"]
    assert listener.heard() == expected


def test_a_watchdog_for_another_process() -> None:
    environment = {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid() + 1)}
    assert ServiceManager(environment).watchdog_s == inf
    environment = {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid())}
    assert ServiceManager(environment).watchdog_s == 1.0


def test_without_one_or_with_one_that_is_gone_nothing_happens(tmp_path: Path) -> None:
    for address in ("", str(tmp_path / "nowhere")):
        ours = ServiceManager({"NOTIFY_SOCKET": address})
        ours.ready()
        ours.status("connected")
        ours.alive()
        ours.stopping()


def test_one_that_is_too_busy_is_not_waited_for_but_hears_what_matters(
    manager: tuple[Manager, str],
) -> None:
    listener, address = manager
    ours = ServiceManager({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"})
    for _ in range(10_000):
        ours.alive()
    heard: list[str] = []
    # what makes room may hear the last word too
    soon = threading.Timer(0.2, lambda: heard.extend(listener.heard()))
    soon.start()
    ours.stopping()
    soon.join()
    heard += listener.heard()
    assert heard[-1:] == ["STOPPING=1"]
