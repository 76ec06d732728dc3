"""When a fault is over everything goes on by itself, within one keep alive and five seconds."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.e2e.judging import (
    assert_agents_agree,
    assert_journal_counts_everything_once,
    lost_updates,
)
from tests.e2e.outcomes import STORAGE, assert_ends_with_one_line
from tests.e2e.plant import Agent, Plant
from tests.e2e.processes import Running, find_mosquitto, until
from tests.e2e.vanishing import way_to

from plantfed_coordinator.journal import FILE_NAME
from plantfed_shared.store import reading

KEEPALIVE_S = 10
RECOVERS_WITHIN_S = KEEPALIVE_S + 5.0
ROOT = Path(__file__).parents[2]
YEAR_S = 365 * 86400

pytestmark = pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")


def configure(plant: Plant, **more: object) -> None:
    broker = {"keepalive_s": KEEPALIVE_S, **more}
    plant.configure(broker=broker)
    for agent in plant.agents:
        agent.configure(broker=broker, training={"nice": 0, "max_rounds_without_new_rows": 10**6})


def start(plant: Plant) -> None:
    plant.start_mosquitto()
    plant.start_coordinator()
    for agent in plant.agents:
        agent.start()
    plant.goes_on(2)


def goes_on_soon(plant: Plant, agent: Agent, meanwhile: Callable[[], None] = lambda: None) -> float:
    """Wait for an update of this agent that is trained, applied and released from now on.

    Returns:
        Seconds until then.
    """
    began, rounds, applied = time.monotonic(), agent.rounds(), agent.state().applied_seq
    releases = plant.releases()

    def all_of_it() -> bool:
        meanwhile()
        state = agent.state()
        more = state.rounds > rounds and state.applied_seq > applied + 1
        return more and plant.releases() > releases

    until(all_of_it, "it goes on by itself", RECOVERS_WITHIN_S)
    return time.monotonic() - began


def judge(plant: Plant) -> None:
    assert lost_updates(plant) == {}
    for agent in plant.agents:
        assert agent.process.stop() == 0
    assert plant.coordinator is not None
    assert plant.coordinator.stop() == 0
    assert_journal_counts_everything_once(plant, [agent.id for agent in plant.agents])
    assert_agents_agree(plant)


# ---------------------------------------------------------------------- a full disk


@contextmanager
def tmpfs(folder: Path) -> Iterator[Callable[[], None]]:
    """A small disk of its own; the callable makes room on it."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a disk")
    filler = folder / "filler"
    try:
        yield lambda: filler.unlink()
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path) -> None:
    """Take every last byte."""
    with (folder / "filler").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(512))


class Unit:
    """systemd's part, as our unit files want it: start again what has failed."""

    def __init__(self, file: str, service: Callable[[], Running], start: Callable[[], object]):
        parser = ConfigParser(interpolation=None, strict=False, delimiters="=")
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read_string((ROOT / file).read_text())
        section = parser["Service"]
        assert section["Restart"] == "on-failure"
        self._pause_s = float(section["RestartSec"])
        self._stays_down = {int(code) for code in section["RestartPreventExitStatus"].split()}
        self._service, self._start = service, start
        self._ended_at = 0.0
        self.ends: list[int] = []

    def look(self) -> None:
        code = self._service().poll()
        if code is None:
            self._ended_at = 0.0
            return
        if not self._ended_at:
            self._ended_at = time.monotonic()
            self.ends.append(code)
            assert code not in self._stays_down, self._service().log
        elif time.monotonic() >= self._ended_at + self._pause_s:
            self._ended_at = 0.0
            self._start()


def coordinator_of(plant: Plant) -> Running:
    assert plant.coordinator is not None
    return plant.coordinator


