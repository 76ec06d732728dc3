"""``plantfed-coordinator audit``: show the audit log, and prove that nobody has changed it."""

import json
import re
import sys
from pathlib import Path

import click

from plantfed_coordinator.audit_chain import Entry, verify
from plantfed_coordinator.audit_log import read_entries
from plantfed_coordinator.settings import load_coordinator_settings
from plantfed_shared.command_line import utc

BROKEN = 1
"""Exit code of ``verify``."""

_config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    default="coordinator.toml",
    show_default=True,
    help="Settings of the coordinator.",
)


@click.group()
def audit() -> None:
    """Show or verify the audit log: refusals, quarantines, changes of members and epochs."""


@audit.command()
@_config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one entry a line.")
@click.option("--last", type=click.IntRange(1), default=50, show_default=True, help="Entries.")
def show(config: Path, as_json: bool, last: int) -> None:
    """Show the newest entries, oldest first."""
    for entry in read_entries(load_coordinator_settings(config).coordinator.state_dir, last):
        click.echo(_as_json(entry) if as_json else _as_text(entry))


@audit.command("verify")
@_config_option
@click.option("--head", default="", help="NUMBER:HASH noted earlier; it must be in the log.")
def verify_log(config: Path, head: str) -> None:
    """Recompute the chain; exit code 1 and the first broken entry where it is not what was written.

    Entries cut off at the end are seen only with --head: the coordinator logs one at every start.
    """
    if head and not re.fullmatch(r"[0-9]{1,15}:[0-9a-f]{64}", head):
        raise click.BadParameter(f"{head!r} is no NUMBER:HASH", param_hint="--head")
    entries = read_entries(load_coordinator_settings(config).coordinator.state_dir)
    found = verify(entries, head)
    if found.broken is None:
        click.echo(f"audit log in order: {found.entries:,} entries, head {found.head}")
        return
    click.echo(
        f"plantfed-coordinator: audit log broken at entry {found.broken}: {found.reason}", err=True
    )
    sys.exit(BROKEN)


def _as_text(entry: Entry) -> str:
    line = entry.line
    times = f" (x{line.times})" if line.times > 1 else ""
    return (
        f"{entry.number:7} {utc(entry.unix_time)}  {line.kind:12} {line.agent or '':20}"
        f" {line.text}{times}"
    )


def _as_json(entry: Entry) -> str:
    shown = {"number": entry.number, "unix_time": entry.unix_time, **entry.line._asdict()}
    return json.dumps({**shown, "hash": entry.hash})
