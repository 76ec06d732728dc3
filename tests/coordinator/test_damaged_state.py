"""A state that is gone, damaged or too new: one clear line, and no new federation over it."""

import asyncio
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.coordinator.stories import Story, journal_in
from tests.federation_world import small_definition

from plantfed_coordinator import audit_log, cli
from plantfed_coordinator.audit_chain import Line
from plantfed_coordinator.audit_log import AuditLog
from plantfed_coordinator.cli import commands
from plantfed_coordinator.federation_file import Federation
from plantfed_coordinator.founding import refuse_lost_journal
from plantfed_coordinator.journal import FILE_NAME, Journal, load_state
from plantfed_coordinator.records import Joined
from plantfed_coordinator.settings import load_coordinator_settings
from plantfed_coordinator.snapshot import to_rows
from plantfed_coordinator.snapshot_reader import snapshot_ids
from plantfed_coordinator.views import read_connection, read_federation, read_overview
from plantfed_shared import store
from plantfed_shared.errors import StorageError
from plantfed_shared.vitals import no_vitals

SETTINGS = """
[coordinator]
federation_file = "federation.toml"
[broker]
url = "mqtt://127.0.0.1:1"
"""

FEDERATION = Path(__file__).parents[2] / "coordinator/federation.example.toml"


@pytest.fixture
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a federation with a member and two updates, and a snapshot behind each of them."""
    # not synced, or these would be tests of the disk
    monkeypatch.setattr(store, "PRAGMAS", ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = OFF"))
    folder = tmp_path / "state"
    with journal_in(folder) as journal:
        story = Story(journal)
        story.tell(Joined("a", 1))
        for _ in range(2):
            story.update("a")
            journal.finish(story.state)
        journal.append([], {"a": {"bytes_up": 1, "online": True, "seconds_since_seen": 0.0}})
    with closing(AuditLog(folder, lambda: 0.0)) as log:
        log.append([Line("started", None, "epoch 1")])
    return folder


def damage(state_dir: Path, *statements: str, file: str = FILE_NAME) -> None:
    with closing(sqlite3.connect(state_dir / file)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def run(state_dir: Path, *words: str) -> Result:
    folder = state_dir.parent
    (folder / "c.toml").write_text(SETTINGS)
    (folder / "key").write_text("00" * 32)
    (folder / "federation.toml").write_bytes(FEDERATION.read_bytes())
    return CliRunner().invoke(
        commands, [*words[:1], "--config", str(folder / "c.toml"), *words[1:]]
    )


def refusal(state_dir: Path, *words: str) -> str:
    """The line of a command that must end with exit code 74."""
    error = run(state_dir, *words).exception
    assert isinstance(error, StorageError), error
    assert error.exit_code == 74
    return str(error)


# ---------------------------------------------------------------- the journal is gone


def lose(state_dir: Path, how: str) -> None:
    if how == "gone":
        (state_dir / FILE_NAME).unlink()
    elif how == "emptied":
        (state_dir / FILE_NAME).write_bytes(b"")
    else:
        damage(state_dir, "DELETE FROM journal", "DELETE FROM snapshot")


@pytest.mark.parametrize("how", ["gone", "emptied", "no rows"])
def test_no_new_federation_is_founded_where_a_journal_was_lost(state_dir: Path, how: str) -> None:
    lose(state_dir, how)
    before = (state_dir / FILE_NAME).read_bytes() if how != "gone" else None
    with pytest.raises(StorageError, match=r"audit\.db.*Restore a backup, or remove the folder"):
        refuse_lost_journal(state_dir)
    after = (state_dir / FILE_NAME).read_bytes() if (state_dir / FILE_NAME).exists() else None
    assert after == before


def test_a_start_that_was_cut_off_before_the_founding_is_none(tmp_path: Path) -> None:
    refuse_lost_journal(tmp_path)
    (tmp_path / audit_log.FILE_NAME).write_bytes(b"")
    refuse_lost_journal(tmp_path)
    AuditLog(tmp_path, lambda: 0.0).close()
    refuse_lost_journal(tmp_path)


def test_a_state_that_is_there_is_not_refused(state_dir: Path) -> None:
    refuse_lost_journal(state_dir)


# ---------------------------------------------------------------- heads of snapshots


@pytest.mark.parametrize("crc", ["crc", "NULL"])
@pytest.mark.parametrize("head", ["[]", '{"epoch":1}', "5", "no json", "null", '{"k":0}'])
def test_of_a_damaged_head_the_snapshot_before_is_taken(
    state_dir: Path, head: str, crc: str, caplog: pytest.LogCaptureFixture
) -> None:
    with journal_in(state_dir) as journal:
        sound = journal.load()
        assert sound is not None
        newest = snapshot_ids(journal._database)[-1]
    damage(state_dir, f"UPDATE snapshot SET head = '{head}', crc = {crc}")
    with journal_in(state_dir) as journal:
        loaded = journal.load()
        assert loaded is not None
        assert to_rows(loaded) == to_rows(sound)
        (warning,) = caplog.messages
        assert f"the snapshot at journal row {newest} has" in warning
        assert warning.isprintable()
        # and the next one that is written takes its place
        story = Story.__new__(Story)
        story.journal, story.state, story.records = journal, loaded, []
        story.update("a")
        journal.finish(story.state)
        again = load_state(journal._database)
        assert again is not None
        assert (again.damage, again.replayed) == (None, 0)
        assert to_rows(again.state) == to_rows(story.state)


def test_a_head_with_a_changed_number_is_noticed(state_dir: Path) -> None:
    damage(state_dir, """UPDATE snapshot SET head = replace(head, '"k": 0', '"k": 1')""")
    with journal_in(state_dir) as journal:
        loaded = load_state(journal._database)
        assert loaded is not None
        assert loaded.damage is not None
        assert "has a damaged head" in str(loaded.damage)
        assert loaded.state.k == 0


def test_without_a_sound_head_and_the_founding_it_is_refused(state_dir: Path) -> None:
    damage(
        state_dir,
        "UPDATE journal_begin SET journal_id = (SELECT max(journal_id) FROM snapshot)",
        "UPDATE snapshot SET head = '[]'",
    )
    for words in (("members",), ("replay",), ("check",)):
        assert re.search(
            r"journal row \d+ has a damaged head. Restore a backup", refusal(state_dir, *words)
        )


# ---------------------------------------------------------------- a whole state


def test_members_heads_the_scores_with_what_they_are(state_dir: Path) -> None:
    _, heads, _ = run(state_dir, "members").output.splitlines()
    assert heads.split()[4] == read_overview(state_dir).metric


# ---------------------------------------------------------------- other rows


@pytest.mark.parametrize(
    "fields", ["nonsense", "[]", "5", '[["days", 5]]', '{"days": 5}', '{"bytes_up": "many"}']
)
def test_what_was_seen_live_and_cannot_be_read_is_told(state_dir: Path, fields: str) -> None:
    damage(state_dir, f"UPDATE live SET fields = '{fields}'")
    if fields == "[]":  # nothing is seen of it
        assert read_overview(state_dir).members[0].bytes_up == 0
        return
    line = refusal(state_dir, "members")
    assert line.endswith("table live: what was seen of 'a' can't be read. Restore a backup")


def test_a_start_tells_a_broken_live_row(state_dir: Path) -> None:
    damage(state_dir, "UPDATE live SET fields = 'nonsense'")
    with journal_in(state_dir) as journal, pytest.raises(StorageError, match="table live"):
        journal.seen_live()


def test_an_order_of_no_known_kind_is_told_by_its_row(state_dir: Path) -> None:
    damage(state_dir, "INSERT INTO operator_order VALUES (7, 'dance', 'a', 0)")
    with (
        journal_in(state_dir) as journal,
        pytest.raises(StorageError, match="operator_order row 7: 'dance' is no order"),
    ):
        journal.pending_orders()


def test_a_journal_that_does_not_say_where_it_begins(state_dir: Path) -> None:
    damage(state_dir, "DELETE FROM journal_begin")
    for words in (("members",), ("replay",), ("check",)):
        assert "doesn't say where the journal begins" in refusal(state_dir, *words)
    with journal_in(state_dir) as journal, pytest.raises(StorageError, match="journal begins"):
        journal.load()


@pytest.mark.parametrize("change", ["fields = 'x'", "kind = 'x'", "fields = '[]'", "agent = NULL"])
def test_a_row_without_a_checksum_is_told_by_its_number_too(state_dir: Path, change: str) -> None:
    damage(state_dir, f"UPDATE journal SET crc = NULL, {change} WHERE id = 2")
    assert "journal row 2: this " in refusal(state_dir, "replay")


@pytest.mark.parametrize("fields", ['{"k":"x","checksum":1}', '{"k":null,"checksum":1}'])
def test_a_row_with_a_field_of_another_type_is_told_by_its_number(
    state_dir: Path, fields: str
) -> None:
    damage(
        state_dir,
        f"INSERT INTO journal (id, unix_time, kind, fields) VALUES (9, 0.0, 'release', '{fields}')",
    )
    assert "journal row 9: " in refusal(state_dir, "members")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("fields = 'x'", "this join of a is damaged"),
        ("crc = NULL, fields = 'x'", "this 'join' can't be read"),
        ("crc = NULL, fields = '[]'", "this 'join' can't be read"),
        ("crc = NULL, kind = 'x'", "this 'x' can't be read"),
        ("""crc = NULL, kind = 'release', fields = '{"k":1,"checksum":"x"}'""", "this 'release'"),
    ],
)
def test_a_history_tells_the_row_that_is_damaged(state_dir: Path, change: str, said: str) -> None:
    damage(state_dir, f"UPDATE journal SET {change}, agent = agent WHERE id = 2")
    for more in ((), ("--json",)):
        assert f"journal row 2: {said}" in refusal(state_dir, "history", *more)


def test_a_time_that_no_clock_shows_is_shown_as_it_is(state_dir: Path) -> None:
    damage(state_dir, "UPDATE journal SET unix_time = 1e300 WHERE id = 2")
    assert "1e+300 s  join" in run(state_dir, "history").output


@pytest.mark.parametrize("state", ["x", "{}", "[]", '{"connected":1,"since":"x","trouble":null}'])
def test_how_it_stood_with_the_broker_can_be_damaged(state_dir: Path, state: str) -> None:
    damage(state_dir, f"INSERT INTO connection VALUES (1, '{state}')")
    with pytest.raises(StorageError, match="table connection: no state of a connection"):
        read_connection(state_dir)


def test_what_is_seen_live_names_no_member_of_its_own(state_dir: Path) -> None:
    damage(state_dir, """UPDATE live SET fields = '{"id":"b"}'""")
    assert "table live: what was seen of 'a' can't be read" in refusal(state_dir, "members")


def test_a_file_whose_damage_sqlite_cannot_put_into_words(state_dir: Path) -> None:
    for file in (FILE_NAME, audit_log.FILE_NAME):
        damage(state_dir, "PRAGMA wal_checkpoint(TRUNCATE)", file=file)
        path = state_dir / file
        path.write_bytes(path.read_bytes().replace(b"CREATE TABLE ", b"CREATE \xfd\xfe\xffLE "))
        with pytest.raises(StorageError, match="is damaged"), store.reading(path) as database:
            database.execute("SELECT 1 FROM sqlite_master")
    assert "is damaged" in refusal(state_dir, "history")


def test_an_audit_log_after_whose_last_number_there_is_none(state_dir: Path) -> None:
    damage(state_dir, f"UPDATE audit SET number = {2**63 - 1}", file=audit_log.FILE_NAME)
    with (
        closing(AuditLog(state_dir, lambda: 0.0)) as log,
        pytest.raises(StorageError, match="is damaged"),
    ):
        log.append([Line("started", None, "again")])


# ---------------------------------------------------------------- audit log, newer versions


def test_a_check_refuses_an_audit_log_that_a_start_would_refuse(state_dir: Path) -> None:
    (state_dir / audit_log.FILE_NAME).write_bytes(b"garbage" * 1000)
    assert "audit.db: cannot be used: file is not a database" in refusal(state_dir, "check")


@pytest.mark.parametrize("words", ["members", "replay", "backup", "history", "check"])
def test_a_journal_of_a_newer_version_is_refused(state_dir: Path, words: str) -> None:
    damage(state_dir, "PRAGMA user_version = 9")
    more = ("--key-file", str(state_dir.parent / "key"), str(state_dir / "file"))
    line = refusal(state_dir, words, *(more if words == "backup" else ()))
    assert "coordinator.db: has schema version 9, this program knows" in line
    with pytest.raises(StorageError, match="schema version 9"):
        Journal(state_dir, lambda: 0.0)


def test_an_audit_log_of_a_newer_version_is_refused(state_dir: Path) -> None:
    damage(state_dir, "PRAGMA user_version = 9", file=audit_log.FILE_NAME)
    for command in ("members", "check"):
        assert "audit.db: has schema version 9" in refusal(state_dir, command)


# ---------------------------------------------------------------- the service itself


NO_FOUNDING = (
    "UPDATE journal_begin SET journal_id = (SELECT max(journal_id) FROM snapshot)",
    "UPDATE snapshot SET head = '[]', crc = NULL",
)


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        (("DELETE FROM journal", "DELETE FROM snapshot"), "journal is gone or empty"),
        (("UPDATE live SET fields = 'nonsense'",), "table live: what was seen of 'a'"),
        (("DELETE FROM journal_begin",), "doesn't say where the journal begins"),
        (("INSERT INTO operator_order VALUES (7, 'dance', 'a', 0)",), "operator_order row 7"),
        (NO_FOUNDING, "has no head that can be read"),
        (("PRAGMA user_version = 9",), "has schema version 9"),
    ],
)
def test_a_start_refuses_in_one_line(
    state_dir: Path, statements: tuple[str, ...], said: str
) -> None:
    damage(state_dir, *statements)
    (state_dir.parent / "c.toml").write_text(SETTINGS)
    settings = load_coordinator_settings(state_dir.parent / "c.toml")
    with pytest.raises(StorageError) as refused:
        asyncio.run(
            cli._serve(settings, Federation(small_definition()), no_vitals(), asyncio.Event())
        )
    assert said in str(refused.value)
    assert str(refused.value).isprintable()


def test_heads_of_the_schema_before_are_read_by_a_reader_and_by_a_start(state_dir: Path) -> None:
    with journal_in(state_dir) as journal:
        sound = journal.load()
    assert sound is not None
    damage(state_dir, "ALTER TABLE snapshot DROP COLUMN crc", "PRAGMA user_version = 3")
    assert to_rows(read_federation(state_dir)) == to_rows(sound)
    with journal_in(state_dir) as journal:
        loaded = load_state(journal._database)
        assert loaded is not None
        assert (loaded.damage, loaded.replayed) == (None, 0)
        assert to_rows(loaded.state) == to_rows(sound)
