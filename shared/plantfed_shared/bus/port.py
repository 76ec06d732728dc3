"""The bus port: all that agents and the coordinator may assume about a message broker.

Contract (``tests/contract/test_bus.py`` runs it on every implementation):

* Delivery is **at least once**: a message may arrive twice, also long after it was sent.
* From one publisher on one topic, first copies arrive in the order they were published.
* A message whose delivery was not acknowledged with :meth:`Bus.acknowledge` is delivered again
  after a reconnect, if the session is persistent.
* ``publish`` proves nothing about delivery: brokers acknowledge what they then drop.
* A message may not even be sent: while disconnected nothing is queued, a connection may grant
  shorter messages than the one its sender knew of, and what waits for a slow broker is bounded.
  Then the future of ``publish`` fails with :class:`NotSent`, and the protocol says again what still
  matters: after a connect, after a timeout, or when it is asked.
* Subscriptions and the will are fixed at construction; ``Connected`` follows their (re)activation.
* Besides, a client may listen to single topics for a while (:meth:`Bus.listen`).  What is published
  there after ``Listening`` comes to it, until it ends that or the connection does.
"""

from asyncio import Future
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from plantfed_shared.bus.connection_state import ConnectionState

MAX_MESSAGE_BYTES = 48 * 1024
"""Largest payload on any topic: what every broker we know carries with room to spare."""

QOS = 1


class NotSent(Exception):
    """A message was dropped instead of sent; says why."""


class NotConnected(NotSent):
    """It was handed over while there is no connection."""


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes for this client when its connection breaks."""

    topic: str
    payload: bytes
    retain: bool = True


@dataclass(frozen=True, slots=True)
class Connected:
    """The connection stands and all subscriptions are active.

    Attributes:
        max_payload_bytes: what the broker grants, at most :data:`MAX_MESSAGE_BYTES`.
    """

    max_payload_bytes: int = MAX_MESSAGE_BYTES


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection broke or an attempt failed; the bus goes on trying by itself."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The broker answered and refused this client's identity; the bus goes on trying."""

    reason: str


@dataclass(frozen=True, slots=True)
class Received:
    """A message; ``token`` is for :meth:`Bus.acknowledge`."""

    topic: str
    payload: bytes
    token: int
    retained: bool = False


@dataclass(frozen=True, slots=True)
class Listening:
    """The broker has answered :meth:`Bus.listen`.

    Attributes:
        topic: that was asked for.
        allowed: whether anything can come on it; some brokers say so to everybody.
    """

    topic: str
    allowed: bool


BusEvent = Connected | Disconnected | Refused | Received | Listening


