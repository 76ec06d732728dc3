"""The edge of every command: errors become one line and a documented exit code."""

import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NoReturn, TextIO

import click

from plantfed_shared.bus.connection_state import ConnectionState
from plantfed_shared.entry_point import INTERRUPTED
from plantfed_shared.errors import ConfigError, PlantfedError
from plantfed_shared.log_lines import logs_json

UNREAD = 141
"""Exit code after output that nobody reads any more, as shells have it: 128 + SIGPIPE."""


def run(command: click.Command, program: str) -> NoReturn:
    """Run a click command and exit.

    A :class:`PlantfedError` is printed as one line on standard error and exits with its code, a
    wrong command line with 2.  Who stops reading our output ends it in silence.
    """
    output = sys.stdout
    try:
        code = command.main(prog_name=program, standalone_mode=False)
        sys.stdout.flush()
    except PlantfedError as error:
        _say_why(error, program)
        sys.exit(error.exit_code)
    except click.exceptions.Abort:
        sys.exit(INTERRUPTED)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        click.echo(f"{program}: {_one_line(error)}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        _end_unread(output)
    except SystemExit:
        # click wraps it where nobody reads any more, and ends with 1
        if sys.stdout is not output:
            _end_unread(output)
        raise
    sys.exit(code if isinstance(code, int) else 0)


def _say_why(error: PlantfedError, program: str) -> None:
    if logs_json():
        # a log that a program reads has no other lines
        more = {"program": program, "exit_code": error.exit_code}
        logging.getLogger("plantfed").error("%s", error, extra=more)
    else:
        click.echo(f"{program}: {error}", err=True)


def _one_line(error: click.ClickException) -> str:
    said = " ".join(error.format_message().split())
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{said} See {context.command_path} --help" if context else said


def _end_unread(output: TextIO) -> NoReturn:
    # or the interpreter would complain that it can't write what is left
    os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())
    sys.exit(UNREAD)


def missing_extra(program: str, extra: str) -> NoReturn:
    """End a command that is installed without what it needs."""
    click.echo(f"{program}: install it whole: pip install 'plantfed[{extra}]'", err=True)
    sys.exit(ConfigError.exit_code)


log_option = click.option(
    "--log",
    "log_format",
    type=click.Choice(["human", "json"]),
    envvar="PLANTFED_LOG",
    show_envvar=True,
    default="human",
    show_default=True,
    help="Lines of the log.",
)


class Findings:
    """What a command found, line by line as it goes, or as one JSON object at the end.

    Args:
        as_json: print JSON.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._found: dict[str, object] = {}

    def say(self, name: str, text: str) -> None:
        """Note one finding."""
        self._found[name] = text
        if not self._as_json:
            click.echo(f"{name}: {text}")

    def say_each(
        self, name: str, lines: Sequence[str], values: Sequence[Mapping[str, object]]
    ) -> None:
        """Note several of one name.

        Args:
            name: of each.
            lines: for a person.
            values: the same, for JSON.
        """
        self._found[name] = list(values)
        if not self._as_json:
            for line in lines:
                click.echo(f"{name}: {line}")

    def finish(self) -> None:
        """All is said."""
        if self._as_json:
            click.echo(json.dumps(self._found, indent=2))


def connection_finding(state: ConnectionState, url: str) -> str:
    """What to tell about the connection of a program that is running.

    Args:
        state: as that program has written it.
        url: of the broker.

    Raises:
        BrokerError: there is none; BrokerRefused: and somebody has to change something.
    """
    if state.connected:
        return f"connected to {url} since {utc(state.since)}"
    if state.trouble is not None:
        raise state.trouble.as_error()
    return f"connecting to {url} since {utc(state.since)}"


def utc(unix_time: float) -> str:
    """Seconds of Unix time for a person: 2026-11-22 20:00:00Z, or as they are."""
    try:
        return datetime.fromtimestamp(unix_time, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (OverflowError, OSError, ValueError):
        return f"{unix_time:.6g} s"
