"""A disk that forgets at a power cut what was not synced, under SQLite itself (apsw's VFS).

What was written since the last sync of a file is there after the cut, or not, or up to one of its
sectors, each write for itself.  The product's own store runs on it: only the connection is another.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import apsw
import pytest

from plantfed_shared import store

PRAGMAS = store.PRAGMAS
"""As the product has them, whatever a test puts in their place."""
CHECKPOINT_OFTEN = "PRAGMA wal_autocheckpoint = 20"
"""So that a cut comes in the middle of one now and then."""
SECTOR = 512
_numbers = count()


class _Platter:
    """What of one file is on the disk for good, and what has been written since."""

    def __init__(self) -> None:
        self.synced = bytearray()
        self.pending: list[tuple[int, bytes | None]] = []

    def sync(self) -> None:
        for offset, data in self.pending:
            _put(self.synced, offset, data)
        self.pending.clear()

    def after_cut(self, rng: random.Random) -> bytes:
        content, kept = bytearray(self.synced), rng.random()
        for offset, data in self.pending:
            if rng.random() < kept:
                _put(content, offset, data)
            elif data is not None and rng.random() < 0.2:
                _put(content, offset, data[: SECTOR * rng.randrange(1 + len(data) // SECTOR)])
        return bytes(content)


def _put(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
        return
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data


class ForgetfulDisk(apsw.VFS):
    """A disk of which the power is cut once.

    Args:
        rng: decides what the cut leaves.
        cut_at: the cut comes before this write, truncation or sync.
        on_cut: told at that moment.

    Attributes:
        image: by file name, what is there after the cut; None before.
    """

    def __init__(self, rng: random.Random, cut_at: int, on_cut: Callable[[], None]) -> None:
        self.name = f"forgetful-{next(_numbers)}"
        self.image: dict[str, bytes] | None = None
        self.platters: dict[str, _Platter] = {}
        self._rng = rng
        self._left = cut_at
        self._on_cut = on_cut
        super().__init__(self.name, "")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        path = Path(name if isinstance(name, str) else name.filename())
        return _File(name, flags, self, self.platters.setdefault(path.name, _Platter()))

    def xDelete(self, filename: str, sync_directory: bool) -> None:
        super().xDelete(filename, sync_directory)
        self.platters.pop(Path(filename).name, None)

    def count(self) -> None:
        """Something is about to be done."""
        self._left -= 1
        if self._left == 0:
            self.image = {name: p.after_cut(self._rng) for name, p in self.platters.items()}
            self._on_cut()


class _File(apsw.VFSFile):
    def __init__(self, name: Any, flags: list[int], disk: ForgetfulDisk, on: _Platter) -> None:
        self._disk = disk
        self._platter = on
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.count()
        self._platter.pending.append((offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:
        self._disk.count()
        self._platter.pending.append((newsize, None))
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:
        self._disk.count()
        self._platter.sync()  # the real disk is not asked: it takes long


class _Connection:
    """What the store uses of a connection of ``sqlite3``, on a forgetful disk."""

    def __init__(self, path: Path, disk: ForgetfulDisk, pragmas: Iterable[str]) -> None:
        self._connection = apsw.Connection(str(path), vfs=disk.name)
        # else SQLite wants memory that processes share, which apsw's files have not
        for pragma in ("PRAGMA locking_mode = EXCLUSIVE", *pragmas, CHECKPOINT_OFTEN):
            self._connection.execute(pragma)

    def execute(self, sql: str, values: Sequence[Any] = ()) -> Any:
        return self._connection.execute(sql, tuple(values))

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> Any:
        return self._connection.executemany(sql, [tuple(row) for row in rows])

    def executescript(self, sql: str) -> Any:
        return self._connection.execute(sql)

    @property
    def in_transaction(self) -> bool:
        return bool(self._connection.in_transaction)

    def close(self) -> None:
        self._connection.close()


@contextmanager
def forgetful(disk: ForgetfulDisk, synchronous: str) -> Iterator[None]:
    """The store opens its files on this disk; everything else about them is the product's.

    Args:
        disk: to open them on.
        synchronous: "FULL" as the product has it, or what a control tries instead.
    """
    pragmas = [p.replace("synchronous = FULL", f"synchronous = {synchronous}") for p in PRAGMAS]
    assert any(f"synchronous = {synchronous}" in pragma for pragma in pragmas)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            store, "_connect", lambda path, *, read_only: _Connection(path, disk, pragmas)
        )
        yield
