"""The bus port over MQTT: one connection after the other, for as long as the bus is open.

Reconnecting is ours: paho hides why an attempt failed, and resends what the protocol has
superseded.
"""

import asyncio
import random
from asyncio import Future

from plantfed_shared.bus.connection import Connection, Inbox
from plantfed_shared.bus.port import (
    MAX_MESSAGE_BYTES,
    BrokerAddress,
    BusEvent,
    SessionSettings,
    Traffic,
)
from plantfed_shared.bus.reconnect import Backoff, Dialect, Protocol
from plantfed_shared.bus.sending import Outgoing, fail
from plantfed_shared.bus.tls import tls_context


class MqttBus:
    """One client of an MQTT broker.

    Args:
        address: where the broker is and who we are.
        session: subscriptions, will and persistence.
        rng: jitter of the reconnection waits.
        protocol: ``auto`` is MQTT 5, or 3.1.1 on a broker that doesn't speak 5.
    """

    def __init__(
        self,
        address: BrokerAddress,
        session: SessionSettings,
        *,
        rng: random.Random,
        protocol: Protocol = "auto",
    ) -> None:
        self._address = address
        self._session = session
        self._backoff = Backoff(rng)
        self._dialect = Dialect(protocol)
        self._events: asyncio.Queue[BusEvent] = asyncio.Queue()
        self._inbox = Inbox(self._events)
        self._connection: Connection | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def traffic(self) -> Traffic:
        """Counters since :meth:`open`."""
        return self._inbox.traffic

    async def open(self) -> None:
        """Start connecting in the background.

        Raises:
            ConfigError: a certificate or key file cannot be used.
        """
        tls_context(self._address)
        self._keeper = asyncio.create_task(self._keep_connected())

    async def next_event(self) -> BusEvent:
        """Wait for the next event."""
        return await self._events.get()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> "Future[None]":
        """Hand over one message; see :meth:`plantfed_shared.bus.port.Bus.publish`."""
        connection = self._connection
        granted = MAX_MESSAGE_BYTES if connection is None else connection.max_payload_bytes
        if len(payload) > granted:
            raise ValueError(f"{len(payload)} bytes on {topic!r}: at most {granted}")
        future: Future[None] = asyncio.get_running_loop().create_future()
        if connection is not None and connection.ready:
            connection.sending.add(Outgoing(topic, payload, retain, future))
        else:
            fail(future)
        return future

    def acknowledge(self, token: int) -> None:
        """Tell the broker that a message is dealt with; nothing for one of an old connection."""
        if self._connection is not None:
            self._connection.acknowledge(token)

    async def close(self) -> None:
        """Send what was published, within two seconds, and disconnect in good order."""
        if self._keeper is None:
            return
        self._keeper.cancel()
        await asyncio.wait([self._keeper])
        self._keeper = None
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _keep_connected(self) -> None:
        while True:
            connection = Connection(
                self._address, self._session, self._inbox, mqtt5=self._dialect.mqtt5
            )
            self._connection = connection
            connection.start()
            # Unlike a plain await, a wait doesn't cancel the future together with this task.
            await asyncio.wait([connection.ended])
            end = connection.ended.result()
            if connection.stood_s > 0.0:
                self._dialect.worked()
            if self._dialect.change_after(end):
                continue
            self._events.put_nowait(end.event)
            await asyncio.sleep(self._backoff.wait_after(connection.stood_s))
