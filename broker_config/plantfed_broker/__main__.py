"""``plantfed-broker``, ``python -m plantfed_broker``: thin, for Ctrl-C to be heeded early."""

from typing import TYPE_CHECKING, NoReturn

from plantfed_shared.entry_point import enter

if TYPE_CHECKING:
    from click import Command


def main() -> NoReturn:
    """Entry point."""
    enter("plantfed-broker", _command)


def _command() -> "Command":
    from plantfed_broker.cli import commands

    return commands


if __name__ == "__main__":
    main()
