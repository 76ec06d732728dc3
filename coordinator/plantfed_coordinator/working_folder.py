"""What a command needs for a while only, and what a killed one has left of it.

Who works holds a lock on it, which ends with the process however that ends: what nobody holds is a
leftover.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import IO

from plantfed_coordinator.journal import FILE_NAME
from plantfed_shared.errors import StorageError

_PREFIX = ".plantfed-working-"
"""Of no folder that somebody else makes: what is left of ours is deleted."""


@contextmanager
def working_folder(parent: Path) -> Iterator[Path]:
    """A new folder that only its owner can enter, and that is gone afterwards.

    Raises:
        OSError: it cannot be made.
    """
    folder, lock = _made(parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def sweep(parent: Path) -> None:
    """Delete the working folders of processes that were killed.

    Raises:
        OSError: one cannot be deleted.
    """
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(FileNotFoundError):  # its owner has ended meanwhile
            lock = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
            try:
                if _is_free(lock):
                    shutil.rmtree(folder)
            finally:
                os.close(lock)


def sweep_state(state_dir: Path) -> None:
    """Delete what a killed ``backup`` or ``restore`` has left in a state folder.

    Args:
        state_dir: of a coordinator; the caller keeps others off it.

    Raises:
        StorageError: it cannot be deleted.
    """
    target = state_dir / FILE_NAME
    try:
        sweep(state_dir)
        for aside in state_dir.glob("before-restore-*.db") if target.exists() else ():
            # a second name of what is still in force, which goes on changing
            if aside.samefile(target):
                aside.unlink()
    except OSError as error:
        what = f"what a killed backup or restore has left cannot be deleted: {error.strerror}"
        raise StorageError(what, where=error.filename or str(state_dir)) from None


@contextmanager
def new_file(path: Path, marks: bytes) -> Iterator[IO[bytes]]:
    """A new file that only its owner can read; what a killed process has left of it is replaced.

    It is locked until this ends, and gone then unless it was moved away.

    Args:
        path: of the file.
        marks: first bytes of what is written into it; a file with others is not touched.

    Raises:
        StorageError: another process is writing it, or it is something else.
        OSError: it cannot be made.
    """
    descriptor = _made_file(path, marks)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            yield file
    finally:
        if _is_at(descriptor, path):
            path.unlink()
        os.close(descriptor)


def _made(parent: Path) -> tuple[Path, int]:
    while True:
        folder = Path(mkdtemp(prefix=_PREFIX, dir=parent))
        with suppress(FileNotFoundError):
            lock = os.open(folder, os.O_RDONLY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if _is_at(lock, folder):
                return folder, lock
            os.close(lock)  # it was swept before it was locked


def _made_file(path: Path, marks: bytes) -> int:
    while True:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            _drop_leftover(path, marks)
            continue
        if _is_free(descriptor) and _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)


def _drop_leftover(path: Path, marks: bytes) -> None:
    with suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        try:
            if not _is_free(descriptor):
                raise StorageError("another process is writing it", where=str(path))
            begin = os.pread(descriptor, len(marks), 0)
            if not marks.startswith(begin):
                raise StorageError("is in the way", where=str(path), hint="Choose another name")
            # never written over: its content may be a whole file that has another name as well
            if _is_at(descriptor, path):
                path.unlink()
        finally:
            os.close(descriptor)


def _is_free(descriptor: int) -> bool:
    """Lock it, unless somebody else holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False
