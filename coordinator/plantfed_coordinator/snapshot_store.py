"""Snapshots on disk, written a slice at a time, and how far back the journal reaches.

A snapshot is the state after one row of the journal.  Of a part that has not changed since an
earlier snapshot the earlier row counts, so a snapshot of a thousand members costs what has changed.
It exists once its head is written, which comes last; what a crash leaves of an unfinished one is
dropped at the next start.

The journal is kept whole behind ``begin``: the founding of the federation, or a snapshot.  Once it
holds twice as many bytes as it has to, the first half of it goes: its updates, and what was served
and drawn.  Releases and changes of members and epochs stay for the reader of the history, up to
``HISTORY_KEPT`` of them.
"""

import json
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any
from zlib import crc32

from plantfed_coordinator import snapshot
from plantfed_coordinator.records import Applied, EpochStarted, Joined, Left, Record
from plantfed_coordinator.snapshot import Part
from plantfed_coordinator.snapshot_reader import (
    begin_of,
    bytes_between,
    snapshot_ids,
    sound_heads,
)
from plantfed_coordinator.state import FederationState
from plantfed_shared.store import Database

SNAPSHOT_EVERY = 500
"""Records between two snapshots, at least."""
REPLAYED_AT_MOST = 100_000_000
"""Numbers that a start decodes behind its snapshot: seconds."""
SMALL_BYTES = 2**20
"""A snapshot that writes no more is always worth it."""
SLICE_BYTES = 4 * 2**20
"""Written or given free at once, so that messages are not kept waiting."""
AT_ONCE_BYTES = 32 * 2**20
"""Of a snapshot that may be written whole where the coordinator ends."""
DROPPED_AT_ONCE = 256
"""Rows of the journal."""
HISTORY_KEPT = 100_000
"""Rows of a hundred bytes that the journal keeps for the reader of the history alone."""
SCHEMA = """
    DROP TABLE snapshot;
    CREATE TABLE snapshot (journal_id INTEGER PRIMARY KEY, head TEXT NOT NULL) STRICT;
    CREATE TABLE snapshot_part (
        name TEXT NOT NULL, journal_id INTEGER NOT NULL,
        content BLOB NOT NULL, crc INTEGER NOT NULL,
        PRIMARY KEY (name, journal_id)
    ) STRICT;
    CREATE TABLE journal_begin (
        id INTEGER PRIMARY KEY CHECK (id = 1), journal_id INTEGER NOT NULL
    ) STRICT;
    INSERT INTO journal_begin VALUES (1, 0);
"""
"""Of a journal that is whole: the snapshots of an older version are not needed."""
HEAD_CRC = "ALTER TABLE snapshot ADD COLUMN crc INTEGER;"
"""Heads of an older version have none."""

_REPLAYED_ONLY = "('update', 'serve', 'round')"


