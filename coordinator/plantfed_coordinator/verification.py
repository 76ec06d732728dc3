"""Whether what is stored is what the journal gives: all of it replayed, and compared."""

from dataclasses import dataclass
from pathlib import Path

from plantfed_coordinator import snapshot
from plantfed_coordinator.journal import reading_journal, replay
from plantfed_coordinator.snapshot_reader import begin_of, read_head, read_parts, snapshot_ids
from plantfed_coordinator.state import FederationState
from plantfed_coordinator.used_by import Used, UsedBy
from plantfed_shared.errors import StorageError
from plantfed_shared.lattice import checksum
from plantfed_shared.store import Database


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay found.

    Attributes:
        federation: its id.
        begin: the row behind which it began, 0 for the founding.
        end: the last row.
        records: replayed.
        releases: made by them, each with the checksum that was announced.
        snapshots: compared with the state that the journal gives there, number by number.
        k: of the newest release.
        checksum: of its integers.
        used: what one member may have had in use, in order, where that was asked for.
        unknown: see :class:`plantfed_coordinator.used_by.UsedBy`.
    """

    federation: str
    begin: int
    end: int
    records: int
    releases: int
    snapshots: int
    k: int
    checksum: int
    used: tuple[Used, ...] = ()
    unknown: int = 0


def replay_journal(state_dir: Path, *, verify: bool, used_by: str | None = None) -> Replayed:
    """Compute a federation anew from the oldest snapshot and the journal; it may be running.

    Args:
        state_dir: of its coordinator.
        verify: compare every later snapshot, and with them the state a start would go on from.
        used_by: a member; what it had in use is computed, too.

    Raises:
        ConfigError: ``used_by`` is nobody that this part of the journal knows.
        StorageError: there is none, or what is stored is not what the journal gives; names the
            first release or row that differs.
    """
    with reading_journal(state_dir) as database, database.moment():
        begin = begin_of(database)
        compared = [i for i in snapshot_ids(database) if i > begin] if verify else []
        state, number, records = None, begin, 0
        releases_before: int | None = None
        used: UsedBy | None = None
        for number, record, state in replay(database, begin):
            records += number != begin
            if used_by is not None and used is None:
                used = UsedBy(used_by, state if record is None else None)
            if used is not None and record is not None:
                used.take(record, state)
            if releases_before is None:
                releases_before = state.releases
            if number in compared:
                _compare(database, number, state)
        if state is None or releases_before is None:
            raise StorageError("the journal is empty", where=str(database.path))
    return Replayed(
        federation=state.terms.definition.federation,
        begin=begin,
        end=number,
        records=records,
        releases=state.releases - releases_before,
        snapshots=len(compared),
        k=state.k,
        checksum=checksum(state.model),
        used=() if used is None else used.found(state),
        unknown=0 if used is None else used.unknown,
    )


def _compare(database: Database, number: int, state: FederationState) -> None:
    head, ours = read_head(database, number), snapshot.head_of(state)
    if head != ours:
        name = next(n for n in [*ours, *head] if head.get(n) != ours.get(n))
        raise _differs(database, number, state, name)
    parts = {part.name: part for part in snapshot.parts_of(state)}
    for name, content in read_parts(database, head, number):
        if content != parts[name].encoded():
            raise _differs(database, number, state, name)


def _differs(database: Database, number: int, state: FederationState, name: str) -> StorageError:
    return StorageError(
        f"of the snapshot (release {state.k}) {name!r} is not what the journal gives",
        where=f"{database.path}: journal row {number}",
        hint="Restore a backup",
    )
