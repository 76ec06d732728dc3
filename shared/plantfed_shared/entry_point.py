"""Where every command begins, before anything that takes time to import.

Until the handler below stands, Ctrl-C gives a traceback: not even ``typing`` is imported here.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import NoReturn

    from click import Command

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def enter(program: str, load: Callable[[], Command]) -> NoReturn:
    """Import a command, run it and exit; Ctrl-C at any time gives no traceback.

    Args:
        program: its name, for messages.
        load: imports the command.
    """
    try:
        with InterruptEndsAtOnce():
            command = load()
            from plantfed_shared.command_line import run
        run(command, program)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    finally:
        # for the interpreter's own end
        _end_at_once_on_interrupt()


class InterruptEndsAtOnce:
    """Context manager: Ctrl-C ends the process without a word while modules are imported.

    Not by an exception: modules in C turn one that comes while they are imported into another.
    """

    def __enter__(self) -> None:
        self._ours = _end_at_once_on_interrupt()

    def __exit__(self, *_: object) -> None:
        if self._ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _end_at_once_on_interrupt() -> bool:
    """Whether it does now; where Ctrl-C is ignored or handled by somebody else, it stays so."""
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, _end)
    return ours


def _end(_signal: int, _frame: FrameType | None) -> NoReturn:
    # nothing is open that would have to be closed
    os._exit(INTERRUPTED)
