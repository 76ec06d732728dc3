"""The coordinator's journal on disk, with snapshots, operators' orders and what is seen live."""

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from plantfed_coordinator import record_rows
from plantfed_coordinator.events import OperatorOrder, Order
from plantfed_coordinator.live import days_in
from plantfed_coordinator.records import Applied, EpochStarted, Record
from plantfed_coordinator.snapshot_reader import (
    ROW_BYTES,
    begin_of,
    newest_start,
    read_snapshot,
)
from plantfed_coordinator.snapshot_store import (
    HEAD_CRC,
    SCHEMA,
    SnapshotStore,
)
from plantfed_coordinator.state import FederationState
from plantfed_shared.bus.connection_state import ConnectionState
from plantfed_shared.errors import PlantfedError, StorageError
from plantfed_shared.store import Database, amending, reading

log = logging.getLogger("plantfed.coordinator")

FILE_NAME = "coordinator.db"
KEEP_BYTES = 128 * 2**20
"""Of the journal; half of what the setting says, because up to twice as many stay."""
CHECKPOINT_PAGES = 4000
"""16 MiB: a fifth less time for durable updates of 10 KB than with SQLite's 1,000."""
MIGRATIONS = (
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
    "ALTER TABLE journal ADD COLUMN crc INTEGER;" + SCHEMA,
    HEAD_CRC,
)


