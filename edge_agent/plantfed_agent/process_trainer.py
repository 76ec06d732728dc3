"""Training in a process of its own, which rests when there is nothing to do."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from signal import Signals

from plantfed_agent.frames import LENGTH, Frame, decode, encode
from plantfed_agent.settings import AgentSettings
from plantfed_agent.training import TrainingOutcome, TrainingTask
from plantfed_agent.worker_messages import outcome_in, settings_frame, task_frame
from plantfed_shared.errors import TrainingError

# -P: a file named numpy.py in the working folder must not be taken for the library
COMMAND = (sys.executable, "-P", "-m", "plantfed_agent.worker")

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
"""The machine has other work to do, and results must not depend on its number of cores."""


class ProcessTrainer:
    """A :class:`plantfed_agent.training.Trainer` that keeps one child process.

    The child is started by the first round, ends ``rest_after_s`` after the last one, and is
    started again when it is needed.  It ends with this process, however that ends.

    Args:
        settings: which rows, and how to train.
    """

    def __init__(self, settings: AgentSettings) -> None:
        self._settings = settings
        self._child: Process | None = None
        self._rest: asyncio.TimerHandle | None = None
        self._running = False
        self._farewells: set[asyncio.Task[int]] = set()

    @property
    def running(self) -> bool:
        """Whether a round is being done."""
        return self._running

    @property
    def child_pid(self) -> int | None:
        """Process id of the child, if there is one."""
        return None if self._child is None else self._child.pid

    async def run(self, task: TrainingTask) -> TrainingOutcome:
        """See :meth:`plantfed_agent.training.Trainer.run`."""
        if self._running:
            raise RuntimeError("a round is already being done")
        self._running = True
        self._stay()
        try:
            answer = await self._ask(task_frame(task))
        finally:
            self._running = False
        return outcome_in(answer)

    async def stop(self) -> None:
        """See :meth:`plantfed_agent.training.Trainer.stop`; a round that is being done fails."""
        self._stay()
        await self._kill()
        await asyncio.gather(*self._farewells)

    async def _ask(self, question: Frame) -> Frame:
        child = await self._ready_child()
        answered = False
        try:
            answer = await _exchange(child, question)
            answered = True
        except (asyncio.IncompleteReadError, ConnectionError):
            raise TrainingError(
                f"the training process ended {_how(await child.wait())}",
                hint="What it last wrote to standard error says why; the next round starts it "
                "again",
            ) from None
        finally:
            if not answered:
                await self._kill()
        loop = asyncio.get_running_loop()
        self._rest = loop.call_later(self._settings.training.rest_after_s, self._send_to_rest)
        return answer

    async def _ready_child(self) -> Process:
        if self._child is not None and self._child.returncode is None:
            return self._child
        try:
            # its own session: Ctrl-C in a terminal is for the agent alone
            self._child = await asyncio.create_subprocess_exec(
                *COMMAND,
                stdin=PIPE,
                stdout=PIPE,
                env={**os.environ, **ONE_THREAD},
                start_new_session=True,
            )
        except OSError as error:
            raise TrainingError(f"the training process cannot be started: {error}") from None
        _stdin(self._child).write(encode(settings_frame(self._settings)))
        return self._child

    def _stay(self) -> None:
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None

    def _send_to_rest(self) -> None:
        child, self._child, self._rest = self._child, None, None
        if child is not None:
            _stdin(child).close()
            farewell = asyncio.get_running_loop().create_task(child.wait())
            self._farewells.add(farewell)
            farewell.add_done_callback(self._farewells.discard)

    async def _kill(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        with suppress(ProcessLookupError):
            child.kill()
        await child.wait()


async def _exchange(child: Process, question: Frame) -> Frame:
    stdin, stdout = _stdin(child), child.stdout
    assert stdout is not None
    stdin.write(encode(question))
    await stdin.drain()
    (length,) = LENGTH.unpack(await stdout.readexactly(LENGTH.size))
    return decode(await stdout.readexactly(length))


def _stdin(child: Process) -> asyncio.StreamWriter:
    assert child.stdin is not None
    return child.stdin


def _how(exit_code: int) -> str:
    if exit_code >= 0:
        return f"with exit code {exit_code}"
    return f"by {Signals(-exit_code).name}"
