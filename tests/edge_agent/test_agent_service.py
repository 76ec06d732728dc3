"""The agent's shell: persist, publish, acknowledge; what fails outside ends it."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from plantfed_agent.budget import LinkLimits
from plantfed_agent.events import (
    Action,
    BusConnected,
    DropPieces,
    Event,
    HalfFetched,
    KeepPieces,
    LaneAnswered,
    LinkRead,
    Listen,
    MessageArrived,
    Persist,
    Publish,
    RoundDone,
    RoundFailed,
    RowsChanged,
    Stop,
    StopListening,
    TimerDue,
    Train,
)
from plantfed_agent.link_meter import LinkMeter
from plantfed_agent.service import AgentService
from plantfed_agent.state import AgentState
from plantfed_shared.bus.connection_state import ConnectionState, Trouble, TroubleKind
from plantfed_shared.bus.port import (
    BusEvent,
    Connected,
    Disconnected,
    Listening,
    Received,
    Traffic,
)
from plantfed_shared.day_ledger import DayLedger, Spent
from plantfed_shared.errors import DataError, StorageError, TrainingError
from plantfed_shared.local_time import LocalTime
from plantfed_shared.messages import Content
from plantfed_shared.topics import Kind, Topics

STATE = AgentState(rounds=1)


class Machine:
    """Answers events as told, and notes them."""

    def __init__(self, answer: Callable[[Event], list[Action]]) -> None:
        self.state = STATE
        self.events: list[Event] = []
        self.timer: float | None = None
        self.budget = SimpleNamespace(is_quiet=False)
        self._answer = answer

    def handle(self, event: Event, now: float) -> list[Action]:
        self.events.append(event)
        return self._answer(event)

    def next_timer(self) -> float | None:
        return self.timer


class Store:
    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.full = False
        self.counters: dict[str, int] = {}
        self.connections: list[ConnectionState] = []

    def load_counters(self) -> dict[str, int]:
        return {"bytes_up": 100}

    def persist(self, state: AgentState, changed: frozenset[str], counters: dict[str, int]) -> None:
        if self.full:
            raise StorageError("the disk is full")
        if changed:
            self.log.append("persist")
        self.counters = counters

    def keep_pieces(self, half: HalfFetched) -> None:
        self.log.append(f"keep {sum(len(piece) for _, piece in half.pieces)} bytes")

    def drop_pieces(self) -> None:
        self.log.append("drop")

    def persist_connection(self, state: ConnectionState) -> None:
        self.connections.append(state)


class Bus:
    """Hands out events, then waits."""

    def __init__(self, log: list[str], events: list[BusEvent]) -> None:
        self.log = log
        self.events = events
        self.traffic = Traffic(bytes_out=7)
        self.connection = ConnectionState(False, 0.0)

    async def open(self) -> None:
        pass

    async def next_event(self) -> BusEvent:
        if self.events:
            event = self.events.pop(0)
            match event:
                case Connected():
                    self.connection = self.connection.made(1.0)
                case Disconnected(reason):
                    trouble = Trouble(reason, TroubleKind.UNAVAILABLE, 2.0)
                    self.connection = self.connection.failed(trouble)
            return event
        await asyncio.Event().wait()
        raise AssertionError

    def publish(
        self, topic: str, payload: bytes, *, retain: bool = False
    ) -> "asyncio.Future[None]":
        self.log.append(f"publish {topic}")
        return asyncio.get_running_loop().create_future()

    def listen(self, topic: str) -> None:
        self.log.append(f"listen {topic}")

    def stop_listening(self, topic: str) -> None:
        self.log.append(f"leave {topic}")

    def acknowledge(self, token: int) -> None:
        self.log.append(f"acknowledge {token}")

    async def close(self) -> None:
        pass


class Trainer:
    def __init__(self, outcome: Any) -> None:
        self.outcome = outcome
        self.running = False

    async def run(self, task: Any) -> Any:
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    async def stop(self) -> None:
        pass


class Shell:
    """A service with everything around it replaced."""

    def __init__(
        self,
        answer: Callable[[Event], list[Action]],
        *events: BusEvent,
        outcome: Any = None,
        fingerprint: Callable[[], str] = lambda: "rows",
        limits: LinkLimits | None = None,
    ) -> None:
        self.log: list[str] = []
        self.machine = Machine(answer)
        self.store = Store(self.log)
        self._bus = Bus(self.log, list(events))
        self._trainer = Trainer(outcome)
        self._fingerprint = fingerprint
        self._limits = limits or LinkLimits()

    def run(self) -> AgentService:
        async def work() -> AgentService:
            service = AgentService(
                self.machine,  # type: ignore[arg-type]
                self._bus,
                self._trainer,
                self.store,  # type: ignore[arg-type]
                self._fingerprint,
                LinkMeter(self._limits, Topics("presses"), DayLedger({})),
                look_every_s=0.001,
                clock=lambda: 0.0,
                wall_clock=lambda: LocalTime(1, 0.0),
            )
            await asyncio.wait_for(service.run(asyncio.Event()), 10)
            return service

        return asyncio.run(work())


def answer_message(event: Event) -> list[Action]:
    if not isinstance(event, MessageArrived):
        return []
    if event.topic == "last":
        return [Stop(None)]
    return [Persist(STATE, frozenset({"rounds"})), Publish("one", b""), Publish("two", b"")]


def test_persist_publish_acknowledge() -> None:
    shell = Shell(answer_message, Connected(), Received("first", b"", 1), Received("last", b"", 2))
    assert shell.run().ended
    assert shell.log == [
        "persist",
        "publish one",
        "publish two",
        "acknowledge 1",
        "acknowledge 2",
    ]
    assert any(isinstance(e, BusConnected) for e in shell.machine.events)


def test_pieces_are_on_disk_before_anything_is_said_and_lanes_are_the_bus_s() -> None:
    half = HalfFetched(None, Content(bytes(16), 9), None, ((0, b"piece"),))

    def answer(event: Event) -> list[Action]:
        match event:
            case BusConnected():
                return [Publish("more", b""), Listen("lane"), KeepPieces(half), DropPieces()]
            case LaneAnswered("lane", True):
                return [StopListening("lane"), Stop(None)]
        return []

    shell = Shell(answer, Connected(), Listening("lane", allowed=True))
    shell.run()
    # what is to be published goes out after all other actions of its event
    assert shell.log == ["keep 5 bytes", "drop", "listen lane", "publish more", "leave lane"]


def test_nothing_is_said_when_the_disk_is_full() -> None:
    shell = Shell(answer_message, Received("first", b"", 1))
    shell.store.full = True
    with pytest.raises(StorageError, match="the disk is full"):
        shell.run()
    assert shell.log == []


def test_what_a_reader_would_care_about_the_connection_is_on_disk() -> None:
    cut = Disconnected("the link is cut")
    shell = Shell(answer_message, Connected(), cut, cut, Connected(), Received("last", b"", 2))
    shell.run()
    noted = [(c.connected, c.trouble.text if c.trouble else "") for c in shell.store.connections]
    up, down = (True, "the link is cut"), (False, "the link is cut")
    assert noted == [(False, ""), (True, ""), down, up, up]


def test_bytes_are_counted_on_from_what_is_on_disk() -> None:
    shell = Shell(answer_message, Received("last", b"", 2))
    shell.run()
    assert shell.store.counters["bytes_up"] == 107


@pytest.mark.parametrize("outcome", ["outcome", TrainingError("killed")])
def test_a_round_comes_back_under_its_ticket_also_when_it_failed(outcome: Any) -> None:
    def answer(event: Event) -> list[Action]:
        match event:
            case BusConnected():
                return [Train(7, None)]  # type: ignore[arg-type]
            case RoundDone() | RoundFailed():
                return [Stop(None)]
        return []

    shell = Shell(answer, Connected(), outcome=outcome)
    shell.run()
    failed = isinstance(outcome, TrainingError)
    assert (RoundFailed(7, outcome) if failed else RoundDone(7, outcome)) in shell.machine.events


def test_a_defect_of_the_training_ends_the_agent_instead_of_leaving_it_idle() -> None:
    def answer(event: Event) -> list[Action]:
        return [Train(7, None)] if isinstance(event, BusConnected) else []  # type: ignore[arg-type]

    with pytest.raises(ZeroDivisionError):
        Shell(answer, Connected(), outcome=ZeroDivisionError()).run()


def test_an_error_the_machine_ends_with_is_the_programs() -> None:
    error = DataError("no such column")

    def answer(event: Event) -> list[Action]:
        return [Stop(error)] if isinstance(event, BusConnected) else []

    with pytest.raises(DataError, match="no such column"):
        Shell(answer, Connected()).run()


def test_a_limited_machine_is_told_clock_and_counters_before_every_event() -> None:
    shell = Shell(
        answer_message, Connected(), Received("last", b"", 2), limits=LinkLimits(day_up=9)
    )
    shell.run()
    told = shell.machine.events
    assert all(isinstance(event, LinkRead) for event in told[::2])
    assert not any(isinstance(event, LinkRead) for event in told[1::2])
    assert told[0] == LinkRead(LocalTime(1, 0.0), Spent(7, 0, 0.0), 0)
    assert {n: v for n, v in shell.store.counters.items() if n.startswith("day")} == {
        "day_0": 1,
        "day_0_up": 7,
        "day_0_down": 0,
        "day_0_since_s": 0,
    }


def test_in_quiet_hours_the_shell_holds_bulk_back() -> None:
    bulk, control = Topics("presses").up("p", Kind.UPDATE), Topics("presses").up("p", Kind.HELLO)

    def answer(event: Event) -> list[Action]:
        shell.machine.budget.is_quiet = isinstance(event, MessageArrived) and event.topic != "last"
        if isinstance(event, MessageArrived) and event.topic == "first":
            return [Publish(bulk, b""), Publish(control, b"")]
        return answer_message(event) if isinstance(event, MessageArrived) else []

    received = [Received("first", b"", 1), Received("last", b"", 2)]
    shell = Shell(answer, Connected(), *received, limits=LinkLimits(day_up=9))
    shell.run()
    assert shell.log[:3] == [f"publish {control}", "acknowledge 1", f"publish {bulk}"]


def test_files_are_reported_at_the_start_and_whenever_they_change() -> None:
    marks = iter(["one", "one", "gone", "two", "two"])

    def fingerprint() -> str:
        mark = next(marks, "three")
        if mark == "gone":
            raise DataError("cannot be read")
        return mark

    def answer(event: Event) -> list[Action]:
        return [Stop(None)] if event == RowsChanged("three") else []

    shell = Shell(answer, fingerprint=fingerprint)
    shell.run()
    assert [e for e in shell.machine.events if isinstance(e, RowsChanged)] == [
        RowsChanged("one"),
        RowsChanged("two"),
        RowsChanged("three"),
    ]


def test_a_timer_that_is_due_is_told() -> None:
    def answer(event: Event) -> list[Action]:
        return [Stop(None)] if isinstance(event, TimerDue) else []

    shell = Shell(answer)
    shell.machine.timer = -1.0
    shell.run()
    assert TimerDue() in shell.machine.events
