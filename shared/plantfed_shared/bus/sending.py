"""The messages a connection was given and the broker has not acknowledged yet."""

from asyncio import Future
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from plantfed_shared.bus.port import MAX_MESSAGE_BYTES, NotConnected, NotSent

WAITING_BYTES = 64 * 1024 * 1024
"""What may wait at most: the windows of 128 KiB that 500 agents fetch at once."""

MESSAGE_BYTES = 320
"""What a waiting message takes besides topic and payload; 300 measured, 64-bit CPython 3.11."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message and what its publisher waits for."""

    topic: str
    payload: bytes
    retain: bool
    future: "Future[None]"

    @property
    def bytes_held(self) -> int:
        """Memory it takes while it waits."""
        return MESSAGE_BYTES + len(self.topic) + len(self.payload)


class SendWindow:
    """Keeps at most ``limit`` messages unacknowledged, the others wait their turn.

    Of a message that finds no room to wait nothing is kept: NEED asks again for a lost CHUNK, and
    everything else is said again after a timeout.  Dropped is what comes last, so that what is sent
    stays in order.  A retained message is different: it tells how things are, and might be said
    again only in an hour.  It always finds room, in the place of the one it replaces on its topic.

    Args:
        send: puts one message on its way and returns its packet id.
        limit: may be changed; the broker's Receive Maximum.
        complain: is told in one line when messages are dropped, and not again until it was better.
        waiting_bytes: of memory, for what waits.

    Attributes:
        max_payload_bytes: what the broker grants; may be changed.
    """

    def __init__(
        self,
        send: Callable[[Outgoing], int],
        limit: int,
        complain: Callable[[str], None],
        waiting_bytes: int = WAITING_BYTES,
    ) -> None:
        self.limit = limit
        self.max_payload_bytes = MAX_MESSAGE_BYTES
        self._send = send
        self._complain = complain
        self._room = waiting_bytes
        self._in_flight: dict[int, Outgoing] = {}
        self._waiting: deque[Outgoing] = deque()
        self._held = 0
        self._told_of_length = False
        self._told_of_room = False

    def add(self, message: Outgoing) -> None:
        """Send a message now or as soon as there is room, or drop it."""
        if len(message.payload) > self.max_payload_bytes:
            self._drop_long(message)
            return
        if message.retain:
            self._replace(message.topic)
        elif self._waiting and self._held + message.bytes_held > self._room:
            self._drop_late(message)
            return
        self._waiting.append(message)
        self._held += message.bytes_held
        self._fill()

    def acknowledged(self, packet_id: int) -> None:
        """End a message's future and send the next."""
        message = self._in_flight.pop(packet_id, None)
        if message is not None and not message.future.done():
            message.future.set_result(None)
        self._fill()

    def unsettled(self) -> list["Future[None]"]:
        """The futures of all messages that are not acknowledged."""
        messages = [*self._in_flight.values(), *self._waiting]
        return [message.future for message in messages if not message.future.done()]

    def fail(self) -> None:
        """Give all messages up."""
        for future in self.unsettled():
            fail(future, NotConnected("not connected to the broker"))
        self._in_flight.clear()
        self._waiting.clear()
        self._held = 0

    def _fill(self) -> None:
        while self._waiting and len(self._in_flight) < self.limit:
            message = self._waiting.popleft()
            self._held -= message.bytes_held
            self._in_flight[self._send(message)] = message
        if self._held <= self._room // 2:
            self._told_of_room = False

    def _replace(self, topic: str) -> None:
        for old in [m for m in self._waiting if m.retain and m.topic == topic]:
            self._waiting.remove(old)
            self._held -= old.bytes_held
            fail(old.future, NotSent(f"a later message on {topic!r} took its place"))

    def _drop_long(self, message: Outgoing) -> None:
        why = (
            f"dropped {len(message.payload)} bytes on {message.topic!r}: "
            f"the broker now takes at most {self.max_payload_bytes}"
        )
        if not self._told_of_length:
            self._told_of_length = True
            self._complain(why)
        fail(message.future, NotSent(why))

    def _drop_late(self, message: Outgoing) -> None:
        why = (
            f"the broker acknowledges too slowly: {len(self._waiting)} messages of "
            f"{self._held} bytes wait, and what comes now is dropped"
        )
        if not self._told_of_room:
            self._told_of_room = True
            self._complain(why)
        fail(message.future, NotSent(why))


def fail(future: "Future[None]", error: NotSent) -> None:
    """Tell the publisher that its message was not sent; nobody has to be listening."""
    if future.done():
        return
    future.set_exception(error)
    # Reading it marks it as seen; else asyncio would log it when nobody awaits the future.
    future.exception()
