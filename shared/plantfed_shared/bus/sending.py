"""The messages a connection was given and the broker has not acknowledged yet."""

from asyncio import Future
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from plantfed_shared.bus.port import NotConnected


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message and what its publisher waits for."""

    topic: str
    payload: bytes
    retain: bool
    future: "Future[None]"


class SendWindow:
    """Keeps at most ``limit`` messages unacknowledged, the others wait their turn.

    Args:
        send: puts one message on its way and returns its packet id.
        limit: may be changed; the broker's Receive Maximum.
    """

    def __init__(self, send: Callable[[Outgoing], int], limit: int) -> None:
        self.limit = limit
        self._send = send
        self._in_flight: dict[int, Outgoing] = {}
        self._waiting: deque[Outgoing] = deque()

    def add(self, message: Outgoing) -> None:
        """Send a message now or as soon as there is room."""
        self._waiting.append(message)
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
            fail(future)
        self._in_flight.clear()
        self._waiting.clear()

    def _fill(self) -> None:
        while self._waiting and len(self._in_flight) < self.limit:
            message = self._waiting.popleft()
            self._in_flight[self._send(message)] = message


def fail(future: "Future[None]") -> None:
    """Tell the publisher that its message was not sent; nobody has to be listening."""
    future.set_exception(NotConnected("not connected to the broker"))
    # Reading it marks it as seen; else asyncio would log it when nobody awaits the future.
    future.exception()
