"""Start a program that ends when its parent does: ``python -m plantfed_shared.tether PPID PROG``.

Linux sends the program SIGTERM when the process that started it is gone, however that happened
(prctl(2), PR_SET_PDEATHSIG), so that a demo or an embedded broker that was killed leaves no
orphans.  A program of its own, since nothing may run between fork and exec in a parent with
threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Ask Linux to send this process SIGTERM when the thread that started it ends."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def main() -> None:
    """Replace this process by the program."""
    parent, *program = sys.argv[1:]
    end_with_parent()
    # the parent may have ended before that
    if os.getppid() == int(parent):
        os.execv(program[0], program)  # noqa: S606


if __name__ == "__main__":
    main()
