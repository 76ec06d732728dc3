"""The audit log on disk: who was refused, who came and went, which epochs began.

A file of its own beside the journal: a backup that is restored must not take it back in time, a
quarantine must not end because of it, and the journal stays what the model is computed from.
SQLite, because an entry that was cut off by a power failure would look like a forged one.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from plantfed_coordinator.audit_chain import (
    FIRST_HASH,
    Entry,
    Line,
    chained,
    dropped_up_to,
    lines_of,
)
from plantfed_coordinator.events import Action, Quarantine
from plantfed_coordinator.limits import Limits
from plantfed_shared.store import Database, Row, reading

FILE_NAME = "audit.db"
_MIGRATIONS = (
    """
    CREATE TABLE audit (
        number INTEGER PRIMARY KEY, unix_time REAL NOT NULL, kind TEXT NOT NULL, agent TEXT,
        text TEXT NOT NULL, count INTEGER NOT NULL, hash TEXT NOT NULL
    ) STRICT;
    CREATE TABLE quarantine (agent TEXT PRIMARY KEY, reason TEXT NOT NULL) STRICT;
    """,
)
_COLUMNS = "number, unix_time, kind, agent, text, count, hash"


class AuditLog:
    """The audit log of one running coordinator.

    Args:
        state_dir: its folder.
        wall_clock: Unix seconds, for the reader only.
        most: entries that are kept.

    Raises:
        StorageError: see :class:`plantfed_shared.store.Database`.
    """

    def __init__(
        self,
        state_dir: Path,
        wall_clock: Callable[[], float],
        most: int = Limits().audit_entries,
    ) -> None:
        self._database = Database(state_dir / FILE_NAME, _MIGRATIONS, "plantfed-coordinator")
        self._wall_clock = wall_clock
        self._most = most
        try:
            last = _entries(self._database, "ORDER BY number DESC LIMIT 1")
        except BaseException:
            self._database.close()
            raise
        self._number, self._hash = (last[0].number, last[0].hash) if last else (0, FIRST_HASH)

    @property
    def head(self) -> str:
        """The last entry's number and hash, for ``audit verify --head``."""
        return f"{self._number}:{self._hash}" if self._number else ""

    def quarantined(self) -> dict[str, str]:
        """Agents that are not listened to, and why."""
        return dict(self._database.execute("SELECT agent, reason FROM quarantine"))

    def take(self, actions: Iterable[Action]) -> None:
        """Write what these actions have for it, on disk when it returns.

        Raises:
            StorageError: nothing was written.
        """
        asked = list(actions)
        lines = lines_of(asked)
        changes = [action for action in asked if isinstance(action, Quarantine)]
        if lines or changes:
            self.append(lines, changes)

    def append(self, lines: Iterable[Line], changes: Iterable[Quarantine] = ()) -> None:
        """Write entries, and who is quarantined, in one transaction.

        Raises:
            StorageError: nothing was written.
        """
        number, last = self._number, self._hash
        new: list[Entry] = []
        for line in lines:
            number += 1
            new.append(chained(last, number, self._wall_clock(), line))
            last = new[-1].hash
        with self._database.transaction() as database:
            _insert(database, new)
            for agent, reason in ((change.agent, change.reason) for change in changes):
                database.execute("DELETE FROM quarantine WHERE agent = ?", (agent,))
                if reason is not None:
                    database.execute("INSERT INTO quarantine VALUES (?, ?)", (agent, reason))
            dropped = self._drop(database, number, last)
        kept = dropped or (new[-1] if new else None)
        if kept is not None:
            self._number, self._hash = kept.number, kept.hash

    def close(self) -> None:
        """Let another process write it."""
        self._database.close()

    def _drop(self, database: Database, number: int, last: str) -> Entry | None:
        """Drop the oldest tenth where there are too many; returns the entry that says so."""
        (first,) = database.execute("SELECT min(number) FROM audit")[0]
        if first is None or number - first < self._most:
            return None
        end = number - self._most + self._most // 10
        (newest,) = _entries(database, "WHERE number = ?", end)
        database.execute("DELETE FROM audit WHERE number <= ?", (end,))
        entry = chained(last, number + 1, self._wall_clock(), dropped_up_to(newest))
        _insert(database, [entry])
        return entry


def read_entries(state_dir: Path, last: int | None = None) -> list[Entry]:
    """The entries that are kept, by number; the ``last`` ones of them.

    Raises:
        StorageError: there is no log, or it cannot be read.
    """
    with reading(state_dir / FILE_NAME, len(_MIGRATIONS)) as database:
        newest = _entries(database, "ORDER BY number DESC LIMIT ?", -1 if last is None else last)
    return newest[::-1]


def read_quarantined(state_dir: Path) -> dict[str, str]:
    """Agents that are not listened to, and why; none before there is a log.

    Raises:
        StorageError: it cannot be read.
    """
    if not (state_dir / FILE_NAME).exists():
        return {}
    with reading(state_dir / FILE_NAME, len(_MIGRATIONS)) as database:
        return dict(database.execute("SELECT agent, reason FROM quarantine"))


def has_entries(state_dir: Path) -> bool:
    """Whether a coordinator was started on this folder, or restored into it, at any time.

    Raises:
        StorageError: the log cannot be read.
    """
    path = state_dir / FILE_NAME
    if not path.exists():
        return False
    with reading(path, len(_MIGRATIONS)) as database:
        # one who was cut off while it made the file had nothing to say yet
        made = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'audit'")
        return bool(made and database.execute("SELECT 1 FROM audit LIMIT 1"))


@contextmanager
def opened(state_dir: Path, wall_clock: Callable[[], float], most: int) -> Iterator[AuditLog]:
    """The log while a program runs that writes it."""
    log = AuditLog(state_dir, wall_clock, most)
    try:
        yield log
    finally:
        log.close()


def _insert(database: Database, entries: Iterable[Entry]) -> None:
    rows = [(number, time, *line, digest) for number, time, line, digest in entries]
    sql = f"INSERT INTO audit ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - constants
    database.execute_many(sql, rows)


def _entries(database: Database, rest: str, *values: object) -> list[Entry]:
    sql = f"SELECT {_COLUMNS} FROM audit {rest}"  # noqa: S608 - constants of this module
    return [_entry(row) for row in database.execute(sql, values)]


def _entry(row: Row) -> Entry:
    number, time, kind, agent, text, count, digest = row
    return Entry(number, time, Line(kind, agent, text, count), digest)
