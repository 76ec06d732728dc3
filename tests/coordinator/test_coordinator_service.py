"""The coordinator's shell: persist, publish, acknowledge; one commit for many events."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from tests.faults.planted import WRONG_ORDERS, wrong_order
from tests.federation_world import small_definition
from tests.newcomers import newcomer

from plantfed_coordinator import effects
from plantfed_coordinator.audit_chain import lines_of
from plantfed_coordinator.events import Action
from plantfed_coordinator.machine import FederationMachine
from plantfed_coordinator.probation import Probation
from plantfed_coordinator.records import EpochStarted, Joined, Record
from plantfed_coordinator.service import (
    COMMIT_AT_MOST,
    COMMIT_BACKLOG_WITHIN_S,
    COMMIT_WITHIN_S,
    CoordinatorService,
)
from plantfed_coordinator.state import FederationState
from plantfed_shared.bus.backlog import BACKLOG_BYTES, MESSAGE_BYTES
from plantfed_shared.bus.connection_state import ConnectionState
from plantfed_shared.bus.port import (
    MAX_MESSAGE_BYTES,
    BusEvent,
    Connected,
    Received,
    Traffic,
)
from plantfed_shared.errors import StorageError
from plantfed_shared.messages import Epoch, Status
from plantfed_shared.topics import Kind, Topics
from plantfed_shared.wire import encode

TOPICS = Topics("toy")
IN_ORDER = ["persist 2", "put down 2", "publish", "publish", "acknowledge 1", "acknowledge 2"]


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

    def work(self, state: FederationState) -> None:
        pass

    def finish(self, state: FederationState) -> None:
        pass

    has_work = False

    def write_connection(self, state: ConnectionState) -> None:
        pass

    def seen_live(self) -> dict[str, dict[str, Any]]:
        return {}

    def pending_orders(self) -> list[tuple[int, Any]]:
        return []


class ScriptedBus:
    """Hands out events, then waits; notes what is published and acknowledged."""

    def __init__(
        self, log: list[str], events: list[BusEvent], stopped: asyncio.Event, last_token: int
    ) -> None:
        self.log = log
        self.last_token = last_token
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
        if token == self.last_token:
            self.stopped.set()

    async def close(self) -> None:
        self.stopped.set()


class RecordingAudit:
    """Notes when it is written."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    def take(self, actions: Iterable[Action]) -> None:
        lines = lines_of(actions)
        self.log.append(f"put down {len(lines)}")


def hello_from(agent: str, token: int) -> Received:
    return Received(TOPICS.up(agent, Kind.HELLO), encode(newcomer()), token)


def serve(
    log: list[str],
    *,
    full: bool = False,
    agents: tuple[str, ...] = ("a", "b"),
    clock: Callable[[], float] = lambda: 0.0,
    before: tuple[Received, ...] = (),
    between: tuple[Received, ...] = (),
    probation: Probation | None = None,
) -> None:
    async def run() -> None:
        stopped = asyncio.Event()
        hellos = [hello_from(agent, number) for number, agent in enumerate(agents, 1)]
        journal = RecordingJournal(log)
        journal.full = full
        first = EpochStarted(Epoch(1, 5), 0, small_definition().to_bytes(), "created")
        machine = FederationMachine(FederationState.begin(first), TOPICS, lambda: 7, 0.0)
        events = [*before, Connected(), *hellos[:1], *between, *hellos[1:]]
        bus = ScriptedBus(log, events, stopped, last_token=len(agents))
        service = CoordinatorService(
            machine,
            bus,
            journal,  # type: ignore[arg-type]
            TOPICS,
            clock,
            audit=RecordingAudit(log),  # type: ignore[arg-type]
            probation=probation,
        )
        await asyncio.wait_for(service.run(stopped), 10)

    asyncio.run(run())


def test_many_events_are_persisted_in_one_commit_then_published_then_acknowledged() -> None:
    log: list[str] = []
    serve(log)
    assert log == IN_ORDER


