"""What a service tells of itself, when it must, and what is made of it."""

import os
from math import inf
from pathlib import Path

import pytest

from plantfed_shared import vitals as module
from plantfed_shared.bus.connection_state import ConnectionState, Trouble, TroubleKind
from plantfed_shared.service_manager import ServiceManager
from plantfed_shared.vitals import HUNG_AFTER_S, Vitals

CONNECTED = ConnectionState(True, 5.0)
CUT = CONNECTED.failed(Trouble("the cable is out", TroubleKind.UNAVAILABLE, 7.0))


class Manager(ServiceManager):
    """Notes what it is told."""

    def __init__(self, watchdog_s: float = inf) -> None:
        super().__init__({})
        self.watchdog_s = watchdog_s
        self.heard: list[str] = []

    def _say(self, line: str, patience_s: float = 0.0) -> None:
        self.heard.append(line)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_ready_comes_first_and_once(tmp_path: Path) -> None:
    manager, clock = Manager(30.0), Clock()
    vitals = Vitals(manager, tmp_path, clock=clock)
    for _ in range(50):
        vitals.turn(CUT, 100.0, release=3)
    assert manager.heard == [
        "READY=1", "STATUS=no connection to the broker, release 3", "WATCHDOG=1"
    ]  # fmt: skip


def test_the_watchdog_is_fed_by_turns_alone_three_times_as_often_as_it_must(tmp_path: Path) -> None:
    manager, clock = Manager(30.0), Clock()
    vitals = Vitals(manager, tmp_path, clock=clock)
    vitals.turn(CONNECTED, 100.0)
    assert vitals.next_at == 110.0
    clock.now = 1000.0
    assert manager.heard.count("WATCHDOG=1") == 1
    vitals.turn(CONNECTED, 100.0)
    assert manager.heard.count("WATCHDOG=1") == 2


def test_news_of_the_connection_are_told_at_once(tmp_path: Path) -> None:
    manager = Manager()
    vitals = Vitals(manager, tmp_path, clock=Clock())
    for connection in (CUT, CONNECTED, CONNECTED, CUT):
        vitals.turn(connection, 100.0)
    assert [line for line in manager.heard if line.startswith("STATUS")] == [
        "STATUS=no connection to the broker",
        "STATUS=connected",
        "STATUS=no connection to the broker",
    ]


def test_a_loop_that_nobody_watches_may_sleep(tmp_path: Path) -> None:
    vitals = Vitals(Manager(), tmp_path, clock=Clock())
    vitals.turn(CONNECTED, 100.0)
    assert vitals.next_at == inf
    vitals = Vitals(Manager(), tmp_path, watched=True, clock=Clock())
    vitals.turn(CONNECTED, 100.0)
    assert vitals.next_at < 110.0


def test_health(tmp_path: Path) -> None:
    clock = Clock()
    vitals = Vitals(Manager(), tmp_path, watched=True, clock=clock)
    assert vitals.alive() == vitals.ready() == (False, {"reason": "it is starting"})
    vitals.turn(CONNECTED, 90.0, release=3)
    clock.now = 102.0
    assert vitals.alive() == (True, {"seconds_since_loop": 2.0})
    ready, told = vitals.ready()
    assert ready
    assert told.pop("disk_free_bytes") > 0
    assert told == {
        "reason": None,
        "connected": True,
        "connection_since": 5.0,
        "last_trouble": None,
        "seconds_since_release": 12.0,
        "seconds_since_loop": 2.0,
        "release": 3,
    }


def test_what_makes_it_unready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    vitals = Vitals(Manager(), tmp_path, watched=True, clock=clock)
    vitals.turn(CUT, 90.0)
    assert vitals.alive()[0]
    ready, told = vitals.ready()
    assert (ready, told["reason"]) == (False, "no connection to the broker")
    assert told["last_trouble"] == "the cable is out"

    vitals.turn(CONNECTED, 90.0)
    monkeypatch.setattr(module, "LEAST_FREE_BYTES", 2**70)
    assert vitals.ready()[1]["reason"] == "the disk is nearly full"
    monkeypatch.undo()

    clock.now += HUNG_AFTER_S + 1
    assert vitals.alive() == (False, {"reason": "its loop hangs", "seconds_since_loop": 61.0})
    assert vitals.ready()[1]["reason"] == "its loop hangs"


def test_a_disk_that_cannot_be_asked_has_no_room(tmp_path: Path) -> None:
    vitals = Vitals(Manager(), tmp_path / "nowhere", clock=Clock())
    vitals.turn(CONNECTED, 90.0)
    ready, told = vitals.ready()
    assert (ready, told["disk_free_bytes"]) == (False, 0)
    assert os.statvfs(tmp_path).f_bavail > 0
