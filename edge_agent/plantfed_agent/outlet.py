"""What the agent wants to send, let go at the pace of its link: pure.

Control messages (HELLO, OFFER, NEED, ...) go before bulk (UPDATE and CHUNK), in order within each.
What waits here can still be superseded: of most control messages on a topic only the last matters,
and the same chunk is not sent twice because it was asked for twice.
"""

from plantfed_agent.events import Publish
from plantfed_agent.token_bucket import TokenBucket
from plantfed_shared.bus.port import publish_bytes
from plantfed_shared.errors import PeerError
from plantfed_shared.topics import Kind, Topics

BULK = frozenset({Kind.UPDATE, Kind.CHUNK})
REQUESTS = frozenset({Kind.NEED, Kind.PART})
"""Several may be about different things: only the same one again takes the place of the first."""

Key = tuple[str, bytes]


class Outlet:
    """The last station of an agent's messages before the bus.

    Args:
        topics: of the federation, to tell bulk from control.
        bytes_per_s: MQTT bytes; None where nothing is limited: all goes at once.

    Attributes:
        bulk_bytes: MQTT bytes of bulk that wait.
    """

    def __init__(self, topics: Topics, bytes_per_s: float | None) -> None:
        self._topics = topics
        self._bucket = None if bytes_per_s is None else TokenBucket(bytes_per_s)
        self._control: dict[Key, Publish] = {}
        self._bulk: dict[Key, Publish] = {}
        self.bulk_bytes = 0

    def add(self, message: Publish) -> None:
        """Take a message; :meth:`take_due` hands it out."""
        kind = self._kind(message.topic)
        key = message.topic, message.payload if kind in BULK | REQUESTS else b""
        if kind in BULK:
            if key not in self._bulk:
                self._bulk[key] = message
                self.bulk_bytes += _bytes(message)
        else:
            # at the end: what was said in between may be what it is about
            self._control.pop(key, None)
            self._control[key] = message

    def take_due(self, now: float, *, bulk: bool = True) -> list[Publish]:
        """What may be sent now.

        Args:
            now: monotonic seconds.
            bulk: whether bulk may go; it waits otherwise.
        """
        due: list[Publish] = []
        while (first := self._first(bulk=bulk)) is not None:
            waiting, key = first
            if self._bucket is not None and not self._bucket.take(_bytes(waiting[key]), now):
                break
            due.append(waiting.pop(key))
            if waiting is self._bulk:
                self.bulk_bytes -= _bytes(due[-1])
        return due

    def next_at(self, now: float, *, bulk: bool = True) -> float | None:
        """When something will be due, monotonic seconds; None while nothing waits."""
        first = self._first(bulk=bulk)
        if first is None:
            return None
        waiting, key = first
        return now if self._bucket is None else self._bucket.ready_at(_bytes(waiting[key]), now)

    def sent_beside(self, n_bytes: int, now: float) -> None:
        """Bytes have crossed that never came by here: a PUBACK, a CONNECT."""
        if self._bucket is not None:
            self._bucket.force(n_bytes, now)

    def clear(self) -> None:
        """Forget all: the connection they were meant for is gone."""
        self._control.clear()
        self._bulk.clear()
        self.bulk_bytes = 0

    def _first(self, *, bulk: bool) -> tuple[dict[Key, Publish], Key] | None:
        """What goes next, and where it waits."""
        for waiting in (self._control, self._bulk if bulk else {}):
            for key in waiting:
                return waiting, key
        return None

    def _kind(self, topic: str) -> Kind | None:
        try:
            return self._topics.parse(topic).kind
        except PeerError:
            return None


def _bytes(message: Publish) -> int:
    return publish_bytes(message.topic, len(message.payload), mqtt5=True)
