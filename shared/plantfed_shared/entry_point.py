"""Where every command begins, before anything that takes time to import.

Until the handler below stands, Ctrl-C gives a traceback: only light modules may be imported here.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from click import Command

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def enter(program: str, load: Callable[[], "Command"]) -> NoReturn:
    """Import a command, run it and exit; Ctrl-C at any time gives no traceback.

    Args:
        program: its name, for messages.
        load: imports the command.
    """
    try:
        with interrupt_ends_at_once():
            command = load()
            from plantfed_shared.command_line import run
        run(command, program)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    finally:
        # for the interpreter's own end
        _end_at_once_on_interrupt()


@contextmanager
def interrupt_ends_at_once() -> Iterator[None]:
    """Ctrl-C ends the process without a word while modules are imported.

    Not by an exception: modules in C turn one that comes while they are imported into another.
    """
    ours = _end_at_once_on_interrupt()
    try:
        yield
    finally:
        if ours:
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
