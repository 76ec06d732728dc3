"""Snapshots as they are on disk: which there are, and what is in them, checked as it is read."""

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from zlib import crc32

from plantfed_coordinator import snapshot
from plantfed_coordinator.state import FederationState
from plantfed_shared.errors import StorageError
from plantfed_shared.store import Database

ROW_BYTES = 40
"""Of a row of the journal besides its texts and bytes, about."""


def snapshot_ids(database: Database) -> list[int]:
    """The rows of the journal of which there is a snapshot, rising."""
    return [i for (i,) in database.execute("SELECT journal_id FROM snapshot ORDER BY journal_id")]


def begin_of(database: Database) -> int:
    """The row behind which the journal is whole: 0, or one of which there is a snapshot.

    Raises:
        StorageError: nothing says so.
    """
    rows = database.execute("SELECT journal_id FROM journal_begin")
    if not rows or rows[0][0] is None:
        what = "doesn't say where the journal begins: the row of journal_begin is missing"
        raise StorageError(what, where=str(database.path), hint="Restore a backup")
    return int(rows[0][0])


def bytes_between(database: Database, after_id: int, to_id: int) -> int:
    """Bytes of the journal's rows behind one and up to another, about."""
    rows = database.execute(
        "SELECT total(length(fields) + coalesce(length(content), 0) + ?) FROM journal"
        " WHERE id > ? AND id <= ?",
        (ROW_BYTES, after_id, to_id),
    )
    return int(rows[0][0])


def read_head(database: Database, journal_id: int) -> dict[str, Any]:
    """The head of a snapshot that is there.

    Raises:
        StorageError: there is none, or it is damaged.
    """
    # all columns: a reader may come before the coordinator has brought an older file up to date
    rows = database.execute("SELECT * FROM snapshot WHERE journal_id = ?", (journal_id,))
    if not rows:
        raise _damaged(database, journal_id, "no head")
    _, text, *crc = rows[0]
    if crc not in ([], [None], [crc32(text.encode())]):
        raise _damaged(database, journal_id, "a damaged head")
    try:
        head: dict[str, Any] = json.loads(text)
        snapshot.names_in(head)
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise _damaged(database, journal_id, f"no head that can be read: {error!r}") from None
    return head


def sound_heads(database: Database) -> dict[int, dict[str, Any]]:
    """The heads that can be read, by their rows of the journal, rising."""
    heads: dict[int, dict[str, Any]] = {}
    for journal_id in snapshot_ids(database):
        with suppress(StorageError):
            heads[journal_id] = read_head(database, journal_id)
    return heads


def newest_start(database: Database) -> tuple[int, StorageError | None]:
    """Where a start goes on from: the newest snapshot with a sound head, or the founding.

    Returns:
        A row of the journal, 0 for the founding, and what is wrong with a newer snapshot.

    Raises:
        StorageError: no head is sound, and the founding is not there any more.
    """
    begin = begin_of(database)
    damage: StorageError | None = None
    for start in reversed(snapshot_ids(database)):
        try:
            read_head(database, start)
        except StorageError as error:
            damage = damage or error
        else:
            return start, damage
    if begin:
        raise damage or _damaged(database, begin, "no head")
    return begin, damage


def read_parts(
    database: Database, head: dict[str, Any], journal_id: int
) -> Iterator[tuple[str, bytes]]:
    """The parts of a snapshot, one at a time.

    Raises:
        StorageError: one is missing, or they can't be read.
    """
    missing = snapshot.names_in(head)
    rows = database.execute(
        "SELECT name, max(journal_id) FROM snapshot_part WHERE journal_id <= ? GROUP BY name",
        (journal_id,),
    )
    for name, newest in rows:
        if name in missing:
            missing.remove(name)
            found = database.execute(
                "SELECT content, crc FROM snapshot_part WHERE name = ? AND journal_id = ?",
                (name, newest),
            )
            if not found:  # as a damaged index has it
                raise _damaged(database, journal_id, f"no {name!r}")
            content, crc = found[0]
            if crc32(content) != crc:
                raise _damaged(database, journal_id, f"damaged bytes in {name!r}")
            yield name, content
    if missing:
        raise _damaged(database, journal_id, f"no {min(missing)!r}")


def read_snapshot(database: Database, journal_id: int) -> FederationState:
    """The state after a row of the journal of which there is a snapshot.

    Raises:
        StorageError: it is damaged.
    """
    head = read_head(database, journal_id)
    try:
        return snapshot.restored(head, read_parts(database, head, journal_id))
    except StorageError as error:
        if error.where:
            raise
        where = f"{database.path}: journal row {journal_id}"
        raise StorageError(error.what, where=where, hint=error.hint) from None


def _damaged(database: Database, journal_id: int, what: str) -> StorageError:
    return StorageError(
        f"the snapshot at journal row {journal_id} has {what}",
        where=str(database.path),
        hint="Restore a backup",
    )
