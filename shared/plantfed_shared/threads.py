"""Work on a thread that never keeps its process from ending."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from plantfed_shared.errors import PlantfedError

Result = TypeVar("Result")


async def in_a_thread(work: Callable[[], Result]) -> Result:
    """Wait for work that may hang, such as looking at files on a network drive that is away.

    ``asyncio.to_thread`` would be waited for when the loop and the interpreter end, for ever if
    it must be; a daemon thread is not (threading, "Thread Objects").

    Raises:
        PlantfedError: the work raised it.
        RuntimeError: it raised something else, which Python has written to standard error.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Result] = loop.create_future()

    def settle(result: Result | None, error: Exception | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(result)  # type: ignore[arg-type]
        else:
            done.set_exception(error)

    def carry_out() -> None:
        result: Result | None = None
        error: Exception | None = RuntimeError("work on a thread failed; the lines above say how")
        try:
            result = work()
            error = None
        except PlantfedError as raised:
            error = raised
        finally:
            # the loop may have been closed meanwhile: then nobody waits
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=carry_out, name="plantfed work", daemon=True).start()
    return await done
