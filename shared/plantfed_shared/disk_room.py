"""A service on a full disk waits for room, instead of being started again in vain for days."""

import asyncio
import logging
import time
from contextlib import suppress
from pathlib import Path

from plantfed_shared.bus.connection_state import ConnectionState
from plantfed_shared.vitals import Vitals, free_bytes

log = logging.getLogger("plantfed.disk")

LEAST_TO_BEGIN_BYTES = 2**20
"""With less the first writes would fail."""
LOOK_EVERY_S = 2.0


async def wait_for_room(state_dir: Path, vitals: Vitals, stopped: asyncio.Event) -> None:
    """Return once there is room on the disk of the state, or the service is to stop.

    Args:
        state_dir: folder of the state, which need not be there yet.
        vitals: told that the service lives.
        stopped: see :func:`plantfed_shared.signals.stop_on_signals`.
    """
    folder = state_dir.resolve()
    while not folder.exists():
        folder = folder.parent
    since, said = ConnectionState(False, time.time()), False
    while free_bytes(folder) < LEAST_TO_BEGIN_BYTES and not stopped.is_set():
        if not said:
            log.warning("the disk of %s is full: waiting for room on it", state_dir)
            said = True
        vitals.turn(since, time.monotonic(), waiting_for="room on the disk")
        with suppress(TimeoutError):
            await asyncio.wait_for(stopped.wait(), LOOK_EVERY_S)
