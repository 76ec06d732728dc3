"""The bus port on a :class:`MemoryBroker`, for several clients in one asyncio loop."""

import asyncio
from asyncio import Future
from collections.abc import Callable
from time import time

from plantfed_shared.bus.connection_state import ConnectionState, Trouble, TroubleKind
from plantfed_shared.bus.memory import MemoryBroker
from plantfed_shared.bus.port import (
    PUBACK_BYTES,
    BusEvent,
    Connected,
    Disconnected,
    NotConnected,
    Received,
    SessionSettings,
    Traffic,
    listen_bytes,
    publish_bytes,
    stop_listening_bytes,
)
from plantfed_shared.bus.sending import fail


class LocalHub:
    """Carries what is due in a broker to the buses on it, when it is due.

    Whoever calls the broker directly (``cut``, ``forget``, ...) calls :meth:`wake` afterwards.

    Args:
        broker: the broker all buses share.
        clock: its time, in seconds; must run at the pace of the loop's.
        wall_clock: Unix time in seconds, for :attr:`LocalBus.connection`.
    """

    def __init__(
        self,
        broker: MemoryBroker,
        clock: Callable[[], float],
        wall_clock: Callable[[], float] = time,
    ) -> None:
        self.broker = broker
        self.clock = clock
        self.wall_clock = wall_clock
        self._buses: dict[str, LocalBus] = {}
        self._timer: asyncio.TimerHandle | None = None

    def attach(self, client_id: str, bus: "LocalBus") -> None:
        """Send this client's deliveries to this bus from now on."""
        self._buses[client_id] = bus

    def detach(self, client_id: str, bus: "LocalBus") -> bool:
        """Stop that; False when another bus has taken the name over."""
        if self._buses.get(client_id) is not bus:
            return False
        del self._buses[client_id]
        return True

    def wake(self) -> None:
        """Look again at what is due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self.broker.next_due()
        if due is not None:
            wait_s = max(0.0, due - self.clock())
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._pump)

    def _pump(self) -> None:
        self._timer = None
        for delivery in self.broker.due(self.clock()):
            bus = self._buses.get(delivery.client_id)
            if bus is not None:
                bus.deliver(delivery.event)
        self.wake()


class LocalBus:
    """One client on a :class:`LocalHub`."""

    def __init__(self, hub: LocalHub, session: SessionSettings) -> None:
        self._hub = hub
        self._session = session
        self._events: asyncio.Queue[BusEvent] = asyncio.Queue()
        self._traffic = Traffic()
        self._state = ConnectionState(connected=False, since=hub.wall_clock())

    @property
    def traffic(self) -> Traffic:
        """Counters since :meth:`open`, as MQTT 3.1.1 packets."""
        return self._traffic

    @property
    def connection(self) -> ConnectionState:
        """Whether there is a connection now, since when, and the last trouble."""
        return self._state

    async def open(self) -> None:
        """Connect; ``Connected`` follows."""
        self._hub.attach(self._session.client_id, self)
        self._hub.broker.connect(self._session, self._hub.clock())
        self._hub.wake()

    async def next_event(self) -> BusEvent:
        """Wait for the next event."""
        return await self._events.get()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> "Future[None]":
        """Hand one message to the broker, which takes it at once or never."""
        hub, client_id = self._hub, self._session.client_id
        future: Future[None] = asyncio.get_running_loop().create_future()
        if hub.broker.publish(client_id, topic, payload, hub.clock(), retain=retain):
            self._traffic.messages_out += 1
            self._traffic.bytes_out += publish_bytes(topic, len(payload), mqtt5=False)
            self._traffic.bytes_in += PUBACK_BYTES
            future.set_result(None)
            hub.wake()
        else:
            fail(future, NotConnected(f"{client_id} is not connected"))
        return future

    def acknowledge(self, token: int) -> None:
        """Settle one received message."""
        self._traffic.bytes_out += PUBACK_BYTES
        self._hub.broker.acknowledge(self._session.client_id, token)

    def listen(self, topic: str) -> None:
        """Ask for what is published on one topic; ``Listening`` follows."""
        self._count_session(*listen_bytes((topic,), mqtt5=False))
        self._hub.broker.listen(self._session.client_id, topic, self._hub.clock())
        self._hub.wake()

    def stop_listening(self, topic: str) -> None:
        """Ask for no more of it."""
        self._count_session(*stop_listening_bytes(topic, mqtt5=False))
        self._hub.broker.stop_listening(self._session.client_id, topic, self._hub.clock())
        self._hub.wake()

    def _count_session(self, bytes_out: int, bytes_in: int) -> None:
        self._traffic.session_bytes_out += bytes_out
        self._traffic.session_bytes_in += bytes_in

    async def close(self) -> None:
        """Leave without a will."""
        await self._leave(clean=True)

    async def die(self) -> None:
        """Leave as a killed process does: the broker publishes the will."""
        await self._leave(clean=False)

    async def _leave(self, *, clean: bool) -> None:
        self._state = self._state.ended(self._hub.wall_clock())
        if self._hub.detach(self._session.client_id, self):
            self._hub.broker.disconnect(self._session.client_id, self._hub.clock(), clean=clean)
            self._hub.wake()

    def deliver(self, event: BusEvent) -> None:
        """Take one event from the hub."""
        match event:
            case Received(topic, payload):
                self._traffic.messages_in += 1
                self._traffic.bytes_in += publish_bytes(topic, len(payload), mqtt5=False)
            case Connected():
                self._state = self._state.made(self._hub.wall_clock())
            case Disconnected(reason):
                trouble = Trouble(reason, TroubleKind.UNAVAILABLE, self._hub.wall_clock())
                self._state = self._state.failed(trouble)
        self._events.put_nowait(event)
