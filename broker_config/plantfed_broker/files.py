"""Writing files that others read meanwhile: whole or not at all, secrets never world-readable."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from plantfed_shared.errors import StorageError

PRIVATE = 0o600
PUBLIC = 0o644


def write_file(path: Path, content: str | bytes, mode: int) -> None:
    """Write a file atomically.

    A file that is there already keeps its mode and owner: a plant gives the broker's own user
    access to its files by hand, and the next ``add-agent`` must not take that away.

    Raises:
        StorageError: the folder cannot be written.
    """
    encoded = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(encoded)
            _take_over(file.fileno(), path, mode)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StorageError(f"cannot be written: {error.strerror}", where=str(path)) from error


def _take_over(descriptor: int, path: Path, mode: int) -> None:
    try:
        before = path.stat()
    except FileNotFoundError:
        os.fchmod(descriptor, mode)
        return
    with suppress(PermissionError):
        os.fchown(descriptor, before.st_uid, before.st_gid)
    os.fchmod(descriptor, before.st_mode & 0o777)


def read_text(path: Path) -> str:
    """Read a text file.

    Raises:
        StorageError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"cannot be read: {error}", where=str(path)) from error


def read_lines(path: Path) -> list[str]:
    """Lines of a text file, none if it does not exist.

    Raises:
        StorageError: it cannot be read.
    """
    return read_text(path).splitlines() if path.exists() else []


def make_folder(path: Path) -> None:
    """Make a folder and those above it.

    Raises:
        StorageError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot be written: {error.strerror}", where=str(path)) from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder alone, so that two ``add-agent`` at once do not lose an agent.

    Raises:
        StorageError: the folder cannot be written.
    """
    try:
        lock = (folder / ".lock").open("ab")
    except OSError as error:
        raise StorageError(f"cannot be written: {error.strerror}", where=str(folder)) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
