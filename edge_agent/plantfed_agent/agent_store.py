"""The agent's state on disk: one row per field, changed fields in one transaction."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from time import time
from typing import Any

import numpy as np

from plantfed_agent import guard_frames
from plantfed_agent.events import HalfFetched
from plantfed_agent.model_cache import ModelCache
from plantfed_agent.need import Need
from plantfed_agent.state import FIELD_NAMES, AgentState, with_changes
from plantfed_shared import wire
from plantfed_shared.bus.connection_state import ConnectionState
from plantfed_shared.errors import ConfigError, PeerError, StorageError
from plantfed_shared.messages import Content, Epoch, ModelName, ModelStep
from plantfed_shared.own_average import OwnAverage
from plantfed_shared.store import Database, Row, reading
from plantfed_shared.topics import Kind

log = logging.getLogger("plantfed.agent")

FILE_NAME = "agent.db"
OWNER = "owner"
HALF_KEPT_S = 2 * 86400.0
"""A half-fetched content of which nothing came for so long is not gone on with."""
_MIGRATIONS = (
    """
    CREATE TABLE field (name TEXT PRIMARY KEY, value ANY) STRICT;
    CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
    """,
    """
    CREATE TABLE connection (id INTEGER PRIMARY KEY CHECK (id = 1), state TEXT NOT NULL) STRICT;
    """,
    """
    CREATE TABLE half (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        epoch TEXT, digest BLOB NOT NULL, size INTEGER NOT NULL, k INTEGER, base_k INTEGER,
        written_at REAL NOT NULL
    ) STRICT;
    CREATE TABLE piece (start INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT;
    """,
)


def _array_to_blob(dtype: str) -> Callable[[Any], bytes]:
    return lambda array: array.astype(dtype).tobytes()


def _blob_to_array(stored: str, used: str) -> Callable[[Any], Any]:
    return lambda blob: np.frombuffer(blob, dtype=stored).astype(used)


def _epoch_to_text(epoch: Epoch) -> str:
    return f"{epoch.counter} {epoch.bits:016x}"


def _text_to_epoch(text: str) -> Epoch:
    counter, bits = text.split()
    return Epoch(int(counter), int(bits, 16))


def _name_to_text(name: ModelName) -> str:
    return f"{_epoch_to_text(name.epoch)} {name.k} {name.checksum:016x}"


def _text_to_name(text: str) -> ModelName:
    counter, bits, k, checksum = text.split()
    return ModelName(_text_to_epoch(f"{counter} {bits}"), int(k), int(checksum, 16))


def _average_to_blob(average: OwnAverage) -> bytes:
    arrays = [average.value] if average.successor is None else [average.value, average.successor]
    head = np.array([average.at, average.value.size])
    return np.concatenate([head, *arrays]).astype("<i8").tobytes()


def _blob_to_average(blob: bytes) -> OwnAverage:
    found = np.frombuffer(blob, dtype="<i8").astype(np.int64)
    at, size = int(found[0]), int(found[1])
    if found.size not in (2 + size, 2 + 2 * size):
        raise ValueError(f"{found.size} numbers are no average of {size}")
    end = 2 + size
    return OwnAverage(found[2:end], at, found[end:] if found.size > end else None)


_FLOATS = (_array_to_blob("<f4"), _blob_to_array("<f4", "float32"))
_INTEGERS = (_array_to_blob("<i4"), _blob_to_array("<i4", "int64"))
_NAME = (_name_to_text, _text_to_name)
_CONVERSIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "epoch": (_epoch_to_text, _text_to_epoch),
    "newest": _NAME,
    "model_name": _NAME,
    "trained_on": _NAME,
    "guard": (guard_frames.to_bytes, guard_frames.from_bytes),
    "need": (json.dumps, lambda text: Need(*json.loads(text))),
    "head": _FLOATS,
    "memory": _FLOATS,
    "prior": _FLOATS,
    "own_head": _FLOATS,
    "dual": _INTEGERS,
    "model": _INTEGERS,
    "earlier": (_average_to_blob, _blob_to_average),
}
"""(to what SQLite holds, from it); 64-bit names are text because SQLite integers are signed."""


class AgentStore:
    """The store of one running agent.

    Args:
        state_dir: folder of the file.
        wall_clock: Unix time in seconds.

    Attributes:
        models: compiled models, in files beside it.

    Raises:
        StorageError: see :class:`plantfed_shared.store.Database`.
    """

    def __init__(self, state_dir: Path, wall_clock: Callable[[], float] = time) -> None:
        self._wall_clock = wall_clock
        self.models = ModelCache(state_dir)
        self._database = Database(state_dir / FILE_NAME, _MIGRATIONS, "plantfed-agent")

    def claim(self, federation: str, agent: str) -> None:
        """Refuse the state of another machine or federation; a new state is ours from now on.

        A state that was copied along with a disk image would make the coordinator believe that it
        has lost its past.

        Raises:
            ConfigError: it belongs to another agent.
            StorageError: it cannot be written.
        """
        owner = f"{federation}/{agent}"
        with self._database.transaction() as database:
            database.execute("INSERT OR IGNORE INTO field VALUES (?, ?)", (OWNER, owner))
            ((found,),) = database.execute("SELECT value FROM field WHERE name = ?", (OWNER,))
        if found != owner:
            raise ConfigError(
                f"is the state of {found}, the settings are those of {owner}",
                where=str(self._database.path),
                hint="Give this agent a state_dir of its own",
            )

    def load(self) -> AgentState:
        """The state as it was persisted last.

        A guard that was damaged begins anew.  An update in the format of another version could not
        be sent; where the coordinator had it, the agent takes its dual from there.

        Raises:
            StorageError: another field cannot be read.
        """
        state = _load(self._database)
        if state.outstanding is not None and not _can_be_sent(state.outstanding):
            log.warning("the update that waits is of another version of PlantFed: it is dropped")
            state = with_changes(state, outstanding=None)
        if state.guard is None and _has_guard(self._database):
            log.warning("what the guard has kept is damaged: it begins anew, the newest is used")
        return state

    def load_counters(self) -> dict[str, int]:
        """Bytes and messages since ever."""
        return _load_counters(self._database)

    def persist(self, state: AgentState, changed: frozenset[str], counters: dict[str, int]) -> None:
        """Write the changed fields and the counters in one transaction.

        Raises:
            StorageError: nothing was written.
        """
        rows = [(name, _stored(name, getattr(state, name))) for name in sorted(changed)]
        with self._database.transaction() as database:
            database.execute_many("INSERT OR REPLACE INTO field VALUES (?, ?)", rows)
            database.execute_many("INSERT OR REPLACE INTO counter VALUES (?, ?)", counters.items())

    def keep_pieces(self, half: HalfFetched) -> None:
        """Write pieces of a content, in place of those of another.

        Raises:
            StorageError: nothing was written.
        """
        content, step = half.content, half.step
        epoch = None if half.epoch is None else _epoch_to_text(half.epoch)
        k, base_k = (None, None) if step is None else step
        row = (1, epoch, content.digest, content.size, k, base_k, self._wall_clock())
        with self._database.transaction() as database:
            if database.execute("SELECT 1 FROM half WHERE digest != ?", (content.digest,)):
                database.execute("DELETE FROM piece")
            database.execute("INSERT OR REPLACE INTO half VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            database.execute_many("INSERT OR REPLACE INTO piece VALUES (?, ?)", half.pieces)

    def drop_pieces(self) -> None:
        """No content is half here any more.

        Raises:
            StorageError: nothing was written.
        """
        with self._database.transaction() as database:
            database.execute("DELETE FROM piece")
            database.execute("DELETE FROM half")

    def load_half(self) -> HalfFetched | None:
        """What is half here of a content; what is older than two days is dropped.

        Raises:
            StorageError: it cannot be read.
        """
        rows = self._database.execute("SELECT epoch, digest, size, k, base_k, written_at FROM half")
        if not rows:
            return None
        epoch, digest, size, k, base_k, written_at = rows[0]
        pieces = tuple(self._database.execute("SELECT start, bytes FROM piece ORDER BY start"))
        # a clock that was put back says nothing about age
        if self._wall_clock() - written_at >= HALF_KEPT_S or not _fit(pieces, size):
            self.drop_pieces()
            return None
        return HalfFetched(
            None if epoch is None else _text_to_epoch(epoch),
            Content(digest, size),
            None if k is None else ModelStep(k, base_k),
            pieces,
        )

    def persist_connection(self, state: ConnectionState) -> None:
        """Write how it stands with the broker, for those who look at a running agent.

        Raises:
            StorageError: it was not written.
        """
        with self._database.transaction() as database:
            database.execute("INSERT OR REPLACE INTO connection VALUES (1, ?)", (state.to_json(),))

    def close(self) -> None:
        """Let another process use the state."""
        self._database.close()


def read_state(state_dir: Path) -> tuple[AgentState, dict[str, int]]:
    """State and counters of an agent that may be running.

    Raises:
        StorageError: there is none, or it cannot be read.
    """
    with reading(state_dir / FILE_NAME) as database:
        return _load(database), _load_counters(database)


def read_connection(state_dir: Path) -> ConnectionState | None:
    """How it stood with the broker when that changed last; None if it never was connected.

    Raises:
        StorageError: there is no state, or it cannot be read.
    """
    with reading(state_dir / FILE_NAME) as database:
        rows = database.execute("SELECT state FROM connection")
    try:
        return ConnectionState.from_json(rows[0][0]) if rows else None
    except ValueError as error:
        where = f"{database.path}: table connection"
        raise StorageError(str(error), where=where, hint="Start the agent again") from None


def _load(database: Database) -> AgentState:
    rows = database.execute("SELECT name, value FROM field")
    kept: dict[str, Any] = {}
    for name, value in rows:
        if name in FIELD_NAMES:
            try:
                kept[name] = _restored(name, value)
            except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
                raise StorageError(
                    f"field {name!r} is damaged",
                    where=str(database.path),
                    hint="Restore a copy of state_dir, or remove it: the agent begins anew then, "
                    "without what only it knew",
                ) from None
    return AgentState(**kept)


def _has_guard(database: Database) -> bool:
    found = database.execute("SELECT 1 FROM field WHERE name = 'guard' AND value IS NOT NULL")
    return bool(found)


def _can_be_sent(outstanding: bytes) -> bool:
    try:
        wire.decode_own(outstanding, Kind.UPDATE)
    except PeerError:
        return False
    return True


def _fit(pieces: tuple[Row, ...], size: int) -> bool:
    return all(piece and 0 <= start <= size - len(piece) for start, piece in pieces)


def _load_counters(database: Database) -> dict[str, int]:
    return dict(database.execute("SELECT name, value FROM counter"))


def _stored(name: str, value: object) -> object:
    convert = _CONVERSIONS.get(name)
    return value if value is None or convert is None else convert[0](value)


def _restored(name: str, value: object) -> object:
    convert = _CONVERSIONS.get(name)
    return value if value is None or convert is None else convert[1](value)
