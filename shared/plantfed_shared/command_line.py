"""The edge of every command: errors become one line and a documented exit code."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import NoReturn

import click

from plantfed_shared.bus.connection_state import ConnectionState
from plantfed_shared.entry_point import INTERRUPTED
from plantfed_shared.errors import ConfigError, PlantfedError


def run(command: click.Command, program: str) -> NoReturn:
    """Run a click command and exit.

    A :class:`PlantfedError` is printed as one line on standard error and exits with its code.
    """
    try:
        code = command.main(prog_name=program, standalone_mode=False)
    except PlantfedError as error:
        click.echo(f"{program}: {error}", err=True)
        sys.exit(error.exit_code)
    except click.exceptions.Abort:
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    sys.exit(code if isinstance(code, int) else 0)


def missing_extra(program: str, extra: str) -> NoReturn:
    """End a command that is installed without what it needs."""
    click.echo(f"{program}: install it whole: pip install 'plantfed[{extra}]'", err=True)
    sys.exit(ConfigError.exit_code)


class Findings:
    """What a command found, line by line as it goes, or as one JSON object at the end.

    Args:
        as_json: print JSON.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._found: dict[str, str] = {}

    def say(self, name: str, text: str) -> None:
        """Note one finding."""
        self._found[name] = text
        if not self._as_json:
            click.echo(f"{name}: {text}")

    def finish(self) -> None:
        """All is said."""
        if self._as_json:
            click.echo(json.dumps(self._found, indent=2))


def log_to_stderr(*, verbose: bool) -> None:
    """One line per event: time, level, what happened."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
    )


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
    """Seconds of Unix time for a person: 2026-11-22 20:00:00Z."""
    return datetime.fromtimestamp(unix_time, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
