"""The window of unacknowledged messages."""

import asyncio
from itertools import count

import pytest

from plantfed_shared.bus.port import NotConnected
from plantfed_shared.bus.sending import Outgoing, SendWindow


class Wire:
    """Notes what was sent; packet ids count from 1."""

    def __init__(self, limit: int) -> None:
        self.sent: list[bytes] = []
        self.window = SendWindow(self._send, limit)
        self._packet_ids = count(1)

    def add(self, *payloads: bytes) -> list["asyncio.Future[None]"]:
        loop = asyncio.get_running_loop()
        messages = [Outgoing("t", payload, False, loop.create_future()) for payload in payloads]
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
