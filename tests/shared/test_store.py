"""The store on a real disk: all or nothing, one writer, and every failure explained."""

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from plantfed_shared.errors import StorageError
from plantfed_shared.store import Database, amending, in_use, reading

SCHEMA = ("CREATE TABLE row (number INTEGER PRIMARY KEY, content BLOB) STRICT",)


def opened(path: Path, migrations: tuple[str, ...] = SCHEMA) -> Database:
    return Database(path, migrations, "coordinator")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    with closing(opened(path)) as database:
        yield database


def add(database: Database, *numbers: int) -> None:
    database.execute_many("INSERT INTO row (number) VALUES (?)", [(n,) for n in numbers])


def add_in_one_transaction(database: Database, *steps: int | BaseException) -> None:
    with database.transaction():
        for step in steps:
            if isinstance(step, BaseException):
                raise step
            add(database, step)


def numbers(database: Database) -> list[int]:
    return [number for (number,) in database.execute("SELECT number FROM row ORDER BY number")]


def one_line(error: StorageError) -> str:
    text = str(error)
    assert text.isprintable()
    return text


# ---------------------------------------------------------------- transactions


def test_what_was_committed_is_there_after_reopening(path):
    with closing(opened(path)) as database:
        with database.transaction() as same:
            assert same is database
            add(database, 1, 2)
            add(database, 3)
        add(database, 4)
    with closing(opened(path)) as database:
        assert numbers(database) == [1, 2, 3, 4]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_transaction_that_fails_leaves_nothing(database, failure):
    add(database, 1)
    with pytest.raises(failure):
        add_in_one_transaction(database, 2, failure())
    assert numbers(database) == [1]
    with database.transaction():
        add(database, 3)
    assert numbers(database) == [1, 3]


def test_a_statement_that_fails_takes_its_transaction_with_it(database):
    add(database, 1)
    with pytest.raises(StorageError, match="UNIQUE"):
        add_in_one_transaction(database, 2, 1)
    assert numbers(database) == [1]


def test_readers_see_whole_transactions_only(path, database):
    with reading(path) as reader:
        with database.transaction():
            add(database, 1)
            assert numbers(reader) == []
            add(database, 2)
        assert numbers(reader) == [1, 2]


def test_every_commit_reaches_the_disk(database):
    # FULL (2) syncs the write-ahead log at every commit (SQLite manual)
    assert database.execute("PRAGMA journal_mode") == [("wal",)]
    assert database.execute("PRAGMA synchronous") == [(2,)]


def test_a_process_killed_in_a_transaction_leaves_nothing_of_it(path):
    with other_process(path, "database.execute('INSERT INTO row VALUES (1, NULL)')"):
        pass
    with closing(opened(path)) as database:
        assert numbers(database) == []
        add(database, 1)


# ---------------------------------------------------------------- one writer

OTHER = """
import sys
from pathlib import Path
from plantfed_shared.store import Database
database = Database(Path(sys.argv[1]), [sys.argv[2]], "coordinator")
with database.transaction():
    exec(sys.argv[3])
    print("ready", flush=True)
    sys.stdin.read()
"""


@contextmanager
def other_process(path: Path, statement: str = "pass") -> Iterator[None]:
    """Another process that has the file open, in the middle of a transaction; then SIGKILL."""
    command = [sys.executable, "-c", OTHER, str(path), SCHEMA[0], statement]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"ready\n"
            yield
        finally:
            process.kill()


def test_a_second_process_is_refused_until_the_first_is_gone(path):
    with other_process(path):
        assert in_use(path)
        with pytest.raises(StorageError) as refused:
            opened(path)
        assert one_line(refused.value) == (
            f"{path.parent}: another coordinator is running on this state."
            " Stop it, or give this one another state_dir"
        )
    assert not in_use(path)
    opened(path).close()


def test_a_closed_file_is_free(path):
    opened(path).close()
    assert not in_use(path)
    opened(path).close()


def test_nobody_uses_a_file_that_is_not_there(path):
    assert not in_use(path)


def test_a_failed_opening_leaves_the_file_free(path):
    opened(path, (*SCHEMA, "CREATE TABLE more (x)")).close()
    with pytest.raises(StorageError):
        opened(path)
    assert not in_use(path)


# ---------------------------------------------------------------- schema


def test_a_newer_schema_is_refused(path):
    opened(path, (*SCHEMA, "CREATE TABLE more (x)")).close()
    with pytest.raises(StorageError) as refused:
        opened(path)
    assert one_line(refused.value) == (
        f"{path}: has schema version 2, this program knows 1. Install the newer version again"
    )


