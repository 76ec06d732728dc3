"""One folder, one broker: whoever serves a folder holds a lock in it and says where it serves."""

import fcntl
import os
from pathlib import Path

from plantfed_broker.files import make_folder, read_text
from plantfed_shared.errors import BrokerError, StorageError

FILE = "data/serving"


class Serving:
    """The right to serve a folder; it ends with the process at the latest.

    Args:
        folder: a rendered folder.
        address: where it will be served.

    Raises:
        BrokerError: another process serves it; says which and where.
        StorageError: the folder cannot be written.
    """

    def __init__(self, folder: Path, address: str) -> None:
        path = folder / FILE
        make_folder(path.parent)
        try:
            # not emptied: another may hold it
            self._file = path.open("a+", encoding="utf-8")
        except OSError as error:
            raise StorageError(f"cannot be written: {error.strerror}", where=str(path)) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise _served_already(folder, path) from None
        self._file.truncate(0)
        self._file.write(f"{os.getpid()} {address}\n")
        self._file.flush()

    def end(self) -> None:
        """Let another serve the folder."""
        self._file.close()


def _served_already(folder: Path, path: Path) -> BrokerError:
    process, _, address = read_text(path).strip().partition(" ")
    # who has just begun has not written yet
    by, at = (f" by process {process}", f" at {address}") if address else ("", "")
    return BrokerError(
        f"plantfed-broker serves this folder already{at}{by}",
        where=str(folder),
        hint="Use it, or end it first",
    )
