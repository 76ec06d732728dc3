"""Asking a broker whether it lets us in."""

import asyncio

from plantfed_shared.bus.port import Bus, Connected
from plantfed_shared.errors import BrokerError

PROBE_S = 10.0


async def probe(bus: Bus) -> None:
    """Connect once and disconnect.

    Raises:
        BrokerRefused: the broker refused this identity.
        BrokerError: it cannot be reached.
    """
    await bus.open()
    try:
        async with asyncio.timeout(PROBE_S):
            while not isinstance(await bus.next_event(), Connected):
                trouble = bus.connection.trouble
                if trouble is not None:
                    raise trouble.as_error()
    except TimeoutError:
        raise BrokerError(f"the broker has not answered within {PROBE_S:g} s") from None
    finally:
        await bus.close()
