"""Services under systemd, and asked by a monitor: both parts are played by the test."""

import json
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from tests.e2e.outcomes import BROKER, SETTINGS, assert_one_line, run_agent, run_coordinator
from tests.e2e.plant import Agent, Plant
from tests.e2e.processes import Running, until
from tests.free_ports import free_port

from plantfed_shared.store import amending

WATCHDOG_S = 1.5


class Supervisor:
    """Where one service says how it does."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self.lines: list[str] = []
        self._monkeypatch = monkeypatch
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)

    def watches_what_starts_now(self) -> None:
        self._monkeypatch.setenv("NOTIFY_SOCKET", str(self.path))
        self._monkeypatch.setenv("WATCHDOG_USEC", str(int(WATCHDOG_S * 1e6)))

    def heard(self) -> list[str]:
        """All lines so far."""
        while True:
            try:
                self.lines.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return self.lines

    def hears(self, text: str) -> None:
        """Wait for a line that comes from now on."""
        so_far = len(self.heard())
        until(lambda: any(line.startswith(text) for line in self.heard()[so_far:]), text, 20)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def supervisors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Supervisor, Supervisor]]:
    two = [Supervisor(tmp_path / f"notify-{name}", monkeypatch) for name in ("c", "a")]
    yield two[0], two[1]
    for one in two:
        one.close()


def test_under_systemd(
    plant: Plant, agent: Agent, supervisors: tuple[Supervisor, Supervisor]
) -> None:
    of_coordinator, of_agent = supervisors
    of_coordinator.watches_what_starts_now()
    coordinator = plant.start_coordinator()
    of_agent.watches_what_starts_now()
    agent.start()
    for one in supervisors:
        # they serve although there is no broker yet: to end for that would help nobody
        until(lambda s=one: "READY=1" in s.heard(), "it is ready", 20)  # type: ignore[misc]
        assert one.lines[0] == "READY=1"
        assert one.lines[1].startswith("STATUS=no connection to the broker")
    plant.start_broker()
    for one in supervisors:
        one.hears("STATUS=connected, release")
        one.hears("WATCHDOG=1")
    plant.goes_on(2)
    worker = until(agent.worker, "it trains")
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC"} & set(worker.environ())

    hangs(agent.process, of_agent, agent.state_dir / "agent.db")
    of_agent.watches_what_starts_now()
    agent.start()
    plant.goes_on(1)
    hangs(coordinator, of_coordinator, plant.state_dir / "coordinator.db")
    of_coordinator.watches_what_starts_now()
    coordinator = plant.start_coordinator()
    plant.goes_on(2)
    for service, one in ((agent.process, of_agent), (coordinator, of_coordinator)):
        one.heard()
        assert service.stop() == 0
        assert one.heard()[-1] == "STOPPING=1"


def hangs(service: Running, supervisor: Supervisor, database: Path) -> None:
    """Its loop gets stuck at a write: the watchdog hears nothing, and ends it as systemd does."""
    with amending(database) as ours, ours.transaction():
        until(lambda: silent_for(supervisor, 1.5 * WATCHDOG_S), "the watchdog is not fed", 9)
        service.send(signal.SIGABRT)
        assert service.ends() == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in service.log
    assert "store.py" in service.log, "where it hung"


def silent_for(supervisor: Supervisor, seconds: float) -> bool:
    before = len(supervisor.heard())
    time.sleep(seconds)  # that nothing comes is what is waited for
    return len(supervisor.heard()) == before


def ask(port: int, path: str) -> tuple[int, dict[str, Any]]:
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, json.load(answer)
    except HTTPError as refused:
        with refused:
            return refused.code, json.load(refused)


def test_under_a_monitor(plant: Plant, agent: Agent) -> None:
    ports = {"coordinator": free_port(), "agent": free_port()}
    plant.configure(health={"listen": f"127.0.0.1:{ports['coordinator']}"})
    agent.configure(health={"listen": f"127.0.0.1:{ports['agent']}"})
    plant.start()
    plant.goes_on(2)
    for port in ports.values():
        assert ask(port, "/healthz")[0] == 200
        status, told = ask(port, "/readyz")
        assert (status, told["connected"]) == (200, True)
        assert told["release"] >= 1
        assert told["seconds_since_release"] < 60
        assert told["disk_free_bytes"] > 0
    assert ask(ports["coordinator"], "/readyz")[1]["members"] == 1

    taken = f"health.listen = 127.0.0.1:{ports['agent']}"
    plant.configure(
        health={"listen": f"127.0.0.1:{ports['agent']}"}, coordinator={"state_dir": "x"}
    )
    assert_one_line(run_coordinator(plant, "run"), BROKER, taken, "Give another port")

    assert plant.broker is not None
    assert plant.broker.stop() == 0
    for port in ports.values():
        until(lambda p=port: ask(p, "/readyz")[0] == 503, "it says it is not ready")  # type: ignore[misc]
        assert ask(port, "/readyz")[1]["reason"] == "no connection to the broker"
        assert ask(port, "/healthz")[0] == 200


def test_a_port_that_is_none(plant: Plant, agent: Agent) -> None:
    plant.configure(health={"listen": "127.0.0.1:99999"})
    agent.configure(health={"listen": "127.0.0.1"})
    words = ("health.listen = ", "127.0.0.1")
    assert_one_line(run_coordinator(plant, "run"), SETTINGS, *words, "from 1 to 65535")
    assert_one_line(run_agent(agent, "run"), SETTINGS, *words, "such as 127.0.0.1:8321")
