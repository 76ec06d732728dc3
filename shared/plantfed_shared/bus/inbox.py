"""What outlives the connections of one bus: events, numbers of messages, counters and state."""

import asyncio
from collections.abc import Callable
from itertools import count

from plantfed_shared.bus.backlog import Backlog
from plantfed_shared.bus.connection_state import ConnectionState, Trouble, TroubleKind
from plantfed_shared.bus.port import (
    BusEvent,
    Connected,
    Listening,
    Received,
    Traffic,
    publish_bytes,
)
from plantfed_shared.bus.reconnect import End


class Inbox:
    """What connections tell the user of the bus.

    Args:
        wall_clock: Unix time in seconds.

    Attributes:
        traffic: counted since the beginning.
        state: of the connection.
        backlog: of messages that :meth:`next_event` has not given out.
    """

    def __init__(self, wall_clock: Callable[[], float]) -> None:
        self.traffic = Traffic()
        self.backlog = Backlog()
        self.state = ConnectionState(connected=False, since=wall_clock())
        self._wall_clock = wall_clock
        self._events: asyncio.Queue[BusEvent | BaseException] = asyncio.Queue()
        self._tokens = count(1)

    async def next_event(self) -> BusEvent:
        """Wait for the next event.

        Raises:
            BaseException: what :meth:`fail` was given, once all events before it are taken.
        """
        event = await self._events.get()
        if isinstance(event, BaseException):
            # Whoever asks again must not wait for ever.
            self._events.put_nowait(event)
            raise event
        if isinstance(event, Received):
            self.backlog.taken(len(event.payload))
        return event

    def connected(self, max_payload_bytes: int) -> None:
        """A connection stands."""
        self.state = self.state.made(self._wall_clock())
        self._events.put_nowait(Connected(max_payload_bytes))

    def receive(self, topic: str, payload: bytes, retained: bool, *, mqtt5: bool) -> int:
        """Hand a message to whoever uses the bus; returns its token."""
        token = next(self._tokens)
        self.traffic.messages_in += 1
        self.traffic.bytes_in += publish_bytes(topic, len(payload), mqtt5=mqtt5)
        self._events.put_nowait(Received(topic, payload, token, retained))
        return token

    def listening(self, topic: str, *, allowed: bool) -> None:
        """The broker has answered that we want to hear of a topic."""
        self._events.put_nowait(Listening(topic, allowed))

    def disconnected(self, end: End) -> None:
        """A connection, or an attempt at one, has ended."""
        self.state = self.state.failed(Trouble(end.event.reason, end.kind, self._wall_clock()))
        self._events.put_nowait(end.event)

    def closed(self) -> None:
        """The bus was closed in good order."""
        self.state = self.state.ended(self._wall_clock())

    def fail(self, error: BaseException) -> None:
        """Nothing goes on: whoever takes events is to learn of it."""
        trouble = Trouble(f"the bus failed: {error!r}", TroubleKind.UNAVAILABLE, self._wall_clock())
        self.state = self.state.failed(trouble)
        self._events.put_nowait(error)