def nothing_from(agent: str, token: int) -> Received:
    """Of no member, so that it leads to nothing."""
    online = encode(Status(online=True, software="test"))
    return Received(TOPICS.status(agent), online, token)


def test_what_leads_to_nothing_is_acknowledged_at_once_and_never_before_what_waits() -> None:
    log: list[str] = []
    serve(
        log,
        before=tuple(nothing_from(f"x{n}", 100 + n) for n in range(3)),
        between=(nothing_from("x9", 200),),
    )
    at_once = [f"acknowledge {100 + n}" for n in range(3)]
    assert [line for line in log if line not in at_once] == [
        *IN_ORDER[:-1],
        "acknowledge 200",
        IN_ORDER[-1],
    ]
    assert log.index(at_once[-1]) < log.index(IN_ORDER[0])


class Patient(Probation):
    """Looks at so many events before it serves."""

    def __init__(self, n_events: int) -> None:
        super().__init__(TOPICS)
        self.left = n_events

    def take(self, *_: Any, **__: Any) -> None:
        self.left -= 1

    def over(self, now: float) -> bool:
        return self.left <= 0


def test_of_a_flood_before_it_serves_no_more_than_8_mib_is_held() -> None:
    """What is dropped stays unacknowledged and unheard: whoever said it says it again."""
    log: list[str] = []
    piece, first = bytes(MAX_MESSAGE_BYTES), hello_from("a", 1).payload
    flood = [
        Received(TOPICS.status("x"), piece, 100 + n)
        for n in range(2 * BACKLOG_BYTES // MAX_MESSAGE_BYTES)
    ]
    # when Connected, the first newcomer and the flood have come it serves
    serve(log, between=tuple(flood), probation=Patient(2 + len(flood)))
    assert {"acknowledge 1", "acknowledge 2", "acknowledge 100"} <= set(log)
    taken = [f"acknowledge {message.token}" in log for message in flood]
    assert taken == sorted(taken, reverse=True)
    held_bytes = MESSAGE_BYTES + len(first) + sum(taken) * (MESSAGE_BYTES + len(piece))
    assert BACKLOG_BYTES < held_bytes <= BACKLOG_BYTES + MESSAGE_BYTES + len(piece)


@pytest.mark.parametrize("name", sorted(WRONG_ORDERS))
def test_another_order_of_the_service_would_be_noticed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: the service keeps the order of ``effects``, whatever it is."""
    monkeypatch.setattr(effects, "in_order", wrong_order(name))
    log: list[str] = []
    serve(log)
    assert sorted(log) == sorted(IN_ORDER)
    assert log != IN_ORDER


def test_a_commit_holds_so_many_at_most() -> None:
    log: list[str] = []
    serve(log, agents=tuple(f"m{n}" for n in range(2 * COMMIT_AT_MOST + 6)))
    assert [line for line in log if line.startswith("persist")] == [
        f"persist {COMMIT_AT_MOST}",
        f"persist {COMMIT_AT_MOST}",
        "persist 6",
    ]
    first_and_last = (1, 64, 65, 128, 129, 134)
    at = [log.index(f"acknowledge {token}") for token in first_and_last]
    commits = [i for i, line in enumerate(log) if line.startswith("persist")]
    assert commits[0] < at[0] < at[1] < commits[1] < at[2] < at[3] < commits[2] < at[4] < at[5]


def test_events_that_are_there_are_taken_in_for_a_few_milliseconds_at_most() -> None:
    log: list[str] = []
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += COMMIT_WITHIN_S / 2  # every look at it
        return now

    serve(log, agents=tuple(f"m{n}" for n in range(30)), clock=clock)
    sizes = [int(line.split()[1]) for line in log if line.startswith("persist")]
    assert sum(sizes) == 30
    most = round(2 * COMMIT_BACKLOG_WITHIN_S / COMMIT_WITHIN_S)
    assert 2 < max(sizes) <= most < 30


def test_nothing_is_said_when_the_commit_fails() -> None:
    log: list[str] = []
    with pytest.raises(StorageError, match="the disk is full"):
        serve(log, full=True)
    assert log == []
