"""A message broker as a pure state machine: seeded faults, and time is an argument.

It joins agents and a coordinator in a simulation or a test by function calls.  Nothing happens by
itself: every call says what time it is, and :meth:`MemoryBroker.due` hands out what has arrived.
The same seed and the same calls give the same deliveries.

It keeps the contract of :mod:`plantfed_shared.bus.port` and, unlike a TCP connection, orders
deliveries per (publisher, topic) only: with a random delay, different topics overtake each other.
How long a message takes on a client's link is the business of a :class:`Transit`; without one the
links cost no time.
"""

import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count

from plantfed_shared.bus.faults import (
    REORDER_HOLD_S,
    REPLAY_AFTER_S,
    Faults,
    between,
    corrupted,
    hits,
)
from plantfed_shared.bus.filters import FilterTree, check_topic, matches
from plantfed_shared.bus.port import (
    MAX_MESSAGE_BYTES,
    BusEvent,
    Connected,
    Disconnected,
    Listening,
    Received,
    SessionSettings,
    listen_bytes,
    publish_bytes,
)
from plantfed_shared.bus.transit import Transit

_ANY_CONNECTION = 0


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event and the client it is for."""

    client_id: str
    event: BusEvent


@dataclass(frozen=True, slots=True)
class _Message:
    publisher: str
    topic: str
    payload: bytes

    n_bytes: int


@dataclass(frozen=True, slots=True)
class _Ascending:
    """A message that is still on its publisher's way to the broker."""

    message: _Message
    retain: bool


@dataclass(frozen=True, slots=True)
class _Asking:
    """A client's wish to hear of a topic, or of it no more, on its way to the broker."""

    topic: str
    wanted: bool


class _Client:
    """All the broker knows of one client id.

    ``connection`` numbers its present connection (0: none) and ``life`` is the first connection of
    the process that now holds the id; together they tell which deliveries are stale.
    """

    __slots__ = (
        "connection",
        "cut",
        "floors",
        "life",
        "listens_to",
        "queue",
        "session",
        "subscribed",
        "unacknowledged",
        "wanted",
    )

    def __init__(self, session: SessionSettings) -> None:
        self.session = session
        self.connection = 0
        self.life = 0
        self.cut = False
        self.wanted = False
        self.subscribed = False
        self.listens_to: set[str] = set()
        self.queue: deque[_Message] = deque()
        self.unacknowledged: dict[int, _Message] = {}
        # Not before this time may the next first copy of (publisher, topic) arrive.
        self.floors: dict[tuple[str, str], float] = {}


_Event = BusEvent | _Ascending | _Asking


