"""Work that hangs keeps nobody from ending."""

import asyncio
import subprocess
import sys
import threading
import time

import pytest

from plantfed_shared.errors import DataError
from plantfed_shared.threads import in_a_thread


def test_its_result_and_its_error() -> None:
    def broken() -> None:
        raise DataError("no rows")

    async def work() -> int:
        with pytest.raises(DataError, match="no rows"):
            await in_a_thread(broken)
        return await in_a_thread(lambda: 7)

    assert asyncio.run(work()) == 7


def test_a_mistake_in_it_is_heard_of(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda hook: written.append(hook.exc_type))
    with pytest.raises(RuntimeError, match="on a thread failed"):
        asyncio.run(in_a_thread(lambda: 1 / 0))
    for thread in threading.enumerate():
        if thread.name == "plantfed work":
            thread.join(10)
    assert written == [ZeroDivisionError]


def test_a_process_ends_while_it_hangs() -> None:
    program = (
        "import asyncio, time\n"
        "from plantfed_shared.threads import in_a_thread\n"
        "async def work():\n"
        "    asyncio.create_task(in_a_thread(lambda: time.sleep(60)))\n"
        "    await asyncio.sleep(0.1)\n"
        "asyncio.run(work())\n"
    )
    began = time.monotonic()
    subprocess.run([sys.executable, "-P", "-c", program], check=True, timeout=30)
    assert time.monotonic() - began < 20