def test_migrations_run_once_and_keep_what_is_there(path):
    with closing(opened(path)) as database:
        add(database, 1)
    newer = (*SCHEMA, "ALTER TABLE row ADD COLUMN unit TEXT; INSERT INTO row (number) VALUES (2)")
    for _ in range(2):
        with closing(opened(path, newer)) as database:
            assert database.execute("SELECT number, unit FROM row") == [(1, None), (2, None)]
            assert database.execute("PRAGMA user_version") == [(2,)]


def test_a_migration_that_fails_changes_nothing(path):
    with closing(opened(path)) as database:
        add(database, 1)
    with pytest.raises(StorageError, match="no such table") as failed:
        opened(path, (*SCHEMA, "DELETE FROM row; DELETE FROM missing"))
    # also while the failure is still being reported
    with closing(opened(path)) as database:
        assert numbers(database) == [1]
        add(database, 2)
    assert failed.value.where == str(path)


# ---------------------------------------------------------------- a disk that fails


def test_a_full_disk_is_explained_and_loses_nothing(database):
    add(database, 1)
    (pages,) = database.execute("PRAGMA page_count")[0]
    database.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StorageError) as full:
        add_in_one_transaction(database, *range(2, 5000))
    assert "full" in one_line(full.value)
    assert full.value.hint == "Free some space on this disk"
    assert numbers(database) == [1]
    database.execute("PRAGMA max_page_count = 1000")
    with database.transaction():
        add(database, 2)
    assert numbers(database) == [1, 2]


@pytest.mark.parametrize(
    "damage", [b"not a database at all" * 500, b"SQLite format 3\0" + b"\xff" * 5000]
)
def test_a_file_that_is_no_database_is_explained(path, damage):
    path.parent.mkdir()
    path.write_bytes(damage)
    for attempt in (
        lambda: opened(path),
        lambda: reading(path).__enter__().execute("SELECT 1 FROM row"),
    ):
        with pytest.raises(StorageError) as failed:
            attempt()
        assert one_line(failed.value).startswith(f"{path}: cannot be used: ")
        assert failed.value.hint == "Check the file, its folder and the disk"
    assert path.read_bytes() == damage


def test_a_damaged_page_is_explained(path):
    with closing(opened(path)) as database:
        database.execute_many(
            "INSERT INTO row VALUES (?, zeroblob(3000))", [(n,) for n in range(50)]
        )
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)
    with (
        closing(opened(path)) as database,
        pytest.raises(StorageError, match="malformed"),
        database.transaction(),
    ):
        add(database, 100)


def test_a_folder_that_cannot_be_made_is_explained(tmp_path):
    (tmp_path / "state").write_text("a file")
    with pytest.raises(StorageError, match="cannot be used"):
        opened(tmp_path / "state" / "journal.db")
    with pytest.raises(StorageError, match="cannot be used"):
        opened(tmp_path / "state" / "deeper" / "journal.db")


def test_a_statement_after_closing_is_explained(path):
    database = opened(path)
    database.close()
    with pytest.raises(StorageError, match="closed"):
        database.execute("SELECT 1")


# ---------------------------------------------------------------- readers and amenders


@pytest.mark.parametrize("door", [reading, amending])
def test_no_state_yet(path, door):
    with pytest.raises(StorageError, match="there is no state yet") as failed, door(path):
        pytest.fail("opened what is not there")
    assert failed.value.hint == "Run the program first"
    assert not path.exists()


def test_readers_cannot_write(path, database):
    with reading(path) as reader, pytest.raises(StorageError, match="readonly"):
        add(reader, 1)
    assert numbers(database) == []


def test_amenders_write_beside_the_process_that_has_it_open(path, database):
    add(database, 1)
    with amending(path) as amender, amender.transaction():
        add(amender, 2)
    assert numbers(database) == [1, 2]


@pytest.mark.parametrize("door", [reading, amending])
def test_doors_are_closed_behind_one(path, database, door):
    with door(path) as passing:
        assert numbers(passing) == []
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        passing._connection.execute("SELECT 1")


def test_only_the_owner_can_read_it(path):
    before = os.umask(0)
    try:
        with closing(opened(path)) as database:
            add(database, 1)
            modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    del modes["journal.lock"]  # holds nothing
    assert modes == {"journal.db": 0o600, "journal.db-wal": 0o600, "journal.db-shm": 0o600}
