"""Asking a broker whether it lets us in."""

import asyncio

from plantfed_shared.bus.port import Bus, Connected, Disconnected, Refused
from plantfed_shared.errors import BrokerError, BrokerRefused

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
            while True:
                match await bus.next_event():
                    case Connected():
                        return
                    case Refused(reason):
                        raise BrokerRefused(reason, hint="Check [broker] in the settings")
                    case Disconnected(reason):
                        raise BrokerError(reason, hint="Is the broker running and the url right?")
    except TimeoutError:
        raise BrokerError(f"the broker has not answered within {PROBE_S:g} s") from None
    finally:
        await bus.close()
