"""``plantfed-broker``, ``python -m plantfed_broker``: thin, for Ctrl-C to be heeded early."""

from __future__ import annotations

from plantfed_shared.entry_point import enter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from click import Command


def main() -> NoReturn:
    """Entry point."""
    enter("plantfed-broker", _command)


def _command() -> Command:
    from plantfed_broker.cli import commands

    return commands


if __name__ == "__main__":
    main()
