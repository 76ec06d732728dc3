"""A TCP relay before a broker that speaks enough MQTT to count, double and swap PUBLISH packets.

All it does a broker may do (MQTT 5 sections 4.3.2 and 4.6): a message arrives twice, the second
time with a packet id of its own and perhaps later than others; messages on different topics pass
each other.  First copies on one topic stay in order.
"""

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

HOST = "127.0.0.1"
PUBLISH, PUBACK, DISCONNECT = 3, 4, 14
DUP, QOS_BITS = 0x08, 0x06
FIRST_ID_OF_COPIES = 0xC000
"""Neither paho nor mosquitto gets so far in a test: both count packet ids from 1."""
SWAP_WITHIN_S = 0.05
COPY_WITHIN_S = 0.5
NAMES = {
    1: "CONNECT",
    2: "CONNACK",
    PUBLISH: "PUBLISH",
    PUBACK: "PUBACK",
    8: "SUBSCRIBE",
    9: "SUBACK",
    12: "PINGREQ",
    13: "PINGRESP",
    DISCONNECT: "DISCONNECT",
}


@dataclass(frozen=True, slots=True)
class Meddling:
    """Probabilities per PUBLISH, in each direction."""

    double: float = 0.0
    swap: float = 0.0


@dataclass(slots=True)
class Tally:
    """What went through, without the relay's own copies.

    Attributes:
        n_bytes: MQTT bytes by name of packet, both directions.
        packets: their number.
        topics: PUBLISH packets by the last level of their topic.
        longest_publish: of a client, with its header.
        most_unacknowledged: PUBLISH packets of one client that waited for PUBACK at once.
    """

    n_bytes: Counter[str] = field(default_factory=Counter)
    packets: Counter[str] = field(default_factory=Counter)
    topics: Counter[str] = field(default_factory=Counter)
    longest_publish: int = 0
    most_unacknowledged: int = 0
    doubled: int = 0
    swapped: int = 0


class Packet:
    """One MQTT packet."""

    def __init__(self, whole: bytes, body_at: int) -> None:
        self.whole = whole
        self.kind = whole[0] >> 4
        self._body_at = body_at

    @property
    def is_qos1_publish(self) -> bool:
        return self.kind == PUBLISH and bool(self.whole[0] & QOS_BITS)

    @property
    def topic(self) -> bytes:
        """Of a PUBLISH."""
        return self.whole[self._body_at + 2 : self._id_at]

    @property
    def packet_id(self) -> int:
        """Of a PUBLISH or PUBACK."""
        at = self._id_at
        return int.from_bytes(self.whole[at : at + 2], "big")

    def copy(self, packet_id: int) -> bytes:
        """The same PUBLISH with another packet id."""
        at = self._id_at
        return self.whole[:at] + packet_id.to_bytes(2, "big") + self.whole[at + 2 :]

    @property
    def _id_at(self) -> int:
        if self.kind != PUBLISH:
            return self._body_at
        at = self._body_at
        return at + 2 + int.from_bytes(self.whole[at : at + 2], "big")


async def read_packet(reader: asyncio.StreamReader) -> Packet:
    """The next packet (MQTT section 2.1).

    Raises:
        asyncio.IncompleteReadError: the connection has ended.
    """
    head = bytearray(await reader.readexactly(1))
    length, shift = 0, 0
    while True:
        byte = (await reader.readexactly(1))[0]
        head.append(byte)
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    return Packet(bytes(head) + await reader.readexactly(length), len(head))


