"""The window of unacknowledged messages."""

import asyncio
from itertools import count

import pytest

from plantfed_shared.bus.port import NotConnected, NotSent
from plantfed_shared.bus.sending import MESSAGE_BYTES, WAITING_BYTES, Outgoing, SendWindow


class Wire:
    """Notes what was sent and complained of; packet ids count from 1.

    With ``room`` so many messages with empty payloads may wait.
    """

    def __init__(self, limit: int, room: int | None = None) -> None:
        self.sent: list[bytes] = []
        self.complaints: list[str] = []
        waiting_bytes = WAITING_BYTES if room is None else room * (MESSAGE_BYTES + len("t"))
        self.window = SendWindow(self._send, limit, self.complaints.append, waiting_bytes)
        self._packet_ids = count(1)

    def add(
        self, *payloads: bytes, topic: str = "t", retain: bool = False
    ) -> list["asyncio.Future[None]"]:
        loop = asyncio.get_running_loop()
        messages = [Outgoing(topic, each, retain, loop.create_future()) for each in payloads]
        for message in messages:
            self.window.add(message)
        return [message.future for message in messages]

    def _send(self, message: Outgoing) -> int:
        self.sent.append(message.payload)
        return next(self._packet_ids)


def test_each_acknowledgement_lets_the_next_go() -> None:
    async def scenario() -> None:
        wire = Wire(limit=2)
        futures = wire.add(b"1", b"2", b"3", b"4")
        assert wire.sent == [b"1", b"2"]
        assert wire.window.unsettled() == futures
        wire.window.acknowledged(2)
        assert wire.sent == [b"1", b"2", b"3"]
        assert [future.done() for future in futures] == [False, True, False, False]
        wire.window.limit = 5
        wire.window.acknowledged(1)
        assert wire.sent == [b"1", b"2", b"3", b"4"]
        assert wire.window.unsettled() == futures[2:]

    asyncio.run(scenario())


def test_failing_tells_all_publishers_once() -> None:
    async def scenario() -> None:
        wire = Wire(limit=1)
        futures = wire.add(b"1", b"2", b"3")
        futures[1].cancel()
        wire.window.fail()
        for future in (futures[0], futures[2]):
            with pytest.raises(NotConnected):
                await future
        assert wire.window.unsettled() == []
        wire.window.acknowledged(1)
        assert wire.sent == [b"1"]

    asyncio.run(scenario())


def test_a_publisher_that_gave_up_does_not_disturb() -> None:
    async def scenario() -> None:
        wire = Wire(limit=1)
        first, second = wire.add(b"1", b"2")
        first.cancel()
        wire.window.acknowledged(1)
        wire.window.acknowledged(1)
        wire.window.acknowledged(77)
        assert wire.sent == [b"1", b"2"]
        assert not second.done()

    asyncio.run(scenario())


def dropped(futures: list["asyncio.Future[None]"]) -> list[bool]:
    return [f.done() and isinstance(f.exception(), NotSent) for f in futures]


def test_what_waits_is_bounded_and_the_last_to_come_is_dropped() -> None:
    async def scenario() -> None:
        wire = Wire(limit=1, room=2)
        futures = wire.add(b"", b"", b"", b"", b"")
        assert dropped(futures) == [False, False, False, True, True]
        assert "slowly: 2 messages" in wire.complaints[0]
        wire.window.acknowledged(1)
        assert dropped(wire.add(b"", b"")) == [False, True]
        for packet_id in (2, 3, 4):
            wire.window.acknowledged(packet_id)
        assert len(wire.sent) == 4
        assert wire.window.unsettled() == []

    asyncio.run(scenario())


def test_bytes_are_what_is_counted() -> None:
    async def scenario() -> None:
        wire = Wire(limit=1, room=10)
        rest = 10 * (MESSAGE_BYTES + 1) - 2 * (MESSAGE_BYTES + 1)
        sent, long, too_much, small = wire.add(b"", bytes(rest), b"x", b"")
        assert dropped([sent, long, too_much, small]) == [False, False, True, False]

    asyncio.run(scenario())


def test_one_complaint_until_it_was_better() -> None:
    async def scenario() -> None:
        wire = Wire(limit=1, room=4)
        wire.add(*[b""] * 8)
        wire.window.acknowledged(1)
        wire.add(b"", b"")
        assert len(wire.complaints) == 1
        for packet_id in (2, 3):
            wire.window.acknowledged(packet_id)
        wire.add(*[b""] * 4)
        assert len(wire.complaints) == 2

    asyncio.run(scenario())


def test_a_retained_message_finds_room_in_the_place_of_the_one_before() -> None:
    async def scenario() -> None:
        wire = Wire(limit=1, room=1)
        wire.add(b"in flight", b"")
        first = wire.add(b"model 1", topic="manifest", retain=True)
        other = wire.add(b"online", topic="status", retain=True)
        second = wire.add(b"model 2", topic="manifest", retain=True)
        assert dropped(first + other + second) == [True, False, False]
        assert wire.complaints == []
        for packet_id in (1, 2, 3, 4):
            wire.window.acknowledged(packet_id)
        assert wire.sent == [b"in flight", b"", b"online", b"model 2"]
        # The room of the replaced one is free again.
        assert dropped(wire.add(b"", b"")) == [False, False]

    asyncio.run(scenario())


def test_giving_up_frees_the_room() -> None:
    async def scenario() -> None:
        wire = Wire(limit=1, room=1)
        wire.add(b"", b"")
        wire.window.fail()
        assert dropped(wire.add(b"", b"")) == [False, False]

    asyncio.run(scenario())


def test_what_is_too_long_for_this_connection_is_dropped_and_said_once() -> None:
    async def scenario() -> None:
        wire = Wire(limit=9)
        wire.window.max_payload_bytes = 3
        futures = wire.add(b"four", b"abc", b"fives") + wire.add(b"four", retain=True)
        assert dropped(futures) == [True, False, True, True]
        assert wire.sent == [b"abc"]
        assert wire.complaints == ["dropped 4 bytes on 't': the broker now takes at most 3"]
        with pytest.raises(NotSent, match="dropped 5 bytes"):
            await futures[2]

    asyncio.run(scenario())
