"""The coordinator's journal on disk, with snapshots, operators' orders and what is seen live."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plantfed_coordinator import record_rows, snapshot
from plantfed_coordinator.events import OperatorOrder, Order
from plantfed_coordinator.records import EpochStarted, Record
from plantfed_coordinator.state import FederationState
from plantfed_shared.bus.connection_state import ConnectionState
from plantfed_shared.errors import StorageError
from plantfed_shared.store import Database, amending, reading

FILE_NAME = "coordinator.db"
SNAPSHOT_EVERY = 500
"""Records between two snapshots: a start replays at most so many."""
_MIGRATIONS = (
    """
    CREATE TABLE journal (
        id INTEGER PRIMARY KEY, unix_time REAL NOT NULL,
        kind TEXT NOT NULL, agent TEXT, fields TEXT NOT NULL, content BLOB
    ) STRICT;
    CREATE TABLE snapshot (
        journal_id INTEGER NOT NULL, name TEXT NOT NULL, fields TEXT NOT NULL, content BLOB,
        PRIMARY KEY (journal_id, name)
    ) STRICT;
    CREATE TABLE operator_order (
        id INTEGER PRIMARY KEY, kind TEXT NOT NULL, agent TEXT NOT NULL, done INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE live (agent TEXT PRIMARY KEY, fields TEXT NOT NULL) STRICT;
    """,
    """
    CREATE TABLE connection (id INTEGER PRIMARY KEY CHECK (id = 1), state TEXT NOT NULL) STRICT;
    """,
)


class Journal:
    """The journal of one running coordinator.

    Args:
        state_dir: its folder.
        wall_clock: Unix seconds, for the reader of the history only.

    Raises:
        StorageError: see :class:`plantfed_shared.store.Database`.
    """

    def __init__(self, state_dir: Path, wall_clock: Callable[[], float]) -> None:
        self._database = Database(state_dir / FILE_NAME, _MIGRATIONS, "plantfed-coordinator")
        self._wall_clock = wall_clock
        self._last_id = _last_id(self._database)
        self._since_snapshot = 0

    def load(self) -> FederationState | None:
        """The state after the last record, or None for a new journal."""
        loaded = load_state(self._database)
        if loaded is None:
            return None
        self._since_snapshot = loaded.replayed
        return loaded.state

    def seen_live(self) -> dict[str, dict[str, Any]]:
        """What :meth:`append` was given last to be seen live, by agent."""
        return read_live(self._database)

    def append(self, records: Iterable[Record], live: dict[str, dict[str, Any]]) -> None:
        """Write records and what is seen live in one transaction, on disk when it ends.

        Raises:
            StorageError: nothing was written.
        """
        now = self._wall_clock()
        rows = [(now, *record_rows.to_row(record)) for record in records]
        with self._database.transaction() as database:
            database.execute_many(
                "INSERT INTO journal (unix_time, kind, agent, fields, content)"
                " VALUES (?, ?, ?, ?, ?)",
                rows,
            )
            database.execute_many(
                "INSERT OR REPLACE INTO live VALUES (?, ?)",
                [(agent, json.dumps(fields)) for agent, fields in live.items()],
            )
        self._last_id += len(rows)
        self._since_snapshot += len(rows)

    def snapshot_if_due(self, state: FederationState, *, now: bool = False) -> None:
        """Write a snapshot after enough records; the one before is kept, older ones go.

        Raises:
            StorageError: nothing was written.
        """
        if self._since_snapshot < (1 if now else SNAPSHOT_EVERY):
            return
        rows = [(self._last_id, *row) for row in snapshot.to_rows(state)]
        with self._database.transaction() as database:
            database.execute_many("INSERT OR REPLACE INTO snapshot VALUES (?, ?, ?, ?)", rows)
            database.execute(
                "DELETE FROM snapshot WHERE journal_id NOT IN"
                " (SELECT DISTINCT journal_id FROM snapshot ORDER BY journal_id DESC LIMIT 2)"
            )
        self._since_snapshot = 0

    def pending_orders(self) -> list[tuple[int, OperatorOrder]]:
        """Orders that operators have given and that are not carried out."""
        rows = self._database.execute(
            "SELECT id, kind, agent FROM operator_order WHERE done = 0 ORDER BY id"
        )
        return [(number, OperatorOrder(Order(kind), agent)) for number, kind, agent in rows]

    def order_done(self, number: int) -> None:
        """Mark an order as carried out."""
        with self._database.transaction() as database:
            database.execute("UPDATE operator_order SET done = 1 WHERE id = ?", (number,))

    def write_connection(self, state: ConnectionState) -> None:
        """Write how it stands with the broker, for those who look at a running coordinator.

        Raises:
            StorageError: it was not written.
        """
        with self._database.transaction() as database:
            database.execute("INSERT OR REPLACE INTO connection VALUES (1, ?)", (state.to_json(),))

    def close(self) -> None:
        """Let another process use the journal."""
        self._database.close()


@dataclass(frozen=True, slots=True)
class Loaded:
    """A state read from a journal.

    Attributes:
        state: after the last record.
        replayed: records since the snapshot it was read from.
    """

    state: FederationState
    replayed: int


def load_state(database: Database, *, from_snapshot: bool = True) -> Loaded | None:
    """Read the newest snapshot and replay what follows, or replay everything.

    Raises:
        StorageError: the journal is damaged.
    """
    newest = database.execute("SELECT max(journal_id) FROM snapshot")[0][0]
    state, start = None, 0
    if newest is not None and from_snapshot:
        start = newest
        state = snapshot.from_rows(
            database.execute(
                "SELECT name, fields, content FROM snapshot WHERE journal_id = ?", (newest,)
            )
        )
    replayed = 0
    for record in read_records(database, start):
        if state is None:
            if not isinstance(record, EpochStarted):
                raise StorageError("the journal doesn't begin with an epoch")
            state = FederationState.begin(record)
        else:
            state.apply(record)
        replayed += 1
    return None if state is None else Loaded(state, replayed)


def read_records(database: Database, after_id: int = 0) -> Iterator[Record]:
    """The records behind a row number, in order."""
    rows = database.execute(
        "SELECT kind, agent, fields, content FROM journal WHERE id > ? ORDER BY id", (after_id,)
    )
    return (record_rows.from_row(row) for row in rows)


def give_order(state_dir: Path, order: OperatorOrder) -> int:
    """Ask the coordinator of this state for something; it obeys within a second, or at its start.

    Returns:
        The order's number, for :func:`order_is_done`.

    Raises:
        StorageError: there is no such state.
    """
    with amending(state_dir / FILE_NAME) as database, database.transaction():
        rows = database.execute(
            "INSERT INTO operator_order (kind, agent, done) VALUES (?, ?, 0) RETURNING id",
            (order.order.value, order.agent),
        )
    number: int = rows[0][0]
    return number


def order_is_done(state_dir: Path, number: int) -> bool:
    """Whether an order was carried out."""
    with reading(state_dir / FILE_NAME) as database:
        rows = database.execute("SELECT done FROM operator_order WHERE id = ?", (number,))
    return bool(rows and rows[0][0])


def read_live(database: Database) -> dict[str, dict[str, Any]]:
    """What is seen live, by agent."""
    return {agent: json.loads(text) for agent, text in database.execute("SELECT * FROM live")}


def _last_id(database: Database) -> int:
    return int(database.execute("SELECT coalesce(max(id), 0) FROM journal")[0][0])
