"""A client of the bus under test, with the waiting that tests need."""

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Concatenate, ParamSpec

from tests.contract.brokers import World

from plantfed_shared.bus.port import (
    Bus,
    BusEvent,
    Connected,
    Disconnected,
    Listening,
    Received,
    Refused,
    SessionSettings,
)

PATIENCE_S = 20.0

QUEUE_ROUNDS = 4
"""nats-server sometimes loses all that it acknowledged: in one of 30 to 100 absences of a busy
machine (docs/decisions/embedded-broker.md).  That our configuration lets it keep things is shown
by a round in which it does."""

QUEUE_WAIT_S = 3.0
P = ParamSpec("P")


class Client:
    """A bus whose events are waited for by kind."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus

    async def event(self, *kinds: type[BusEvent]) -> BusEvent:
        """The next event of one of these kinds; others are dropped, but never a message."""
        while True:
            event = await self.bus.next_event()
            if isinstance(event, kinds):
                return event
            assert not isinstance(event, Received), event

    async def connected(self) -> Connected:
        event = await self.event(Connected)
        assert isinstance(event, Connected)
        return event

    async def connected_again(self) -> None:
        """Wait for the next connection whatever comes before."""
        while not isinstance(await self.bus.next_event(), Connected):
            pass

    async def disconnected(self) -> Disconnected:
        event = await self.event(Disconnected)
        assert isinstance(event, Disconnected)
        return event

    async def refused(self) -> Refused:
        event = await self.event(Refused, Connected)
        assert isinstance(event, Refused), event
        return event

    async def received(self, *, acknowledge: bool = True) -> Received:
        event = await self.event(Received)
        assert isinstance(event, Received)
        if acknowledge:
            self.bus.acknowledge(event.token)
        return event

    async def listen(self, topic: str) -> bool:
        """Listen to a topic; whether the broker allows it."""
        self.bus.listen(topic)
        event = await self.event(Listening)
        assert isinstance(event, Listening)
        assert event.topic == topic
        return event.allowed

    async def payloads(self, number: int) -> list[bytes]:
        return [(await self.received()).payload for _ in range(number)]

    async def queued(self, number: int) -> list[bytes]:
        """So many payloads, or fewer if no more comes for a while."""
        found: list[bytes] = []
        with suppress(TimeoutError):
            while len(found) < number:
                async with asyncio.timeout(QUEUE_WAIT_S):
                    found.append((await self.received()).payload)
        return found

    async def send(self, topic: str, *payloads: bytes, retain: bool = False) -> None:
        """Publish and wait until the broker has acknowledged."""
        await asyncio.gather(
            *(self.bus.publish(topic, payload, retain=retain) for payload in payloads)
        )


@asynccontextmanager
async def opened(bus: Bus) -> AsyncIterator[Client]:
    """A client from open to close; it need not be connected yet."""
    await bus.open()
    try:
        yield Client(bus)
    finally:
        await bus.close()


@asynccontextmanager
async def connected(world: World, session: SessionSettings) -> AsyncIterator[Client]:
    """A client that is connected."""
    async with opened(world.bus(session)) as client:
        await client.connected()
        yield client


async def kept_while_away(
    absence: Callable[[int], Awaitable[list[bytes]]], expected: list[bytes], *, nats: bool
) -> None:
    """Check that a broker kept all of what came during an absence; nats-server all or nothing.

    Args:
        absence: one round, by its number; what was found after it.
        expected: of each round.
        nats: whether a round may lose all.
    """
    for number in range(QUEUE_ROUNDS):
        found = await absence(number)
        if found or not nats:
            assert found == expected
            return
    raise AssertionError(f"nothing was kept in {QUEUE_ROUNDS} rounds")


def on_loop(
    scenario: Callable[Concatenate[P], Coroutine[None, None, None]],
) -> Callable[Concatenate[P], None]:
    """Make a test of a coroutine."""

    @functools.wraps(scenario)
    def test(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(_patiently(scenario(*args, **kwargs)))

    return test


async def _patiently(scenario: Awaitable[None]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await scenario
