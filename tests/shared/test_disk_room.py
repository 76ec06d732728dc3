"""Waiting for room on a full disk."""

import asyncio
import logging
from pathlib import Path

import pytest

from plantfed_shared import disk_room
from plantfed_shared.disk_room import LEAST_TO_BEGIN_BYTES, wait_for_room
from plantfed_shared.service_manager import ServiceManager
from plantfed_shared.vitals import Vitals


def waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: list[int], *, stop: bool = False
) -> Vitals:
    asked: list[Path] = []

    def free_bytes(folder: Path) -> int:
        asked.append(folder)
        return free.pop(0)

    monkeypatch.setattr(disk_room, "free_bytes", free_bytes)
    monkeypatch.setattr(disk_room, "LOOK_EVERY_S", 0.01)
    vitals = Vitals(ServiceManager({}), tmp_path, watched=True)

    async def wait() -> None:
        stopped = asyncio.Event()
        if stop:
            asyncio.get_running_loop().call_later(0.05, stopped.set)
        await asyncio.wait_for(wait_for_room(tmp_path / "not" / "yet", vitals, stopped), 20)

    asyncio.run(wait())
    assert set(asked) == {tmp_path}
    return vitals


def test_it_begins_at_once_where_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    vitals = waiting(tmp_path, monkeypatch, [LEAST_TO_BEGIN_BYTES])
    assert caplog.records == []
    assert vitals.alive()[1] == {"reason": "it is starting"}


def test_it_waits_says_so_once_and_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    left = [LEAST_TO_BEGIN_BYTES - 1] * 5 + [LEAST_TO_BEGIN_BYTES]
    vitals = waiting(tmp_path, monkeypatch, left)
    assert left == []
    assert len([r for r in caplog.records if "is full" in r.getMessage()]) == 1
    assert vitals.alive()[0]
    assert vitals.ready()[1]["waiting_for"] == "room on the disk"


def test_it_can_be_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting(tmp_path, monkeypatch, [0] * 10_000, stop=True)
