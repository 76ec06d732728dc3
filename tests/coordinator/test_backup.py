"""Backup and restore on a real disk: sealed, nothing is written over, and what is lost is said."""

import io
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.coordinator.stories import Story, journal_in

from plantfed_coordinator import sealed_file
from plantfed_coordinator.audit_log import read_entries
from plantfed_coordinator.backup import LostUpdates, back_up, restore
from plantfed_coordinator.cli import commands
from plantfed_coordinator.journal import FILE_NAME
from plantfed_coordinator.records import IncarnationRaised, Joined
from plantfed_coordinator.sealed_file import Secret, read_key, read_passphrase, seal, unseal
from plantfed_coordinator.views import read_federation
from plantfed_shared.errors import ConfigError, StorageError
from plantfed_shared.messages import Epoch

KEY = Secret("key", bytes(range(32)), "the key")
PASSPHRASE = Secret("passphrase", b"correct horse battery", "the phrase")


def sealed(content: bytes, secret: Secret = KEY) -> bytes:
    target = io.BytesIO()
    seal(io.BytesIO(content), target, secret, {"unix_time": 5})
    return target.getvalue()


def opened(content: bytes, secret: Secret = KEY) -> bytes:
    target = io.BytesIO()
    assert unseal(io.BytesIO(content), target, secret, "file") == {"unix_time": 5}
    return target.getvalue()


# ---------------------------------------------------------------- sealed files


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 128, 200])
def test_what_was_sealed_comes_back(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(sealed_file, "PIECE_BYTES", 64)
    content = os.urandom(size)
    assert opened(sealed(content)) == content


def test_a_passphrase_seals_as_well() -> None:
    assert opened(sealed(b"content", PASSPHRASE), PASSPHRASE) == b"content"


def test_nothing_of_the_content_is_there_to_read() -> None:
    content = b"nobody may read this" * 100
    once, again = sealed(content), sealed(content)
    assert b"nobody" not in once
    assert once[-50:] != again[-50:]


def test_no_byte_can_be_changed_and_none_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_file, "PIECE_BYTES", 64)
    whole = sealed(bytes(200))
    for at in range(len(whole)):
        changed = bytearray(whole)
        changed[at] ^= 1
        with pytest.raises((StorageError, ConfigError)):
            opened(bytes(changed))
        with pytest.raises(StorageError):
            opened(whole[:at])
    pieces = whole[-(3 * 80 + 24) :]
    swapped = whole[: -len(pieces)] + pieces[80:160] + pieces[:80] + pieces[160:]
    left_out = whole[: -len(pieces)] + pieces[80:]
    for other in (swapped, left_out, whole + bytes(1)):
        with pytest.raises(StorageError, match="damaged or cut off"):
            opened(other)


def test_another_secret_is_told_apart_from_damage() -> None:
    with pytest.raises(ConfigError, match="was sealed with another key than other"):
        opened(sealed(b""), Secret("key", bytes(32), "other"))
    with pytest.raises(ConfigError, match="was sealed with a key, this is a passphrase"):
        opened(sealed(b""), PASSPHRASE)


@pytest.mark.parametrize("content", ["", "00" * 31, "00" * 33, "xy" * 32, "\u00e9" * 64])
def test_a_key_file_that_holds_no_key(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match="64 hexadecimal digits"):
        read_key(path)


