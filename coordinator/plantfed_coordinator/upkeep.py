"""The commands that look after a coordinator's state: ``replay``."""

from pathlib import Path

import click

from plantfed_coordinator.options import config_option, json_option
from plantfed_coordinator.settings import load_coordinator_settings
from plantfed_coordinator.verification import replay_journal
from plantfed_shared.command_line import Findings
from plantfed_shared.wording import counted


@click.command()
@config_option
@click.option("--verify", is_flag=True, help="Compare every snapshot with what the journal gives.")
@json_option
def replay(config: Path, verify: bool, as_json: bool) -> None:
    """Compute the model anew from the journal, also while the coordinator runs.

    Every release must get the checksum it was announced with.  Exit code 74, and one line that
    names the first release or row that differs, where what is stored is not what the journal gives.
    """
    state_dir = load_coordinator_settings(config).coordinator.state_dir
    found = replay_journal(state_dir, verify=verify)
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
    findings.finish()