class MemoryBroker:
    """One broker with all its clients.

    Args:
        rng: the only source of chance.
        faults: what goes wrong; :attr:`faults` may be replaced during a run.
        transit: how long messages take on the links; None: no time.

    Attributes:
        allows: whether a client may listen to a topic.
        sent: number of the last event that was put on its way.
        taken: number of the last one that was taken out.
    """

    def __init__(
        self, rng: random.Random, faults: Faults | None = None, transit: Transit | None = None
    ) -> None:
        self.faults = faults or Faults()
        self.allows: Callable[[str, str], bool] = lambda _client_id, _topic: True
        self.sent = 0
        self.taken = 0
        self._transit = transit
        self._rng = rng
        self._clients: dict[str, _Client] = {}
        self._cut_strangers: set[str] = set()
        self._filters = FilterTree()
        self._retained: dict[str, _Message] = {}
        self._deliveries: list[tuple[float, int, _Client, int, _Event]] = []
        self._connections = count(_ANY_CONNECTION + 1)
        self._tokens = count(1)

    def connect(self, session: SessionSettings, now: float) -> None:
        """A process presents itself: it gets Connected, then retained and queued messages.

        A connection that still stands under the same client id breaks first, as on a real broker.
        While the client is cut off this only notes that it wants in.
        """
        client = self._clients.get(session.client_id)
        if client is None:
            client = self._clients[session.client_id] = _Client(session)
            client.cut = session.client_id in self._cut_strangers
        else:
            self._break(client, now, publish_will=True)
            self._renew(client, session)
        client.wanted = True
        client.life = next(self._connections)
        if not client.cut:
            self._establish(client, now)

    def disconnect(self, client_id: str, now: float, *, clean: bool) -> None:
        """A process goes, in good order or (``clean=False``) by dying, which publishes its will.

        It gets no event any more.  A persistent session stays and queues.
        """
        client = self._clients.get(client_id)
        if client is None:
            return
        client.wanted = False
        client.life = next(self._connections)
        self._break(client, now, publish_will=not clean)

    def cut(self, client_id: str, now: float) -> None:
        """Part a client from the broker until :meth:`mend`; its will is published."""
        client = self._clients.get(client_id)
        if client is None:
            self._cut_strangers.add(client_id)
            return
        client.cut = True
        if client.connection:
            self._break(client, now, publish_will=True)
            self._push(now, client, client.life, Disconnected("the link is cut"))

    def mend(self, client_id: str, now: float) -> None:
        """Undo :meth:`cut`; a process that still runs is connected at once."""
        self._cut_strangers.discard(client_id)
        client = self._clients.get(client_id)
        if client is None or not client.cut:
            return
        client.cut = False
        if client.wanted:
            self._establish(client, now)

    def publish(
        self, client_id: str, topic: str, payload: bytes, now: float, *, retain: bool = False
    ) -> bool:
        """Take a message from a client.

        Returns:
            False when that client is not connected; the message is then lost.

        Raises:
            ValueError: a real broker would close the connection over this topic or length.
        """
        check_topic(topic)
        if len(payload) > MAX_MESSAGE_BYTES:
            raise ValueError(f"{len(payload)} bytes on {topic!r}: at most {MAX_MESSAGE_BYTES}")
        client = self._clients.get(client_id)
        if client is None or not client.connection:
            return False
        message = _message(client_id, topic, payload)
        if self._transit is None:
            self._route(message, now, retain=retain)
        else:
            arrival = self._transit.up(client_id, message.n_bytes, now)
            self._push(arrival, client, client.connection, _Ascending(message, retain))
        return True

    def acknowledge(self, client_id: str, token: int) -> None:
        """Settle a delivered message; an unknown token (old, or acknowledged before) is nothing."""
        client = self._clients.get(client_id)
        if client is not None:
            client.unacknowledged.pop(token, None)

    def listen(self, client_id: str, topic: str, now: float) -> None:
        """A client wants what is published on one topic from now on; it gets ``Listening``.

        Raises:
            ValueError: not a topic.
        """
        check_topic(topic)
        self._ask(client_id, _Asking(topic, wanted=True), now)

    def stop_listening(self, client_id: str, topic: str, now: float) -> None:
        """It wants no more of it; what is on its way still comes."""
        self._ask(client_id, _Asking(topic, wanted=False), now)

    def _ask(self, client_id: str, asking: _Asking, now: float) -> None:
        client = self._clients.get(client_id)
        if client is None or not client.connection:
            return
        if self._transit is None:
            self._take_asking(client, asking, now)
            return
        n_bytes, _ = listen_bytes((asking.topic,), mqtt5=True)
        arrival = self._transit.up(client_id, n_bytes, now)
        self._push(arrival, client, client.connection, asking)

    def _take_asking(self, client: _Client, asking: _Asking, now: float) -> None:
        client_id, topic = client.session.client_id, asking.topic
        allowed = self.allows(client_id, topic)
        if asking.wanted and allowed and topic not in client.listens_to:
            client.listens_to.add(topic)
            self._filters.add(SessionSettings(client_id, (topic,)))
        elif not asking.wanted and topic in client.listens_to:
            client.listens_to.remove(topic)
            self._filters.remove(SessionSettings(client_id, (topic,)))
        if asking.wanted:
            arrival = now
            if self._transit is not None:
                _, n_bytes = listen_bytes((topic,), mqtt5=True)
                arrival = self._transit.down(client_id, n_bytes, now)
            self._push(arrival, client, client.connection, Listening(topic, allowed))

    def forget(self, now: float) -> None:
        """The broker is killed with nothing on disk and starts anew; everybody reconnects.

        No will is published: the dead can't, and the new one knows of none.
        """
        self._retained.clear()
        connected = [client for client in self._clients.values() if client.connection]
        for client in connected:
            self._break(client, now, publish_will=False)
            self._push(now, client, client.life, Disconnected("the broker has gone"))
        for client in self._clients.values():
            self._end_session(client)
        for client in connected:
            self._establish(client, now)

    def next_due(self) -> float | None:
        """When :meth:`due` will next have something, or None."""
        heap = self._deliveries
        while heap and not _is_live(heap[0][2], heap[0][3], heap[0][4]):
            heappop(heap)
        return heap[0][0] if heap else None

    def due(self, now: float) -> list[Delivery]:
        """Take out all deliveries due up to now, in order of time, then of sending."""
        return list(self._due(now))

    def pop_due(self, now: float) -> Delivery | None:
        """Take out one delivery: for a caller whose handling of it may stop a client."""
        return next(self._due(now), None) if self._deliveries else None

    def _due(self, now: float) -> Iterator[Delivery]:
        heap = self._deliveries
        while heap and heap[0][0] <= now:
            arrival, number, client, connection, event = heappop(heap)
            if not _is_live(client, connection, event):
                continue
            if isinstance(event, _Ascending):
                self._route(event.message, arrival, retain=event.retain)
            elif isinstance(event, _Asking):
                self._take_asking(client, event, arrival)
            else:
                self.taken = number
                yield Delivery(client.session.client_id, event)

    def _establish(self, client: _Client, now: float) -> None:
        session = client.session
        client.connection = next(self._connections)
        if not client.subscribed:
            client.subscribed = True
            self._filters.add(session)
        self._push(now, client, client.connection, Connected())
        for message in self._retained_for(session):
            self._deliver(client, message, now, retained=True)
        waiting, client.queue = client.queue, deque()
        for message in waiting:
            self._deliver(client, message, now)

    def _break(self, client: _Client, now: float, *, publish_will: bool) -> None:
        if not client.connection:
            return
        client.connection = 0
        client.floors.clear()
        for topic in client.listens_to:
            self._filters.remove(SessionSettings(client.session.client_id, (topic,)))
        client.listens_to.clear()
        if self._transit is not None:
            self._transit.broken(client.session.client_id, now)
        if client.session.persistent:
            client.queue.extendleft(reversed(client.unacknowledged.values()))
            client.unacknowledged.clear()
        else:
            self._end_session(client)
        will = client.session.will
        if publish_will and will is not None:
            message = _message(client.session.client_id, will.topic, will.payload)
            self._route(message, now, retain=will.retain)

    def _renew(self, client: _Client, session: SessionSettings) -> None:
        if session != client.session:
            if session.persistent and client.subscribed:
                self._filters.remove(client.session)
                self._filters.add(session)
            elif not session.persistent:
                self._end_session(client)
            client.session = session

    def _end_session(self, client: _Client) -> None:
        client.queue.clear()
        client.unacknowledged.clear()
        if client.subscribed:
            client.subscribed = False
            self._filters.remove(client.session)

    def _retained_for(self, session: SessionSettings) -> list[_Message]:
        found: dict[str, _Message] = {}
        for topic_filter in session.subscriptions:
            literal = topic_filter.split("+")[0].split("#")[0]
            if literal == topic_filter:
                if topic_filter in self._retained:
                    found[topic_filter] = self._retained[topic_filter]
                continue
            # "a/#" covers "a" as well, so the last slash of the literal part says nothing.
            start = literal.rstrip("/")
            for topic, message in self._retained.items():
                if topic.startswith(start) and matches(topic_filter, topic):
                    found[topic] = message
        return list(found.values())

    def _route(self, message: _Message, now: float, *, retain: bool) -> None:
        if retain:
            self._retained.pop(message.topic, None)
            if message.payload:
                self._retained[message.topic] = message
        for client_id in self._filters.subscribers(message.topic):
            client = self._clients[client_id]
            if client.connection:
                self._deliver(client, message, now)
            else:
                client.queue.append(message)

    def _deliver(
        self, client: _Client, message: _Message, now: float, *, retained: bool = False
    ) -> None:
        faults, rng = self.faults, self._rng
        if hits(rng, faults.drop):
            return
        token = next(self._tokens)
        if client.session.persistent:
            client.unacknowledged[token] = message
        payload = message.payload
        if hits(rng, faults.corrupt):
            payload = corrupted(rng, payload)
        event = Received(message.topic, payload, token, retained)
        arrival = self._first_arrival(client, message, now)
        self._push(arrival, client, client.connection, event)
        if hits(rng, faults.duplicate):
            again = arrival + between(rng, faults.delay_s)
            self._push(again, client, client.connection, event)
        if hits(rng, faults.replay):
            again = arrival + between(rng, REPLAY_AFTER_S)
            self._push(again, client, _ANY_CONNECTION, event)

    def _first_arrival(self, client: _Client, message: _Message, now: float) -> float:
        way = message.publisher, message.topic
        arrival = now + between(self._rng, self.faults.delay_s)
        if self._transit is not None:
            arrival = self._transit.down(client.session.client_id, message.n_bytes, arrival)
        if client.floors:
            arrival = max(arrival, client.floors.get(way, arrival))
        if hits(self._rng, self.faults.reorder):
            return arrival + between(self._rng, (0.0, REORDER_HOLD_S))
        if arrival > now:
            client.floors[way] = arrival
        return arrival

    def _push(self, arrival: float, client: _Client, connection: int, event: _Event) -> None:
        self.sent += 1
        heappush(self._deliveries, (arrival, self.sent, client, connection, event))


def _is_live(client: _Client, connection: int, event: _Event) -> bool:
    if isinstance(event, Disconnected):
        return client.wanted and connection == client.life
    return client.connection > 0 and connection in (_ANY_CONNECTION, client.connection)


def _message(publisher: str, topic: str, payload: bytes) -> _Message:
    return _Message(publisher, topic, payload, publish_bytes(topic, len(payload), mqtt5=True))
