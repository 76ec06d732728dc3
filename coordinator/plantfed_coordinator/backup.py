"""Backups of a coordinator's state: taken while it runs, sealed; restored as a new epoch.

A restore goes back in time, and agents may be ahead of it.  So it begins a new epoch, later than
the one in the backup: agents accept an older model under it, say hello, and get the coordinator's
dual.  What was applied after the backup is lost; where the state before the restore is still there,
it says which updates these are, and the coordinator's log says it of every agent that comes back.
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from plantfed_coordinator.founding import epoch_after_restore
from plantfed_coordinator.journal import (
    FILE_NAME,
    Journal,
    load_state,
    read_numbered,
    reading_journal,
)
from plantfed_coordinator.records import Applied
from plantfed_coordinator.sealed_file import MAGIC, Secret, seal, unseal
from plantfed_coordinator.snapshot_reader import begin_of, read_head, read_parts, snapshot_ids
from plantfed_coordinator.state import FederationState
from plantfed_coordinator.verification import replay_journal
from plantfed_coordinator.working_folder import new_file, sweep, sweep_state, working_folder
from plantfed_shared.errors import StorageError
from plantfed_shared.store import amending, locked

PROGRAM = "plantfed-coordinator"
_BESIDE = ("", "-wal", "-shm")
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


@dataclass(frozen=True, slots=True)
class BackedUp:
    """What is in a backup.

    Attributes:
        federation: its id.
        k: newest release.
        updates: applied in all epochs.
        unix_time: when it was taken.
    """

    federation: str
    k: int
    updates: int
    unix_time: float


@dataclass(frozen=True, slots=True)
class LostUpdates:
    """Updates of one agent that a restore has lost, of one incarnation.

    Attributes:
        agent: whose.
        first: sequence number.
        last: the same of the last one; none is missing between.
    """

    agent: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did.

    Attributes:
        backup: what was restored.
        epoch: counter of the epoch that begins.
        lost: by agent, or None where the state before is not there any more to tell.
        moved_to: where the state before is now.
    """

    backup: BackedUp
    epoch: int
    lost: tuple[LostUpdates, ...] | None
    moved_to: Path | None


def back_up(state_dir: Path, file: Path, secret: Secret, unix_time: float) -> BackedUp:
    """Write a sealed copy of a coordinator's state as it is now; it may be running.

    Args:
        state_dir: of the coordinator.
        file: to write; there must be none.
        secret: to seal it with.
        unix_time: now, seconds.

    Raises:
        StorageError: there is no state, it is damaged (names the row or part), there is such a
            file already, or it can't be written.
    """
    _refuse_existing(file)
    where = str(_existing(state_dir) / FILE_NAME)
    with _explained(file):
        sweep(state_dir)
        with working_folder(state_dir) as folder:
            copy = folder / FILE_NAME
            with reading_journal(state_dir) as database:
                database.copy_to(copy)
            about = _about(_whole(folder, where), unix_time)
            part = file.with_name(file.name + ".part")
            with new_file(part, MAGIC) as target, copy.open("rb") as source:
                seal(source, target, secret, {"unix_time": unix_time})
                target.flush()
                os.fsync(target.fileno())
                _named(part, file)
            _sync_folder(file.parent)
    return about


def _whole(folder: Path, where: str) -> FederationState:
    """The state of a copy of which everything can be read: also what only a restore needs."""
    try:
        with reading_journal(folder) as database:
            for _ in read_numbered(database, 0):
                pass
            for journal_id in snapshot_ids(database):
                for _ in read_parts(database, read_head(database, journal_id), journal_id):
                    pass
            loaded = load_state(database)
    except StorageError as error:
        # the copy is soon gone; what is wrong is wrong in the state
        what = error.where.replace(str(folder / FILE_NAME), where)
        raise StorageError(error.what, where=what, hint=error.hint) from None
    if loaded is None:
        raise StorageError("the journal is empty", where=where)
    return loaded.state


def _named(part: Path, file: Path) -> None:
    """Give a file that is complete its name, never over another."""
    try:
        file.hardlink_to(part)
    except FileExistsError:
        _refuse_existing(file)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        try:
            _created(file).close()
        except FileExistsError:
            _refuse_existing(file)
        part.replace(file)  # over the empty one that is ours