class Way:
    """One direction of one connection.

    Args:
        writer: to where it goes.
        meddling: with it.
        rng: chance.
        tally: of all connections.
        unacknowledged: packet ids of the client's PUBLISH packets; shared by both directions.
        from_client: or from the broker.
    """

    def __init__(
        self,
        writer: asyncio.StreamWriter,
        meddling: Meddling,
        rng: random.Random,
        tally: Tally,
        unacknowledged: set[int],
        *,
        from_client: bool,
    ) -> None:
        self._unacknowledged = unacknowledged
        self._from_client = from_client
        self._writer = writer
        self._meddling = meddling
        self._rng = rng
        self._tally = tally
        self._held: Packet | None = None
        self._next_copy = FIRST_ID_OF_COPIES
        self._timers: list[asyncio.TimerHandle] = []

    async def take(self, packet: Packet) -> None:
        """Pass on what has come, now or later."""
        name = NAMES.get(packet.kind, str(packet.kind))
        if packet.kind == PUBACK and packet.packet_id >= FIRST_ID_OF_COPIES:
            return  # of our own copy
        self._tally.packets[name] += 1
        self._tally.n_bytes[name] += len(packet.whole)
        if self._from_client and packet.is_qos1_publish:
            self._unacknowledged.add(packet.packet_id)
            waiting, length = len(self._unacknowledged), len(packet.whole)
            self._tally.most_unacknowledged = max(self._tally.most_unacknowledged, waiting)
            self._tally.longest_publish = max(self._tally.longest_publish, length)
        elif not self._from_client and packet.kind == PUBACK:
            self._unacknowledged.discard(packet.packet_id)
        if packet.is_qos1_publish:
            self._tally.topics[packet.topic.decode().rsplit("/", 1)[-1]] += 1
            self._take_publish(packet)
        else:
            if packet.kind == DISCONNECT:
                self._let_go()
            self._write(packet.whole)
        await self._writer.drain()

    def close(self) -> None:
        """The other side has hung up."""
        for timer in self._timers:
            timer.cancel()
        self._let_go()
        self._writer.close()

    def _take_publish(self, packet: Packet) -> None:
        if self._rng.random() < self._meddling.double:
            self._tally.doubled += 1
            copy = packet.copy(self._next_copy)
            self._next_copy = max(FIRST_ID_OF_COPIES, (self._next_copy + 1) % 0xFFFF)
            self._after(self._rng.uniform(SWAP_WITHIN_S, COPY_WITHIN_S), lambda: self._write(copy))
        held, self._held = self._held, None
        if held is not None:
            swap = held.topic != packet.topic
            self._tally.swapped += swap
            for one in (packet, held) if swap else (held, packet):
                self._write(one.whole)
        elif self._rng.random() < self._meddling.swap:
            self._held = packet
            self._after(SWAP_WITHIN_S, self._let_go)
        else:
            self._write(packet.whole)

    def _let_go(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            self._write(held.whole)

    def _after(self, delay_s: float, job: Callable[[], None]) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(delay_s, job))

    def _write(self, packet: bytes) -> None:
        if not self._writer.is_closing():
            self._writer.write(packet)


class Meddler:
    """The relay.

    Attributes:
        port: to connect to.
        tally: of all connections.
    """

    def __init__(self, broker_port: int, meddling: Meddling, seed: int) -> None:
        self.port = 0
        self.tally = Tally()
        self._broker_port = broker_port
        self._meddling = meddling
        self._rng = random.Random(seed)
        self._relays: set[asyncio.Task[None]] = set()

    async def serve(self, stopped: asyncio.Event, ready: threading.Event) -> None:
        """Relay until told to stop."""
        server = await asyncio.start_server(self._accept, HOST, 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        async with server:
            await stopped.wait()
            server.close()
            for task in self._relays:
                task.cancel()
            await asyncio.gather(*self._relays, return_exceptions=True)

    async def _accept(
        self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter
    ) -> None:
        try:
            from_broker, to_broker = await asyncio.open_connection(HOST, self._broker_port)
        except OSError:
            to_client.close()
            return
        unacknowledged: set[int] = set()
        for reader, writer, up in (
            (from_client, to_broker, True),
            (from_broker, to_client, False),
        ):
            rng = random.Random(self._rng.random())
            way = Way(writer, self._meddling, rng, self.tally, unacknowledged, from_client=up)
            task = asyncio.create_task(_relay(reader, way))
            self._relays.add(task)
            task.add_done_callback(self._relays.discard)


async def _relay(reader: asyncio.StreamReader, way: Way) -> None:
    try:
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                await way.take(await read_packet(reader))
    finally:
        way.close()


@contextmanager
def meddler(broker_port: int, meddling: Meddling, seed: int = 1) -> Iterator[Meddler]:
    """Run a relay on a thread of its own."""
    relay = Meddler(broker_port, meddling, seed)
    ready = threading.Event()
    loop_of: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        stopped = asyncio.Event()
        loop_of.append((asyncio.get_running_loop(), stopped))
        await relay.serve(stopped, ready)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    ready.wait()
    try:
        yield relay
    finally:
        loop, stopped = loop_of[0]
        loop.call_soon_threadsafe(stopped.set)
        thread.join()
