"""A thin link without root: a TCP relay with a rate, a delay and cuts, but no loss of packets.

What TCP would do on the link is not emulated, only when its bytes arrive.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from tests.links.pipe import LinkShape, Pipe

HOST = "127.0.0.1"
SEGMENT_BYTES = 1460
HEADER_BYTES = 40


class Shaper:
    """The relay; its methods are called from another thread than the one it runs on.

    Attributes:
        port: to connect to.
    """

    def __init__(self, broker_port: int, shape: LinkShape) -> None:
        self.port = 0
        # TCP holds back what the line can't take yet, so that nothing is ever dropped
        endless = replace(shape, queue_bytes=2**62)
        self._pipes = (Pipe(endless, "up"), Pipe(endless, "down"))
        self._broker_port = broker_port
        self._writers: set[asyncio.StreamWriter] = set()
        self._relays: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop
        self._stopped: asyncio.Event

    def cut(self) -> None:
        """Break all connections, and let none in."""
        self._loop.call_soon_threadsafe(self._cut)

    def mend(self) -> None:
        """Let connections in again."""
        self._loop.call_soon_threadsafe(self._set_open, True)

    def stop(self) -> None:
        """End the relay."""
        self._loop.call_soon_threadsafe(self._stopped.set)

    async def serve(self, ready: threading.Event) -> None:
        """Relay until told to stop."""
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._accept, HOST, 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        async with server:
            await self._stopped.wait()
            server.close()
            writers = list(self._writers)
            self._cut()
            await asyncio.gather(*self._relays, return_exceptions=True)
            for writer in writers:
                with suppress(OSError):
                    await writer.wait_closed()

    def _cut(self) -> None:
        self._set_open(False)
        for task in self._relays:
            task.cancel()
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def _set_open(self, is_open: bool) -> None:
        for pipe in self._pipes:
            pipe.open = is_open

    async def _accept(
        self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter
    ) -> None:
        try:
            self._writers.add(to_client)
            if not self._pipes[0].open:
                raise OSError("the link is cut")
            from_broker, to_broker = await asyncio.open_connection(HOST, self._broker_port)
        except OSError:
            to_client.transport.abort()
            return
        self._writers.add(to_broker)
        up, down = self._pipes
        for reader, writer, pipe in (
            (from_client, to_broker, up),
            (from_broker, to_client, down),
        ):
            task = asyncio.create_task(self._relay(reader, writer, pipe))
            self._relays.add(task)
            task.add_done_callback(self._relays.discard)

    async def _relay(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pipe: Pipe
    ) -> None:
        arrival = 0.0
        with suppress(OSError):
            while some := await reader.read(SEGMENT_BYTES):
                now = self._loop.time()
                arrives = pipe.offer(len(some) + HEADER_BYTES, now)
                if arrives is None:
                    return
                arrival = arrives
                self._loop.call_at(arrival, _write, writer, some)
                # the next bytes wait in the sender's buffers until the line is nearly free
                await asyncio.sleep(pipe.free_at - now)
        # of two timers for one time the later set may come first; the last bytes must not miss this
        self._loop.call_at(arrival, self._loop.call_soon, writer.close)


def _write(writer: asyncio.StreamWriter, some: bytes) -> None:
    if not writer.is_closing():
        writer.write(some)


@contextmanager
def shaper(broker_port: int, shape: LinkShape) -> Iterator[Shaper]:
    """Run a relay on a thread of its own."""
    relay = Shaper(broker_port, shape)
    ready = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(relay.serve(ready)))
    thread.start()
    ready.wait()
    try:
        yield relay
    finally:
        relay.stop()
        thread.join()