def restore(
    state_dir: Path, file: Path, secret: Secret, new_bits: Callable[[], int], *, replace: bool
) -> Restored:
    """Put the state of a backup into a folder, as the begin of a new epoch.

    Args:
        state_dir: of the coordinator, which must not run.
        file: a backup.
        secret: it was sealed with.
        new_bits: draws 64 random bits.
        replace: a state that is there already is moved aside; else it is an error.

    Raises:
        ConfigError: the secret is another one.
        StorageError: it can't be restored; the state is as it was before.
    """
    target = state_dir / FILE_NAME
    with _explained(state_dir), locked(target, PROGRAM):
        sweep_state(state_dir)
        if target.exists() and not replace:
            hint = "With --replace it is moved aside"
            raise StorageError("there is a state already", where=str(target), hint=hint)
        with working_folder(state_dir) as folder:
            with file.open("rb") as source, _created(folder / FILE_NAME) as out:
                unix_time = float(unseal(source, out, secret, str(file))["unix_time"])
            replay_journal(folder, verify=True)
            with reading_journal(folder) as database:
                end = database.execute("SELECT id, crc FROM journal ORDER BY id DESC LIMIT 1")[0]
            lost = _lost(target, *end) if target.exists() else None
            backup, epoch = _begin_epoch(folder, new_bits, unix_time)
            moved_to = _keep_aside(target, folder)
            _put_in_place(folder / FILE_NAME, target)
    return Restored(backup, epoch, lost, moved_to)


def _begin_epoch(
    folder: Path, new_bits: Callable[[], int], unix_time: float
) -> tuple[BackedUp, int]:
    journal = Journal(folder, lambda: unix_time)
    try:
        state = journal.load()
        if state is None:
            raise StorageError("the journal is empty", where=str(folder / FILE_NAME))
        about = _about(state, unix_time)
        begins = epoch_after_restore(state, new_bits)
        journal.append([begins], {})
    finally:
        journal.close()  # the last to close it leaves one file
    with (folder / FILE_NAME).open("rb") as file:
        os.fsync(file.fileno())
    return about, begins.epoch.counter


def _lost(before: Path, end: int, crc: int | None) -> tuple[LostUpdates, ...] | None:
    """What the state before has behind the backup's last row; None if that is not its past."""
    try:
        with reading_journal(before.parent) as database, database.moment():
            same = database.execute("SELECT crc FROM journal WHERE id = ?", (end,))
            if same != [(crc,)] or begin_of(database) > end:
                return None
            found: dict[tuple[str, int], LostUpdates] = {}
            for _, record in read_numbered(database, end):
                if isinstance(record, Applied):
                    key = record.agent, record.incarnation
                    first = found[key].first if key in found else record.seq
                    found[key] = LostUpdates(record.agent, first, record.seq)
    except StorageError:
        return None  # it is damaged: that is why somebody restores
    return tuple(found[key] for key in sorted(found))


def _keep_aside(target: Path, folder: Path) -> Path | None:
    """Keep the state before under another name, and, if it can be read, in its place as well.

    Args:
        target: its file, which may be missing.
        folder: to work in.

    Returns:
        Its other name, if there was a file.
    """
    number = 1
    while (aside := target.with_name(f"before-restore-{number}.db")).exists():
        number += 1
    was_there = target.exists()
    if not was_there or not _folded(target):
        # the file itself first: without it nothing starts on what is left; a log that is left
        # alone would be taken for one of the new file
        for suffix in _BESIDE:
            beside = target.with_name(target.name + suffix)
            if beside.exists():
                beside.rename(aside.with_name(aside.name + suffix))
                _sync_folder(target.parent)
        return aside if was_there else None
    try:
        aside.hardlink_to(target)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        copy = folder / aside.name
        shutil.copy2(target, copy)
        with copy.open("rb") as file:
            os.fsync(file.fileno())
        copy.rename(aside)
    return aside


def _folded(target: Path) -> bool:
    """Bring what is in the write-ahead log into the file, which is all there is then."""
    try:
        with amending(target) as database:
            ((busy, _, _),) = database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except StorageError:
        return False
    for suffix in _BESIDE[1:] if not busy else ():
        target.with_name(target.name + suffix).unlink(missing_ok=True)
    return not busy


def _put_in_place(new: Path, target: Path) -> None:
    """In one step: before it the old state is there, and after it the new one."""
    new.replace(target)
    _sync_folder(target.parent)


def _about(state: FederationState, unix_time: float) -> BackedUp:
    return BackedUp(state.terms.definition.federation, state.k, state.updates, unix_time)


def _existing(state_dir: Path) -> Path:
    if not (state_dir / FILE_NAME).exists():
        where = str(state_dir / FILE_NAME)
        raise StorageError("there is no state yet", where=where, hint="Run the program first")
    return state_dir


def _refuse_existing(file: Path) -> None:
    if file.exists():
        raise StorageError("is there already", where=str(file), hint="Choose another name")


def _created(path: Path) -> IO[bytes]:
    """A new file that only its owner can read."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _explained(where: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = error.strerror or str(error)
        raise StorageError(f"cannot be used: {what}", where=error.filename or str(where)) from None
