"""``plantfed-coordinator`` and ``python -m`` of it: thin, for Ctrl-C to be heeded early."""

from __future__ import annotations

from plantfed_shared.entry_point import enter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from click import Command


def main() -> NoReturn:
    """Entry point."""
    enter("plantfed-coordinator", _command)


def _command() -> Command:
    from plantfed_coordinator.cli import commands

    return commands


if __name__ == "__main__":
    main()
