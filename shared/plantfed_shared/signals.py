"""Ending a service in good order."""

import asyncio
import signal


def stop_on_signals() -> asyncio.Event:
    """An event that is set by SIGTERM or SIGINT; call it inside the running loop."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    return stopped
