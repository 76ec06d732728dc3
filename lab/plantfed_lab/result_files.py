"""Files that a command leaves behind: whole or not at all, and never at the cost of an older one.

Another run may be writing the same file: nothing here removes a file that it has not made itself.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from plantfed_shared.errors import StorageError


def write_text(path: Path, text: str) -> None:
    """Write a file, or put this one in the place of an older one.

    Raises:
        StorageError: it cannot be written; an older one is as it was.
    """
    with _naming(path):
        # where a link points to, so that it stays one
        target = Path(os.path.realpath(path))
        if target.exists() and not target.is_file():
            target.write_text(text, encoding="utf-8")  # a device can't be replaced
        else:
            _replace(target, text)


def refuse_unwritable(path: Path) -> None:
    """Find out whether :func:`write_text` will be able to, without a trace of it.

    Raises:
        StorageError: it won't.
    """
    with _naming(path):
        target = Path(os.path.realpath(path))
        if target.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        if target.exists() and not os.access(target, os.W_OK):
            raise PermissionError(None, "it is write-protected")
        if target.exists() and not target.is_file():
            return
        probe = _beside(target)
        probe.open("x", encoding="utf-8").close()
        probe.unlink()


@contextmanager
def folders(wanted: Sequence[Path]) -> Iterator[None]:
    """Make folders; those that were made and are empty at the end are removed again.

    Raises:
        StorageError: one can't be made.
    """
    # not Path.exists, which raises for names that are too long
    missing = {p for folder in wanted for p in (folder, *folder.parents) if not os.path.exists(p)}  # noqa: PTH110
    try:
        for folder in wanted:
            make_folder(folder)
        yield
    finally:
        for folder in sorted(missing, key=lambda p: len(p.parts), reverse=True):
            with suppress(OSError):  # it is not empty, or already gone
                folder.rmdir()


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are missing.

    Raises:
        StorageError: it can't be made.
    """
    with _naming(path):
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(None, "it is no folder")
        path.mkdir(parents=True, exist_ok=True)


def _replace(target: Path, text: str) -> None:
    temporary = _beside(target)
    try:
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            # or a power failure could leave the new name with nothing in it
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, temporary)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _beside(target: Path) -> Path:
    # not made from the target's name, which may be as long as names can be
    return target.parent / f".plantfed-{token_hex(8)}.tmp"


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot be written: {error.strerror}", where=str(path)) from error
