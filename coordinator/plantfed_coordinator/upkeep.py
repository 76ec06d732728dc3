"""The commands that look after a coordinator's state: ``replay``, ``backup``, ``restore``."""

from __future__ import annotations

import secrets
from dataclasses import asdict
from pathlib import Path
from time import time
from typing import TYPE_CHECKING

import click

from plantfed_coordinator.audit_chain import Line
from plantfed_coordinator.audit_log import opened
from plantfed_coordinator.options import config_option, json_option
from plantfed_coordinator.settings import load_coordinator_settings
from plantfed_coordinator.verification import Replayed, replay_journal
from plantfed_shared.command_line import Findings, missing_extra, utc
from plantfed_shared.wording import counted

if TYPE_CHECKING:
    from plantfed_coordinator.backup import LostUpdates
    from plantfed_coordinator.sealed_file import Secret

FILE = click.Path(dir_okay=False, path_type=Path)
key_option = click.option(
    "--key-file", type=FILE, help="64 hexadecimal digits: openssl rand -hex 32."
)
LAST_USED = 50
passphrase_option = click.option("--passphrase-file", type=FILE, help="A passphrase instead.")


@click.command()
@config_option
@click.option("--verify", is_flag=True, help="Compare every snapshot with what the journal gives.")
@click.option("--used-by", metavar="AGENT", help="Also say what this machine has had in use.")
@click.option("--last", type=click.IntRange(1), help=f"So much of that; {LAST_USED} if left out.")
@json_option
def replay(
    config: Path, verify: bool, used_by: str | None, last: int | None, as_json: bool
) -> None:
    """Compute the model anew from the journal, also while the coordinator runs.

    Every release must get the checksum it was announced with.  Exit code 74, and one line that
    names the first release or row that differs, where what is stored is not what the journal gives.

    With --used-by, the shared parameters that a machine had in use, by the release that it had: the
    checksum is the one under `uses` in the machine's own status, unless its guard keeps another.
    """
    state_dir = load_coordinator_settings(config).coordinator.state_dir
    if last is not None and used_by is None:
        raise click.UsageError("--last is about --used-by AGENT: give both")
    found = replay_journal(state_dir, verify=verify, used_by=used_by)
    begin = f"the snapshot at row {found.begin}" if found.begin else "the founding"
    findings = Findings(as_json=as_json)
    findings.say(
        "replayed",
        f"{counted(found.records, 'record')} behind {begin}, "
        f"{counted(found.releases, 'release')} as announced",
    )
    findings.say("model", f"{found.federation} release {found.k}, checksum {found.checksum:016x}")
    if verify:
        findings.say("verified", f"{counted(found.snapshots, 'snapshot')} as the journal gives")
    if used_by is not None:
        _say_used(findings, found, last or LAST_USED)
    findings.finish()


def _say_used(findings: Findings, found: Replayed, last: int) -> None:
    rows, lines = [], []
    for used in found.used[-last:]:
        seq = "none" if used.seq is None else str(used.seq)
        lines.append(
            f"epoch {used.epoch}, incarnation {used.incarnation}, update {seq}: {used.name}, "
            f"checksum {used.checksum:016x}"
        )
        rows.append({**asdict(used), "name": used.name, "checksum": f"{used.checksum:016x}"})
    if len(found.used) > last:
        findings.say("left out", f"{counted(len(found.used) - last, 'release')} before these")
    findings.say_each("used", lines or ["nothing yet"], rows)
    if found.unknown:
        findings.say(
            "not known",
            f"{counted(found.unknown, 'release')} in an average that goes back behind row "
            f"{found.begin}, where what is kept of the journal begins",
        )


@click.command()
@config_option
@key_option
@passphrase_option
@click.argument("file", type=FILE)
@json_option
def backup(
    config: Path, key_file: Path | None, passphrase_file: Path | None, file: Path, as_json: bool
) -> None:
    """Write the state, sealed, to FILE, also while the coordinator runs.

    Keep the key elsewhere: without it nobody can restore FILE, with it everybody can read it.
    """
    secret = _secret(key_file, passphrase_file)
    from plantfed_coordinator.backup import back_up

    state_dir = load_coordinator_settings(config).coordinator.state_dir
    done = back_up(state_dir, file, secret, time())
    findings = Findings(as_json=as_json)
    findings.say("backup", str(file))
    findings.say("holds", f"{done.federation} release {done.k}, {counted(done.updates, 'update')}")
    findings.finish()


@click.command()
@config_option
@key_option
@passphrase_option
@click.option("--replace", is_flag=True, help="Move a state that is there aside.")
@click.argument("file", type=FILE)
@json_option
def restore(
    config: Path,
    key_file: Path | None,
    passphrase_file: Path | None,
    replace: bool,
    file: Path,
    as_json: bool,
) -> None:
    """Go back to the state in FILE, as a new epoch; the coordinator must not run.

    Says which updates are lost, as far as the state that is there can tell.
    """
    secret = _secret(key_file, passphrase_file)
    from plantfed_coordinator.backup import restore as restored_from

    settings = load_coordinator_settings(config)
    state_dir = settings.coordinator.state_dir
    findings = Findings(as_json=as_json)
    # opened before anything is touched: what a start would refuse is told in time
    with opened(state_dir, time, settings.limits.audit_entries) as audit:
        done = restored_from(state_dir, file, secret, lambda: secrets.randbits(64), replace=replace)
        held = done.backup
        what = f"release {held.k} as of {utc(held.unix_time)}, epoch {done.epoch} begins"
        audit.append([Line("restored", None, what)])
    findings.say(
        "restored",
        f"{held.federation} release {held.k}, {counted(held.updates, 'update')}, "
        f"as of {utc(held.unix_time)}",
    )
    findings.say("epoch", f"{done.epoch} begins with the next start")
    if done.moved_to is not None:
        findings.say("before", f"the state before is now {done.moved_to}")
    findings.say("lost", _lost_line(done.lost, held.unix_time))
    findings.finish()


def _lost_line(lost: tuple[LostUpdates, ...] | None, since: float) -> str:
    if lost is None:
        return (
            f"what was applied after {utc(since)}; the coordinator's log names each agent that "
            "comes back with more"
        )
    many = [(update.agent, update.first, update.last) for update in lost]
    count = sum(last - first + 1 for _, first, last in many)
    named = (
        f"{a} {first}" if first == last else f"{a} {first} to {last}" for a, first, last in many
    )
    return ": ".join([counted(count, "update"), *([", ".join(named)] if many else [])])


def _secret(key_file: Path | None, passphrase_file: Path | None) -> Secret:
    try:
        from plantfed_coordinator.sealed_file import read_key, read_passphrase
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] != "cryptography":
            raise
        missing_extra("plantfed-coordinator", "coordinator")
    if key_file is not None and passphrase_file is None:
        return read_key(key_file)
    if passphrase_file is not None and key_file is None:
        return read_passphrase(passphrase_file)
    raise click.UsageError("One of --key-file and --passphrase-file is needed.")