def test_a_passphrase_that_is_too_short(tmp_path: Path) -> None:
    path = tmp_path / "phrase"
    path.write_text("short\n")
    with pytest.raises(ConfigError, match="at least 12 characters"):
        read_passphrase(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_passphrase(tmp_path / "missing")


# ---------------------------------------------------------------- backup and restore


def begun(folder: Path) -> None:
    with journal_in(folder) as journal:
        story = Story(journal)
        story.tell(Joined("a", 1), Joined("b", 1))
        story.update("a")
        story.update("b")
        story.release()


def gone_on(folder: Path, then: Callable[[Story], None]) -> None:
    """The same federation some time later."""
    with journal_in(folder) as journal:
        story = Story.__new__(Story)
        state = journal.load()
        assert state is not None
        story.journal, story.state, story.records = journal, state, []
        then(story)


def test_a_backup_is_taken_while_the_coordinator_runs(tmp_path: Path) -> None:
    file = tmp_path / "backup"
    begun(tmp_path / "state")
    with journal_in(tmp_path / "state"):
        held = back_up(tmp_path / "state", file, KEY, 5.0)
    assert (held.federation, held.k, held.updates) == ("toy", 1, 2)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert b"SQLite" not in file.read_bytes()
    assert sorted(p.name for p in (tmp_path / "state").iterdir() if p.is_dir()) == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["backup", "state"]


def test_a_backup_is_not_written_over(tmp_path: Path) -> None:
    begun(tmp_path / "state")
    file = tmp_path / "backup"
    file.write_text("precious")
    with pytest.raises(StorageError, match="is there already"):
        back_up(tmp_path / "state", file, KEY, 5.0)
    assert file.read_text() == "precious"


def test_a_restore_begins_a_new_epoch_with_the_model_of_the_backup(tmp_path: Path) -> None:
    file, other = tmp_path / "backup", tmp_path / "other"
    begun(tmp_path / "state")
    before = read_federation(tmp_path / "state")
    back_up(tmp_path / "state", file, KEY, 5.0)
    done = restore(other, file, KEY, lambda: 77, replace=False)
    assert (done.epoch, done.lost, done.moved_to) == (2, None, None)
    assert sorted(p.name for p in other.iterdir()) == ["coordinator.db", "coordinator.lock"]
    after = read_federation(other)
    assert after.epoch == Epoch(2, 77)
    assert after.k == before.k + 1
    assert after.model.tolist() == before.model.tolist()
    assert after.updates == before.updates
    for agent, member in before.members.items():
        assert after.members[agent].last_seq == member.last_seq
        dual = member.contribution.dual
        assert after.members[agent].contribution.dual.tolist() == dual.tolist()


def test_a_restore_says_which_updates_are_lost(tmp_path: Path) -> None:
    file, state_dir = tmp_path / "backup", tmp_path / "state"
    begun(state_dir)
    back_up(state_dir, file, KEY, 5.0)

    def more(story: Story) -> None:
        story.update("a")
        story.update("a")
        story.tell(IncarnationRaised("b", 2))
        story.update("b")

    gone_on(state_dir, more)
    with pytest.raises(StorageError, match="there is a state already"):
        restore(state_dir, file, KEY, lambda: 77, replace=False)
    assert read_federation(state_dir).updates == 5
    done = restore(state_dir, file, KEY, lambda: 77, replace=True)
    assert done.lost == (LostUpdates("a", 2, 3), LostUpdates("b", 1, 1))
    assert done.moved_to == state_dir / "before-restore-1.db"
    assert read_federation(state_dir).updates == 2
    # once more: what is there now is no continuation of the backup as it was before
    done = restore(state_dir, file, KEY, lambda: 78, replace=True)
    assert (done.lost, done.epoch) == ((), 2)
    assert done.moved_to == state_dir / "before-restore-2.db"


def test_a_restore_over_a_damaged_state_can_not_say(tmp_path: Path) -> None:
    file, state_dir = tmp_path / "backup", tmp_path / "state"
    begun(state_dir)
    back_up(state_dir, file, KEY, 5.0)
    (state_dir / FILE_NAME).write_bytes(b"no database" * 1000)
    assert restore(state_dir, file, KEY, lambda: 77, replace=True).lost is None
    assert read_federation(state_dir).updates == 2


def test_nothing_is_restored_beside_a_running_coordinator(tmp_path: Path) -> None:
    file, state_dir = tmp_path / "backup", tmp_path / "state"
    begun(state_dir)
    back_up(state_dir, file, KEY, 5.0)
    with (
        journal_in(state_dir),
        pytest.raises(StorageError, match="another plantfed-coordinator is running"),
    ):
        restore(state_dir, file, KEY, lambda: 77, replace=True)


def test_a_damaged_backup_changes_nothing(tmp_path: Path) -> None:
    file, state_dir = tmp_path / "backup", tmp_path / "state"
    begun(state_dir)
    back_up(state_dir, file, KEY, 5.0)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(StorageError, match="damaged or cut off"):
        restore(state_dir, file, KEY, lambda: 77, replace=True)
    assert read_federation(state_dir).epoch.counter == 1
    assert [p for p in state_dir.iterdir() if p.is_dir()] == []


# ---------------------------------------------------------------- the commands

SETTINGS = """
[coordinator]
federation_file = "federation.toml"
[broker]
url = "mqtt://localhost"
"""


def run(folder: Path, *words: str) -> Result:
    (folder / "c.toml").write_text(SETTINGS)
    (folder / "key").write_text("00" * 32)
    return CliRunner().invoke(
        commands, [*words[:1], "--config", str(folder / "c.toml"), *words[1:]]
    )


def test_the_commands_say_what_they_have_done(tmp_path: Path) -> None:
    begun(tmp_path / "state")
    key, file = ("--key-file", str(tmp_path / "key")), str(tmp_path / "file")
    assert run(tmp_path, "backup", *key, file).output == (
        f"backup: {file}\nholds: toy release 1, 2 updates\n"
    )
    gone_on(tmp_path / "state", lambda story: story.update("a"))
    lines = run(tmp_path, "restore", *key, "--replace", file).output.splitlines()
    assert lines[0].startswith("restored: toy release 1, 2 updates, as of 2")
    assert lines[1:] == [
        "epoch: 2 begins with the next start",
        f"before: the state before is now {tmp_path / 'state' / 'before-restore-1.db'}",
        "lost: 1 update: a 2",
    ]
    model = read_federation(tmp_path / "state")
    said = run(tmp_path, "replay", "--verify").output
    assert said.startswith("replayed: 7 records behind the founding, 1 release as announced\n")
    assert f"model: toy release {model.k}, checksum " in said
    assert said.endswith("verified: 0 snapshots as the journal gives\n")
    (entry,) = read_entries(tmp_path / "state")
    assert entry.line.kind == "restored"
    assert entry.line.text.endswith("epoch 2 begins")


def test_a_secret_is_needed(tmp_path: Path) -> None:
    begun(tmp_path / "state")
    for words in ((), ("--key-file", "x", "--passphrase-file", "y")):
        outcome = run(tmp_path, "backup", *words, str(tmp_path / "file"))
        assert outcome.exit_code == 2
        assert "One of --key-file and --passphrase-file is needed." in outcome.output
