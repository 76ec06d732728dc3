"""A way to the broker on which packets vanish: connections stay, and nothing comes through."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

HOST = "127.0.0.1"


class Way:
    """A TCP relay; its methods are called from another thread than the one it runs on.

    Attributes:
        port: to connect to.
    """

    def __init__(self, broker_port: int) -> None:
        self.port = 0
        self._broker_port = broker_port
        self._relays: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop
        self._whole: asyncio.Event
        self._stopped: asyncio.Event

    def cut(self) -> None:
        """From now on nothing comes through, in either direction, and nobody is told."""
        self._loop.call_soon_threadsafe(self._whole.clear)

    def mend(self) -> None:
        """What is under way arrives late, as TCP has it."""
        self._loop.call_soon_threadsafe(self._whole.set)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)

    async def serve(self, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._whole, self._stopped = asyncio.Event(), asyncio.Event()
        self._whole.set()
        server = await asyncio.start_server(self._accept, HOST, 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        async with server:
            await self._stopped.wait()
            for task in self._relays:
                task.cancel()
            await asyncio.gather(*self._relays, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._relays.add(task)
        try:
            await self._whole.wait()
            with suppress(OSError):
                from_broker, to_broker = await asyncio.open_connection(HOST, self._broker_port)
                await asyncio.gather(
                    self._relay(reader, to_broker), self._relay(from_broker, writer)
                )
        finally:
            writer.transport.abort()
            self._relays.discard(task)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while some := await reader.read(65536):
                await self._whole.wait()
                writer.write(some)
                await writer.drain()
        except OSError:
            pass
        finally:
            await self._whole.wait()
            writer.close()


@contextmanager
def way_to(broker_port: int) -> Iterator[Way]:
    """Run a relay on a thread of its own."""
    way = Way(broker_port)
    ready = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(way.serve(ready)))
    thread.start()
    ready.wait()
    try:
        yield way
    finally:
        way.stop()
        thread.join()
