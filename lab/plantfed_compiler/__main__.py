"""``plantfed-compile``, ``python -m plantfed_compiler``: thin, for Ctrl-C to be heeded early."""

from __future__ import annotations

from plantfed_shared.entry_point import enter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from click import Command

PROGRAM = "plantfed-compile"


def main() -> NoReturn:
    """Entry point."""
    enter(PROGRAM, _command)


def _command() -> Command:
    try:
        import onnx  # noqa: F401
    except ImportError:
        from plantfed_shared.command_line import missing_extra

        missing_extra(PROGRAM, "compiler")
    from plantfed_compiler.cli import command

    return command


if __name__ == "__main__":
    main()
