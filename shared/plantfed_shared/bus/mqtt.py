"""The bus port over MQTT: one connection after the other, for as long as the bus is open.

Reconnecting is ours: paho hides why an attempt failed, and resends what the protocol has
superseded.
"""

import asyncio
import random
from asyncio import Future
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from time import time

from plantfed_shared.bus.connection import Connection
from plantfed_shared.bus.connection_state import ConnectionState
from plantfed_shared.bus.inbox import Inbox
from plantfed_shared.bus.port import (
    MAX_MESSAGE_BYTES,
    BrokerAddress,
    BusEvent,
    NotConnected,
    SessionSettings,
    Traffic,
)
from plantfed_shared.bus.reconnect import Dialect, Flapping, Pauses, Protocol
from plantfed_shared.bus.sending import Outgoing, fail
from plantfed_shared.bus.tls import tls_context

LISTENS_WITHIN_S = 1.0
"""A broker that doesn't take a TCP connection in this time is gone, or out of reach."""


class MqttBus:
    """One client of an MQTT broker.

    Args:
        address: where the broker is and who we are.
        session: subscriptions, will and persistence.
        rng: jitter of the reconnection waits.
        protocol: ``auto`` is MQTT 5, or 3.1.1 on a broker that doesn't speak 5.
        wall_clock: Unix time in seconds, for :attr:`connection`.
        admits: told topic and bytes of each message on the thread that reads; what it turns away is
            acknowledged and forgotten.
    """

    def __init__(
        self,
        address: BrokerAddress,
        session: SessionSettings,
        *,
        rng: random.Random,
        protocol: Protocol = "auto",
        wall_clock: Callable[[], float] = time,
        admits: Callable[[str, int], bool] | None = None,
    ) -> None:
        self._address = address
        self._admits = admits
        self._session = session
        self._pauses = Pauses(rng)
        self._flapping = Flapping(session.client_id)
        self._dialect = Dialect(protocol)
        self._inbox = Inbox(wall_clock)
        self._connection: Connection | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def traffic(self) -> Traffic:
        """Counters since :meth:`open`."""
        return self._inbox.traffic

    @property
    def connection(self) -> ConnectionState:
        """Whether there is a connection now, since when, and the last trouble."""
        return self._inbox.state

    async def open(self) -> None:
        """Start connecting in the background.

        Raises:
            ConfigError: a certificate or key file cannot be used.
        """
        tls_context(self._address)
        self._keeper = asyncio.create_task(self._keep_connected())
        self._keeper.add_done_callback(self._keeper_ended)

    async def next_event(self) -> BusEvent:
        """Wait for the next event; see :meth:`plantfed_shared.bus.port.Bus.next_event`."""
        return await self._inbox.next_event()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> "Future[None]":
        """Hand over one message; see :meth:`plantfed_shared.bus.port.Bus.publish`."""
        if len(payload) > MAX_MESSAGE_BYTES:
            raise ValueError(f"{len(payload)} bytes on {topic!r}: at most {MAX_MESSAGE_BYTES}")
        connection = self._connection
        future: Future[None] = asyncio.get_running_loop().create_future()
        if connection is not None and connection.ready:
            connection.sending.add(Outgoing(topic, payload, retain, future))
        else:
            fail(future, NotConnected("not connected to the broker"))
        return future

    def acknowledge(self, token: int) -> None:
        """Tell the broker that a message is dealt with; nothing for one of an old connection."""
        if self._connection is not None:
            self._connection.acknowledge(token)

    def listen(self, topic: str) -> None:
        """Ask for what is published on one topic; see :meth:`plantfed_shared.bus.port.Bus.listen`.

        Of an old connection nothing follows.
        """
        if self._connection is not None and self._connection.ready:
            self._connection.listen(topic)

    def stop_listening(self, topic: str) -> None:
        """Ask for no more of it."""
        if self._connection is not None and self._connection.ready:
            self._connection.stop_listening(topic)

    async def close(self) -> None:
        """Send what was published, within two seconds, and disconnect in good order."""
        if self._keeper is None:
            return
        self._inbox.backlog.end()
        self._keeper.cancel()
        await asyncio.wait([self._keeper])
        self._keeper = None
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
        self._inbox.closed()

    async def _keep_connected(self) -> None:
        while True:
            connection = Connection(
                self._address,
                self._session,
                self._inbox,
                mqtt5=self._dialect.mqtt5,
                admits=self._admits,
            )
            self._connection = connection
            connection.start()
            # Unlike a plain await, a wait doesn't cancel the future together with this task.
            await asyncio.wait([connection.ended])
            stood_s, end = connection.stood_s, connection.ended.result()
            if stood_s > 0.0:
                self._dialect.worked()
            if self._dialect.change_after(end):
                continue
            if end.hung_up and not await _listens(self._address):
                # A broker that is gone has ended everybody's connection, not that of one of two.
                end = replace(end, hung_up=False)
            end = self._flapping.judge(end, stood_s)
            self._inbox.disconnected(end)
            await asyncio.sleep(self._pauses.after(end, stood_s))

    def _keeper_ended(self, keeper: "asyncio.Task[None]") -> None:
        # It only ends by a mistake in here, and without it we would stay offline in silence.
        error = None if keeper.cancelled() else keeper.exception()
        if error is not None:
            self._inbox.fail(error)


async def _listens(address: BrokerAddress) -> bool:
    """Whether somebody takes connections there."""
    try:
        async with asyncio.timeout(LISTENS_WITHIN_S):
            _, writer = await asyncio.open_connection(address.host, address.port)
    except OSError:  # TimeoutError is one
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True