@dataclass(slots=True)
class Traffic:
    """MQTT bytes and PUBLISH packets since the bus was opened, without TCP and TLS.

    Attributes:
        bytes_in: PUBLISH packets with topic, packet id and (MQTT 5) property length, and PUBACKs.
        bytes_out: the same.
        messages_in: PUBLISH packets.
        messages_out: the same.
        session_bytes_in: what keeps the connection: answers to connecting, subscribing and pings.
        session_bytes_out: the same; CONNECT, SUBSCRIBE and pings.
    """

    bytes_in: int = 0
    bytes_out: int = 0
    messages_in: int = 0
    messages_out: int = 0
    session_bytes_in: int = 0
    session_bytes_out: int = 0


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """How a client presents itself to the broker.

    Attributes:
        client_id: unique on the broker.
        subscriptions: topic filters, QoS 1.
        will: published by the broker when the connection breaks.
        persistent: keep subscriptions and queued messages over a disconnect.
        keepalive_s: seconds; MQTT keep alive.
    """

    client_id: str
    subscriptions: tuple[str, ...]
    will: Will | None = None
    persistent: bool = False
    keepalive_s: int = 60


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where the broker is and how to identify to it.

    Attributes:
        host: name or address.
        port: TCP port.
        username: user, or None for none (with client certificates the broker takes it from there).
        password: secret; never logged.
        ca_file: PEM file; its presence switches TLS on.
        cert_file: PEM client certificate.
        key_file: PEM private key.
    """

    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None


class Bus(Protocol):
    """One client of a message broker, for one asyncio loop."""

    @property
    def traffic(self) -> Traffic:
        """Counters since :meth:`open`."""
        ...

    @property
    def connection(self) -> ConnectionState:
        """Whether there is a connection now, since when, and the last trouble.

        It tells of the present, so it may be ahead of the events not yet taken.
        """
        ...

    async def open(self) -> None:
        """Start connecting in the background; returns at once.

        Raises:
            ConfigError: a certificate or key file cannot be used.
        """
        ...

    async def next_event(self) -> BusEvent:
        """Wait for the next event, in the order they happened.

        Raises:
            BaseException: whatever ended the bus for good: a mistake in it, of which its user
                would otherwise hear nothing any more.
        """
        ...

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> "Future[None]":
        """Hand over one message, QoS 1.

        Returns:
            A future that ends when the broker has acknowledged, or fails with
            :class:`NotSent`.  Nobody has to wait for it.

        Raises:
            ValueError: the payload is longer than :data:`MAX_MESSAGE_BYTES`, whatever the broker
                grants: a mistake of the caller's.
        """
        ...

    def acknowledge(self, token: int) -> None:
        """Tell the broker that a received message is dealt with."""
        ...

    def listen(self, topic: str) -> None:
        """Ask for what is published on one topic from now on; :class:`Listening` follows.

        Nothing follows where the connection breaks before, or there is none.  The topic must be
        covered by none of the fixed subscriptions.
        """
        ...

    def stop_listening(self, topic: str) -> None:
        """Ask for no more of it; what is on its way may still come."""
        ...

    async def close(self) -> None:
        """Disconnect in good order: what was published is sent, the will is not."""
        ...


def publish_bytes(topic: str, payload_bytes: int, *, mqtt5: bool) -> int:
    """Bytes of one QoS 1 PUBLISH packet (MQTT 3.1.1 section 3.3; MQTT 5 adds a property length)."""
    return _packet_bytes(2 + len(topic.encode()) + 2 + (1 if mqtt5 else 0) + payload_bytes)


PUBACK_BYTES = 4
"""A PUBACK without reason code (MQTT section 3.4)."""

PING_BYTES = 2
"""A PINGREQ or a PINGRESP (MQTT sections 3.12 and 3.13)."""

CONNACK_BYTES = 20
"""About, with what MQTT 5 brokers grant in it (MQTT section 3.2)."""


def connect_bytes(session: SessionSettings, address: BrokerAddress, *, mqtt5: bool) -> int:
    """Bytes of a CONNECT packet (MQTT section 3.1)."""
    texts = [session.client_id, address.username, address.password]
    # protocol name, level, flags, keep alive; properties with a session expiry interval
    fields = 10 + (6 if mqtt5 else 0) + sum(2 + len(t.encode()) for t in texts if t is not None)
    if session.will is not None:
        fields += 4 + len(session.will.topic.encode()) + len(session.will.payload) + mqtt5
    return _packet_bytes(fields)


def subscribe_bytes(session: SessionSettings, *, mqtt5: bool) -> tuple[int, int]:
    """Bytes of a SUBSCRIBE packet and of its SUBACK (MQTT sections 3.8 and 3.9)."""
    return listen_bytes(session.subscriptions, mqtt5=mqtt5)


def listen_bytes(topics: Sequence[str], *, mqtt5: bool) -> tuple[int, int]:
    """Bytes of a SUBSCRIBE packet for some filters and of its SUBACK."""
    own = 2 + mqtt5
    filters = sum(3 + len(topic.encode()) for topic in topics)
    return _packet_bytes(own + filters), _packet_bytes(own + len(topics))


def stop_listening_bytes(topic: str, *, mqtt5: bool) -> tuple[int, int]:
    """Bytes of an UNSUBSCRIBE packet for one filter and of its UNSUBACK (MQTT section 3.10)."""
    own = 2 + mqtt5
    return _packet_bytes(own + 2 + len(topic.encode())), _packet_bytes(own + mqtt5)


def _packet_bytes(remaining: int) -> int:
    """With the fixed header (MQTT section 2.2)."""
    length_bytes = 1
    while remaining >> (7 * length_bytes):
        length_bytes += 1
    return 1 + length_bytes + remaining
