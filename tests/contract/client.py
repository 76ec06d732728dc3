"""A client of the bus under test, with the waiting that tests need."""

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
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