class SnapshotStore:
    """The snapshots of one running coordinator.

    Args:
        database: with the tables of ``SCHEMA`` and the journal.
        keep_bytes: of the journal that can be replayed, at least; at most about twice as many stay.

    Raises:
        StorageError: it can't be read.
    """

    def __init__(self, database: Database, keep_bytes: int) -> None:
        self._database = database
        self._keep_bytes = keep_bytes
        self._waiting: deque[Part] = deque()
        self._head: tuple[int, dict[str, Any]] | None = None
        self._garbage: deque[tuple[str, int, int]] = deque()
        self._dropped_to = 0
        self._dropping = True
        self._read_back()

    @property
    def has_work(self) -> bool:
        """Whether :meth:`work` would do something."""
        return self._head is not None or bool(self._garbage) or self._dropping

    def note(self, records: Iterable[Record], n_bytes: int) -> None:
        """Take note of what was written to the journal.

        Args:
            records: of it.
            n_bytes: of their rows.
        """
        for record in records:
            self._records += 1
            if isinstance(record, EpochStarted):
                self._all_changed = True
            elif isinstance(record, Applied | Joined | Left):
                self._changed.add(snapshot.member_part(record.agent))
        self._bytes += n_bytes

    def is_due(self, state: FederationState) -> bool:
        """Whether a new snapshot is worth what it costs.

        The more it would write, the more of the journal it has to make superfluous, up to what a
        start may take.
        """
        if self._head is not None or self._records < SNAPSHOT_EVERY:
            return False
        vector = state.model.nbytes
        parts = len(self._changed)
        if self._all_changed:
            parts = len(state.members) + len(state.versions) + len(state.remainders)
        writes = vector * (len(snapshot.ALWAYS_NEW) + parts)
        decodes = self._records * state.model.size
        return writes <= max(SMALL_BYTES, 2 * self._bytes) or decodes >= REPLAYED_AT_MOST

    def begin(self, state: FederationState, journal_id: int) -> None:
        """Take the state after this row for the next snapshot; :meth:`work` writes it.

        Args:
            state: as it is; may go on changing.
            journal_id: of its last record.
        """
        head = snapshot.head_of(state)
        self._waiting = deque(p for p in snapshot.parts_of(state) if self._is_new(p.name))
        self._head = journal_id, head
        self._since_nothing()

    def work(self) -> None:
        """Write or drop one slice.

        Raises:
            StorageError: nothing of it was done.
        """
        if self._head is not None:
            self._write_slice(*self._head)
        elif self._garbage:
            self._drop_parts()
        elif self._dropping:
            self._drop_records()

    def finish(self, state: FederationState, journal_id: int) -> None:
        """The coordinator ends: write a snapshot, unless that takes long."""
        if self._head is None:
            if not self._records:
                return
            self.begin(state, journal_id)
        if sum(part.size for part in self._waiting) > AT_ONCE_BYTES:
            return
        while self._head is not None:
            self.work()

    # ------------------------------------------------------------------ writing

    def _is_new(self, name: str) -> bool:
        always = name in snapshot.ALWAYS_NEW
        changed = self._all_changed or name in self._changed
        return always or changed or name not in self._names

    def _write_slice(self, journal_id: int, head: dict[str, Any]) -> None:
        rows: list[tuple[str, int, bytes, int]] = []
        size = 0
        for part in self._waiting:
            content = part.encoded()
            rows.append((part.name, journal_id, content, crc32(content)))
            size += len(content)
            if size >= SLICE_BYTES:
                break
        whole = len(rows) == len(self._waiting)
        with self._database.transaction() as database:
            database.execute_many("INSERT OR REPLACE INTO snapshot_part VALUES (?, ?, ?, ?)", rows)
            if whole:
                self._enter(journal_id, head)
        for _ in rows:
            self._waiting.popleft()
        if whole:
            self._head, self._names = None, snapshot.names_in(head)
            self._garbage = deque(_superfluous(self._database))
            self._dropping = True

    def _enter(self, journal_id: int, head: dict[str, Any]) -> None:
        """Make it the newest, and let those go that no replay will begin at."""
        database = self._database
        begin = begin_of(database)
        marks = [i for i in sound_heads(database) if i > begin]
        if marks and self._between(([begin, *marks])[-2], marks[-1]) < self._keep_bytes:
            marks.pop()
        enough = [i for i in marks if self._between(i, journal_id) >= self._keep_bytes]
        begin = enough[-1] if enough else begin
        kept = {begin, journal_id, *(i for i in marks if i > begin)}
        for old in snapshot_ids(database):
            if old not in kept:
                database.execute("DELETE FROM snapshot WHERE journal_id = ?", (old,))
        text = json.dumps(head)
        database.execute(
            "INSERT OR REPLACE INTO snapshot (journal_id, head, crc) VALUES (?, ?, ?)",
            (journal_id, text, crc32(text.encode())),
        )
        database.execute("UPDATE journal_begin SET journal_id = ?", (begin,))

    def _between(self, after_id: int, to_id: int) -> int:
        return bytes_between(self._database, after_id, to_id)

    # ------------------------------------------------------------------ dropping

    def _drop_parts(self) -> None:
        size, keys = 0, []
        for name, journal_id, length in self._garbage:
            keys.append((name, journal_id))
            size += length
            if size >= SLICE_BYTES:
                break
        with self._database.transaction() as database:
            database.execute_many(
                "DELETE FROM snapshot_part WHERE name = ? AND journal_id = ?", keys
            )
        for _ in keys:
            self._garbage.popleft()

    def _drop_records(self) -> None:
        begin = begin_of(self._database)
        rows = self._database.execute(
            f"SELECT id FROM journal WHERE id > ? AND id <= ? AND kind IN {_REPLAYED_ONLY}"  # noqa: S608
            " ORDER BY id LIMIT ?",
            (self._dropped_to, begin, DROPPED_AT_ONCE),
        )
        if not rows:
            self._dropping = False
            rows = self._database.execute(
                "SELECT id FROM journal WHERE id <= ? ORDER BY id DESC LIMIT -1 OFFSET ?",
                (begin, HISTORY_KEPT),
            )
        if rows:
            with self._database.transaction() as database:
                database.execute_many("DELETE FROM journal WHERE id = ?", rows)
        self._dropped_to = max([self._dropped_to, *(number for (number,) in rows)])

    # ------------------------------------------------------------------ what is there at the start

    def _since_nothing(self) -> None:
        self._records, self._bytes = 0, 0
        self._changed: set[str] = set()
        self._all_changed = False

    def _read_back(self) -> None:
        self._since_nothing()
        heads = sound_heads(self._database)
        newest = max(heads, default=0)
        self._names = snapshot.names_in(heads[newest]) if heads else set()
        self._garbage = deque(_superfluous(self._database))
        self._bytes = self._between(newest, 2**62)
        kinds = self._database.execute(
            "SELECT kind, agent, count(*) FROM journal WHERE id > ? GROUP BY kind, agent", (newest,)
        )
        for kind, agent, count in kinds:
            self._records += count
            self._all_changed |= kind == "epoch"
            if kind in ("update", "join", "leave"):
                self._changed.add(snapshot.member_part(agent))


def _superfluous(database: Database) -> Iterator[tuple[str, int, int]]:
    """Parts that belong to no snapshot: name, row, bytes."""
    by_name: dict[str, list[tuple[int, int]]] = {}
    rows = database.execute(
        "SELECT name, journal_id, length(content) FROM snapshot_part ORDER BY journal_id"
    )
    for name, journal_id, length in rows:
        by_name.setdefault(name, []).append((journal_id, length))
    wanted: set[tuple[str, int]] = set()
    for kept, head in sound_heads(database).items():
        for name in snapshot.names_in(head):
            older = [i for i, _ in by_name.get(name, []) if i <= kept]
            wanted |= {(name, older[-1])} if older else set()
    for name, found in by_name.items():
        for journal_id, length in found:
            if (name, journal_id) not in wanted:
                yield name, journal_id, length