class Journal:
    """The journal of one running coordinator.

    Args:
        state_dir: its folder.
        wall_clock: Unix seconds, for the reader of the history only.
        keep_bytes: of the journal that can be replayed, at least; about twice as many at most.

    Raises:
        StorageError: see :class:`plantfed_shared.store.Database`.
    """

    def __init__(
        self, state_dir: Path, wall_clock: Callable[[], float], keep_bytes: int = KEEP_BYTES
    ) -> None:
        self._database = Database(
            state_dir / FILE_NAME, MIGRATIONS, "plantfed-coordinator", CHECKPOINT_PAGES
        )
        self._wall_clock = wall_clock
        try:
            self._last_id = _last_id(self._database)
            self._snapshots = SnapshotStore(self._database, keep_bytes)
        except BaseException:
            self._database.close()
            raise

    @property
    def has_work(self) -> bool:
        """Whether :meth:`work` has something to do besides what is due."""
        return self._snapshots.has_work

    def load(self) -> FederationState | None:
        """The state after the last record, or None for a new journal.

        Raises:
            StorageError: the journal is damaged.
        """
        loaded = load_state(self._database)
        if loaded is not None and loaded.damage is not None:
            log.warning("%s; went on from before it, nothing is lost", loaded.damage.what)
        return None if loaded is None else loaded.state

    def seen_live(self) -> dict[str, dict[str, Any]]:
        """What :meth:`append` was given last to be seen live, by agent."""
        return read_live(self._database)

    def append(self, records: Iterable[Record], live: dict[str, dict[str, Any]]) -> None:
        """Write records and what is seen live in one transaction, on disk when it ends.

        Raises:
            StorageError: nothing was written.
        """
        now, records = self._wall_clock(), list(records)
        rows = [record_rows.to_row(record) for record in records]
        with self._database.transaction() as database:
            database.execute_many(
                "INSERT INTO journal (unix_time, kind, agent, fields, content, crc)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                [(now, *row, _crc_of(row)) for row in rows],
            )
            database.execute_many(
                "INSERT OR REPLACE INTO live VALUES (?, ?)",
                [(agent, json.dumps(fields)) for agent, fields in live.items()],
            )
        self._last_id += len(rows)
        n_bytes = sum(len(text) + len(blob or b"") + ROW_BYTES for *_, text, blob in rows)
        self._snapshots.note(records, n_bytes)

    def work(self, state: FederationState) -> None:
        """Begin a snapshot where one is due, and write or drop one slice of what waits for it.

        Args:
            state: after the last record.

        Raises:
            StorageError: nothing of the slice was done.
        """
        if self._snapshots.is_due(state):
            self._snapshots.begin(state, self._last_id)
        self._snapshots.work()

    def finish(self, state: FederationState) -> None:
        """The coordinator ends: leave a short start behind where that takes no long time.

        Raises:
            StorageError: it could not be written.
        """
        self._snapshots.finish(state, self._last_id)

    def pending_orders(self) -> list[tuple[int, OperatorOrder]]:
        """Orders that operators have given and that are not carried out.

        Raises:
            StorageError: one is none.
        """
        rows = self._database.execute(
            "SELECT id, kind, agent FROM operator_order WHERE done = 0 ORDER BY id"
        )
        return [(number, self._order(number, kind, agent)) for number, kind, agent in rows]

    def _order(self, number: int, kind: str, agent: str) -> OperatorOrder:
        try:
            return OperatorOrder(Order(kind), agent)
        except ValueError:
            where = f"{self._database.path}: operator_order row {number}"
            raise StorageError(
                f"{kind!r} is no order", where=where, hint="Restore a backup"
            ) from None

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
        damage: what is wrong with a newer snapshot, which was not needed.
    """

    state: FederationState
    replayed: int
    damage: StorageError | None = None


def load_state(database: Database, *, from_snapshot: bool = True) -> Loaded | None:
    """Read the newest sound snapshot and replay what follows, or replay all there is.

    Raises:
        StorageError: the journal is damaged.
    """
    with database.moment():
        start, damage = newest_start(database) if from_snapshot else (begin_of(database), None)
        state: FederationState | None = None
        replayed = 0
        for step in replay(database, start):
            state = step.state
            replayed += 1
    return None if state is None else Loaded(state, replayed - bool(start), damage)


class ReplayStep(NamedTuple):
    """One row of a journal that is replayed.

    Attributes:
        number: of the row.
        record: in it; None where a snapshot is the beginning.
        state: after it, one state that goes on.
    """

    number: int
    record: Record | None
    state: FederationState


def replay(database: Database, start: int) -> Iterator[ReplayStep]:
    """Replay the journal.

    Args:
        database: in one :meth:`Database.moment`.
        start: 0, or a row of which there is a snapshot.

    Yields:
        What the snapshot has for its row, and then what each record makes of it.

    Raises:
        StorageError: the journal is damaged; names the row.
    """
    state = read_snapshot(database, start) if start else None
    if state is not None:
        yield ReplayStep(start, None, state)
    for number, record in read_numbered(database, start):
        try:
            if state is None:
                state = _founded(record)
            else:
                _refuse_out_of_turn(state, record)
                state.apply(record)
        except StorageError as error:
            raise at_row(database, number, error.what) from None
        except (ArithmeticError, LookupError, TypeError, ValueError, PlantfedError) as error:
            what = f"doesn't fit what is before it ({error})"
            raise at_row(database, number, what) from None
        yield ReplayStep(number, record, state)


def _founded(record: Record) -> FederationState:
    if not isinstance(record, EpochStarted):
        raise StorageError("the journal doesn't begin with an epoch")
    return FederationState.begin(record)


def _refuse_out_of_turn(state: FederationState, record: Record) -> None:
    if not isinstance(record, Applied):
        return
    member = state.members[record.agent]
    turn = member.incarnation, member.last_seq + 1
    if (record.incarnation, record.seq) != turn:
        what = f"update {record.seq} of {record.agent} is not its next one, which is {turn[1]}"
        raise StorageError(what)


def at_row(database: Database, number: int, what: str) -> StorageError:
    """The error of a row of the journal that is not what was written."""
    where = f"{database.path}: journal row {number}"
    return StorageError(what, where=where, hint="Restore a backup")


def read_records(database: Database, after_id: int | None = None) -> Iterator[Record]:
    """The records behind a row number, in order; without one, all that can be replayed."""
    return (record for _, record in read_numbered(database, after_id))


def read_numbered(database: Database, after_id: int | None = None) -> Iterator[tuple[int, Record]]:
    """Row numbers and records, as :func:`read_records`.

    Raises:
        StorageError: a row is not what was written.
    """
    start = begin_of(database) if after_id is None else after_id
    rows = database.stream(
        "SELECT id, crc, kind, agent, fields, content FROM journal WHERE id > ? ORDER BY id",
        (start,),
    )
    for number, crc, *row in rows:
        kind, agent, text, blob = row
        yield number, record_at(database, number, crc, (kind, agent, text, blob))


def record_at(
    database: Database, number: int, crc: int | None, row: record_rows.RecordRow
) -> Record:
    """What a row of the journal says.

    Raises:
        StorageError: it is not what was written.
    """
    kind, agent, *_ = row
    # rows of an older version have none
    if crc is not None and crc != _crc_of(row):
        of_agent = f" of {agent}" if agent else ""
        raise at_row(database, number, f"this {kind}{of_agent} is damaged")
    try:
        return record_rows.from_row(row)
    except StorageError as error:
        raise at_row(database, number, error.what) from None


@contextmanager
def reading_journal(state_dir: Path) -> Iterator[Database]:
    """Read a journal that a coordinator may be writing.

    Raises:
        StorageError: there is none, it cannot be read, or it is from a newer version.
    """
    with reading(state_dir / FILE_NAME, len(MIGRATIONS)) as database:
        yield database


def holds_records(state_dir: Path) -> bool:
    """Whether a federation was founded in this journal.

    Raises:
        StorageError: it cannot be read, or it is from a newer version.
    """
    if not (state_dir / FILE_NAME).exists():
        return False
    with reading_journal(state_dir) as database:
        made = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'journal'")
        return bool(made and database.execute("SELECT 1 FROM journal LIMIT 1"))


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
    with reading_journal(state_dir) as database:
        rows = database.execute("SELECT done FROM operator_order WHERE id = ?", (number,))
    return bool(rows and rows[0][0])


def read_live(database: Database) -> dict[str, dict[str, Any]]:
    """What is seen live, by agent.

    Raises:
        StorageError: a row is not what was written.
    """
    live: dict[str, dict[str, Any]] = {}
    for agent, text in database.execute("SELECT agent, fields FROM live"):
        try:
            live[agent] = dict(json.loads(text))
            days_in(live[agent])
        except (AttributeError, LookupError, TypeError, ValueError, RecursionError):
            raise broken_live(str(database.path), agent) from None
    return live


def broken_live(where: str, agent: str) -> StorageError:
    """The error of a row of what is seen live that is not what was written."""
    what = f"what was seen of {agent!r} can't be read"
    return StorageError(what, where=f"{where}: table live", hint="Restore a backup")


def _last_id(database: Database) -> int:
    return int(database.execute("SELECT coalesce(max(id), 0) FROM journal")[0][0])


def _crc_of(row: record_rows.RecordRow) -> int:
    """CRC-32 of a row, to tell when the disk gives back something else."""
    kind, agent, text, blob = row
    return crc32(blob or b"", crc32(f"{kind} {agent or ''} {text}".encode()))
