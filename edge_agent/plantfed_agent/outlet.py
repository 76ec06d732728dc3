"""What the agent wants to send, let go at the pace of its link: pure.

Control messages (HELLO, OFFER, NEED, ...) go before bulk (UPDATE and CHUNK), in order within each.
What waits here can still be superseded: of control messages on a topic only the last matters, and
the same chunk is not sent twice because it was asked for twice.
"""

from plantfed_agent.events import Publish
from plantfed_agent.token_bucket import TokenBucket
from plantfed_shared.bus.port import publish_bytes
from plantfed_shared.errors import PeerError
from plantfed_shared.topics import Kind, Topics

BULK = frozenset({Kind.UPDATE, Kind.CHUNK})


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
        self._control: dict[str, Publish] = {}
        self._bulk: dict[tuple[str, bytes], Publish] = {}
        self.bulk_bytes = 0

    def add(self, message: Publish) -> None:
        """Take a message; :meth:`take_due` hands it out."""
        if self._is_bulk(message.topic):
            key = message.topic, message.payload
            if key not in self._bulk:
                self._bulk[key] = message
                self.bulk_bytes += _bytes(message)
        else:
            # at the end: what was said in between may be what it is about
            self._control.pop(message.topic, None)
            self._control[message.topic] = message

    def take_due(self, now: float, *, bulk: bool = True) -> list[Publish]:
        """What may be sent now.

        Args:
            now: monotonic seconds.
            bulk: whether bulk may go; it waits otherwise.
        """
        due = []
        while (found := self._first(bulk=bulk)) is not None:
            if self._bucket is not None and not self._bucket.take(_bytes(found), now):
                break
            due.append(found)
            self._forget(found)
        return due

    def next_at(self, now: float, *, bulk: bool = True) -> float | None:
        """When something will be due, monotonic seconds; None while nothing waits."""
        found = self._first(bulk=bulk)
        if found is None:
            return None
        return now if self._bucket is None else self._bucket.ready_at(_bytes(found), now)

    def sent_beside(self, n_bytes: int, now: float) -> None:
        """Bytes have crossed that never came by here: a PUBACK, a CONNECT."""
        if self._bucket is not None:
            self._bucket.force(n_bytes, now)

    def clear(self) -> None:
        """Forget all: the connection they were meant for is gone."""
        self._control.clear()
        self._bulk.clear()
        self.bulk_bytes = 0

    def _first(self, *, bulk: bool) -> Publish | None:
        if self._control:
            return next(iter(self._control.values()))
        return next(iter(self._bulk.values()), None) if bulk else None

    def _forget(self, message: Publish) -> None:
        if self._control.get(message.topic) is message:
            del self._control[message.topic]
        else:
            del self._bulk[message.topic, message.payload]
            self.bulk_bytes -= _bytes(message)

    def _is_bulk(self, topic: str) -> bool:
        try:
            return self._topics.parse(topic).kind in BULK
        except PeerError:
            return False


def _bytes(message: Publish) -> int:
    return publish_bytes(message.topic, len(message.payload), mqtt5=True)
