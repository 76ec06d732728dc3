"""The coordinator's shell: persist, publish, acknowledge; one commit for many events."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from tests.federation_world import small_definition

from plantfed_coordinator.machine import FederationMachine
from plantfed_coordinator.records import EpochStarted, Joined, Record
from plantfed_coordinator.service import CoordinatorService
from plantfed_coordinator.state import FederationState
from plantfed_shared.bus.connection_state import ConnectionState
from plantfed_shared.bus.port import BusEvent, Connected, Received, Traffic
from plantfed_shared.errors import StorageError
from plantfed_shared.messages import Epoch, Hello
from plantfed_shared.topics import Kind, Topics
from plantfed_shared.wire import encode

TOPICS = Topics("toy")


class RecordingJournal:
    """Notes when it is written; fails when told to."""

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.full = False

    def append(self, records: Iterable[Record], live: dict[str, Any]) -> None:
        joined = [r for r in records if isinstance(r, Joined)]
        if self.full and joined:
            raise StorageError("the disk is full")
        if joined:
            self.log.append(f"persist {len(joined)}")

    def snapshot_if_due(self, state: FederationState, *, now: bool = False) -> None:
        pass

    def write_connection(self, state: ConnectionState) -> None:
        pass

    def seen_live(self) -> dict[str, dict[str, Any]]:
        return {}

    def pending_orders(self) -> list[tuple[int, Any]]:
        return []


class ScriptedBus:
    """Hands out events, then waits; notes what is published and acknowledged."""

    def __init__(self, log: list[str], events: list[BusEvent], stopped: asyncio.Event) -> None:
        self.log = log
        self.events = events
        self.stopped = stopped
        self.traffic = Traffic()
        self.connection = ConnectionState(True, 0.0)

    async def open(self) -> None:
        pass

    async def next_event(self) -> BusEvent:
        if self.events:
            return self.events.pop(0)
        await self.stopped.wait()
        raise asyncio.CancelledError

    def publish(
        self, topic: str, payload: bytes, *, retain: bool = False
    ) -> "asyncio.Future[None]":
        if topic.endswith("/welcome"):
            self.log.append("publish")
        return asyncio.get_running_loop().create_future()

    def acknowledge(self, token: int) -> None:
        self.log.append(f"acknowledge {token}")
        if token == 2:
            self.stopped.set()

    async def close(self) -> None:
        self.stopped.set()


def hello_from(agent: str, token: int) -> Received:
    hello = Hello(
        epoch=None,
        incarnation=0,
        applied_seq=0,
        outstanding=None,
        dual_checksum=0,
        newest=None,
        software="test",
        proof=None,
    )
    return Received(TOPICS.up(agent, Kind.HELLO), encode(hello), token)


def serve(log: list[str], *, full: bool = False) -> None:
    async def run() -> None:
        stopped = asyncio.Event()
        events: list[BusEvent] = [Connected(), hello_from("a", 1), hello_from("b", 2)]
        journal = RecordingJournal(log)
        journal.full = full
        first = EpochStarted(Epoch(1, 5), 0, small_definition().to_bytes(), "created")
        machine = FederationMachine(FederationState.begin(first), TOPICS, lambda: 7, 0.0)
        bus = ScriptedBus(log, events, stopped)
        service = CoordinatorService(machine, bus, journal, TOPICS, lambda: 0.0)  # type: ignore[arg-type]
        await asyncio.wait_for(service.run(stopped), 10)

    asyncio.run(run())


def test_many_events_are_persisted_in_one_commit_then_published_then_acknowledged() -> None:
    log: list[str] = []
    serve(log)
    assert log == ["persist 2", "publish", "publish", "acknowledge 1", "acknowledge 2"]


def test_nothing_is_said_when_the_commit_fails() -> None:
    log: list[str] = []
    with pytest.raises(StorageError, match="the disk is full"):
        serve(log, full=True)
    assert log == []