@pytest.mark.parametrize("program", ["agent", "coordinator"])
def test_a_full_disk(plant: Plant, agent: Agent, program: str) -> None:
    """It ends with one line, is started again, waits, and goes on once there is room."""
    disk = plant.folder / "disk"
    with tmpfs(disk) as make_room:
        configure(plant)
        broker = {"keepalive_s": KEEPALIVE_S}
        if program == "agent":
            agent.configure(agent={"state_dir": "../disk/agent"}, broker=broker)
            agent.state_dir = disk / "agent"
            unit = Unit("edge_agent/plantfed-agent@.service", lambda: agent.process, agent.start)
        else:
            plant.configure(coordinator={"state_dir": "disk/coordinator"}, broker=broker)
            plant.state_dir = disk / "coordinator"
            unit = Unit(
                "coordinator/plantfed-coordinator.service",
                lambda: coordinator_of(plant),
                plant.start_coordinator,
            )
        start(plant)
        fill(disk)
        service = agent.process if program == "agent" else coordinator_of(plant)
        assert_ends_with_one_line(service, STORAGE, "database or disk is full", "Free some space")
        unit.look()

        def waits_for_room() -> bool:
            unit.look()
            again = agent.process if program == "agent" else coordinator_of(plant)
            return again is not service and "waiting for room" in again.log

        until(waits_for_room, "it is started again and waits", 20)
        make_room()
        goes_on_soon(plant, agent, unit.look)
        assert unit.ends == [STORAGE]
        judge(plant)


# ---------------------------------------------------------------------- the clock

FAKETIME = [
    path
    for folder in ("x86_64-linux-gnu", "aarch64-linux-gnu", "")
    if (path := Path("/usr/lib") / folder / "faketime" / "libfaketimeMT.so.1").exists()
]


@pytest.mark.skipif(not FAKETIME, reason="libfaketime is not installed: apt install faketime")
def test_the_clock_jumps_by_a_year(
    plant: Plant, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everybody's, broker's and training process's included, there and back again."""
    jump = plant.folder / "jump"
    jump.write_text("+0")
    monkeypatch.setenv("FAKETIME_TIMESTAMP_FILE", str(jump))
    monkeypatch.setenv("FAKETIME_NO_CACHE", "1")
    monkeypatch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    monkeypatch.setenv("FAKETIME_DONT_RESET", "1")
    monkeypatch.setenv("LD_PRELOAD", str(FAKETIME[0]))
    configure(plant)
    start(plant)
    for seconds in (YEAR_S, -YEAR_S, 0):
        jump.write_text(f"{seconds:+d}")
        goes_on_soon(plant, agent)
        assert abs(last_written(plant) - time.time() - seconds) < 3600, "the clock has jumped"
    judge(plant)


def last_written(plant: Plant) -> float:
    with reading(plant.state_dir / FILE_NAME) as database:
        rows = database.execute("SELECT unix_time FROM journal ORDER BY id DESC LIMIT 1")
    return float(rows[0][0])


# ---------------------------------------------------------------------- a partition


@pytest.mark.parametrize(
    ("side", "cut_s", "keepalive_s"),
    [
        # longer than it takes both sides to notice
        pytest.param("coordinator", 12.0, KEEPALIVE_S / 2),
        pytest.param("agent", 60.0, KEEPALIVE_S, marks=pytest.mark.soak),
        pytest.param("coordinator", 60.0, KEEPALIVE_S, marks=pytest.mark.soak),
    ],
)
def test_a_partition(
    plant: Plant, agent: Agent, side: str, cut_s: float, keepalive_s: float
) -> None:
    configure(plant, keepalive_s=int(keepalive_s))
    with way_to(plant.port) as way:
        through = {"url": f"mqtt://127.0.0.1:{way.port}", "keepalive_s": int(keepalive_s)}
        if side == "agent":
            agent.configure(broker=through, training={"max_rounds_without_new_rows": 10**6})
        else:
            plant.configure(broker=through)
        start(plant)
        way.cut()
        cut_at = time.monotonic()
        service = agent.process if side == "agent" else coordinator_of(plant)
        service.says("no connection to the broker", 3 * KEEPALIVE_S)
        time.sleep(max(0.0, cut_at + cut_s - time.monotonic()))  # how long it is cut is the case
        releases = plant.releases()
        way.mend()
        goes_on_soon(plant, agent)
        assert plant.releases() > releases
        judge(plant)
