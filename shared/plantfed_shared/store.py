"""Durable tables: the only importer of sqlite3.

WAL with ``synchronous=FULL``: what a transaction wrote is on disk when it ends (SQLite manual,
"PRAGMA synchronous").  One process writes; others may read at the same time.
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from plantfed_shared.errors import StorageError

Row = tuple[Any, ...]
PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA cache_size = -1024",
    # a log that one long transaction has made longer gets short again
    "PRAGMA journal_size_limit = 16777216",
)
"""Of every connection that writes."""
BUSY_TIMEOUT_S = 10.0
LOCK_PATIENCE_S = 0.5
"""Longer than :func:`in_use` holds the lock to look."""


class Database:
    """One SQLite file.

    Args:
        path: of the file; its folder is made.
        migrations: one script per schema version, each run once, in order.
        program: what writes this file, for errors.
        checkpoint_pages: of 4 KiB in the write-ahead log before they go into the file, which takes
            two more syncs; None for what SQLite has (1,000).

    Raises:
        StorageError: it cannot be opened, another process writes it, or it is from a newer version.
    """

    def __init__(
        self,
        path: Path,
        migrations: Sequence[str],
        program: str,
        checkpoint_pages: int | None = None,
    ) -> None:
        self.path = path
        with _explained(path):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = _locked(path, program)
            try:
                self._connection = _connect(path, read_only=False)
                try:
                    os.chmod(path, 0o600)  # noqa: PTH101 - the file may hold a personal head
                    if checkpoint_pages is not None:
                        self.execute(f"PRAGMA wal_autocheckpoint = {checkpoint_pages}")
                    self._migrate(migrations)
                except BaseException:
                    self._connection.close()
                    raise
            except BaseException:
                self._lock.close()
                raise

    def _migrate(self, migrations: Sequence[str]) -> None:
        version = self._known_version(len(migrations))
        for number in range(version, len(migrations)):
            script = f"BEGIN;{migrations[number]};PRAGMA user_version = {number + 1};COMMIT;"
            self._connection.executescript(script)

    def _known_version(self, newest: int) -> int:
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version > newest:
            raise StorageError(
                f"has schema version {version}, this program knows {newest}",
                where=str(self.path),
                hint="Install the newer version again",
            )
        return int(version)

    @contextmanager
    def transaction(self) -> Iterator["Database"]:
        """All or nothing, on disk when it ends.

        Raises:
            StorageError: nothing of it was written.
        """
        with _explained(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def execute(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        """Run one statement with bound values; returns its rows."""
        with _explained(self.path):
            return self._connection.execute(sql, values).fetchall()

    def stream(self, sql: str, values: Sequence[object] = ()) -> Iterator[Row]:
        """Run one statement with bound values; yields its rows as they are read.

        Raises:
            StorageError: also at any row.
        """
        with _explained(self.path):
            # not `yield from`: who stops in the middle may do so after the file was closed
            for row in self._connection.execute(sql, values):  # noqa: UP028
                yield row

    @contextmanager
    def moment(self) -> Iterator["Database"]:
        """All that is read inside is of one moment, whatever is committed meanwhile."""
        with _explained(self.path):
            self._connection.execute("BEGIN")
            try:
                yield self
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    def copy_to(self, path: Path) -> None:
        """Write all that is committed now to a new file, without its free pages.

        Raises:
            StorageError: it could not be written, or there is a file already.
        """
        self.execute("VACUUM INTO ?", (str(path),))

    def execute_many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Run one statement for each row of values."""
        with _explained(self.path):
            self._connection.executemany(sql, rows)

    def close(self) -> None:
        """Close the file and let another process write it."""
        self._connection.close()
        self._lock.close()


@contextmanager
def reading(path: Path, newest: int | None = None) -> Iterator[Database]:
    """Read a file that another process may be writing.

    Args:
        path: of the file.
        newest: schema version that the reader knows; None for who reads any.

    Raises:
        StorageError: there is none, it cannot be read, or it is from a newer version.
    """
    if not path.exists():
        raise StorageError("there is no state yet", where=str(path), hint="Run the program first")
    database = Database.__new__(Database)
    database.path = path
    with _explained(path):
        database._connection = _connect(path, read_only=True)
        try:
            if newest is not None:
                database._known_version(newest)
            yield database
        finally:
            database._connection.close()


@contextmanager
def amending(path: Path) -> Iterator[Database]:
    """Add rows to a file that another process has open; it must expect them.

    Raises:
        StorageError: there is none, or it cannot be written.
    """
    if not path.exists():
        raise StorageError("there is no state yet", where=str(path), hint="Run the program first")
    database = Database.__new__(Database)
    database.path = path
    with _explained(path):
        database._connection = _connect(path, read_only=False)
        try:
            yield database
        finally:
            database._connection.close()


@contextmanager
def locked(path: Path, program: str) -> Iterator[None]:
    """Keep every process off a file that is not opened here, as :class:`Database` does.

    Raises:
        StorageError: one is running on it, or the folder cannot be used.
    """
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = _locked(path, program)
    with lock:
        yield


def in_use(path: Path) -> bool:
    """Whether a process is running on this file, as :class:`Database` has it."""
    try:
        with _lock_of(path).open(encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _lock_of(path: Path) -> Path:
    return path.with_suffix(".lock")


def _connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    mode = "ro" if read_only else "rwc"
    connection = sqlite3.connect(
        f"{path.resolve().as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        timeout=BUSY_TIMEOUT_S,
    )
    try:
        if not read_only:
            for pragma in PRAGMAS:
                connection.execute(pragma)
    except BaseException:
        connection.close()
        raise
    return connection


def _locked(path: Path, program: str) -> IO[str]:
    lock = _lock_of(path).open("a", encoding="utf-8")
    deadline = time.monotonic() + LOCK_PATIENCE_S
    while not _try_lock(lock):
        if time.monotonic() < deadline:
            time.sleep(0.02)
            continue
        lock.close()
        raise StorageError(
            f"another {program} is running on this state",
            where=str(path.parent),
            hint="Stop it, or give this one another state_dir",
        )
    return lock


def _try_lock(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        full = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
        hint = "Free some space on this disk" if full else "Check the file, its folder and the disk"
        raise StorageError(f"cannot be used: {error}", where=str(path), hint=hint) from error
    except OSError as error:
        raise StorageError(f"cannot be used: {error}", where=str(path)) from error
    except (OverflowError, UnicodeDecodeError) as error:
        # sqlite3 repeats what is damaged in its own messages, and counts on from it
        hint = "Restore a backup"
        raise StorageError(f"is damaged: {error}", where=str(path), hint=hint) from error
