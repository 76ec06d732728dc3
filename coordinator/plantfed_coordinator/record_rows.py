"""Journal records as rows: readable columns, and bytes only for what is long."""

import json
from dataclasses import fields
from typing import Any

from plantfed_coordinator.records import (
    Admitted,
    Applied,
    EpochStarted,
    IncarnationRaised,
    Joined,
    Left,
    Record,
    Released,
    RoundOpened,
    Served,
)
from plantfed_shared.errors import StorageError
from plantfed_shared.messages import Epoch

_RECORDS: dict[str, type[Record]] = {
    "epoch": EpochStarted,
    "join": Joined,
    "incarnation": IncarnationRaised,
    "leave": Left,
    "admit": Admitted,
    "serve": Served,
    "update": Applied,
    "release": Released,
    "round": RoundOpened,
}
_KINDS = {record: kind for kind, record in _RECORDS.items()}
_BLOB_FIELD = {"epoch": "definition", "update": "change"}
_TEXT_FIELDS = {
    kind: tuple(f.name for f in fields(record) if f.name not in ("agent", _BLOB_FIELD.get(kind)))
    for kind, record in _RECORDS.items()
}

_as_json = json.JSONEncoder(separators=(",", ":")).encode

RecordRow = tuple[str, str | None, str, bytes | None]
"""(kind, agent, the other fields as JSON, bytes)."""


def to_row(record: Record) -> RecordRow:
    """A record as a row."""
    kind = _KINDS[type(record)]
    agent: str | None = getattr(record, "agent", None)
    blob: bytes | None = getattr(record, _BLOB_FIELD[kind]) if kind in _BLOB_FIELD else None
    values = {name: getattr(record, name) for name in _TEXT_FIELDS[kind]}
    initial: bytes = values.pop("initial", b"")
    if initial:
        values["initial"] = initial.hex()
    return kind, agent, _as_json(values), blob


def from_row(row: RecordRow) -> Record:
    """The inverse of :func:`to_row`.

    Raises:
        StorageError: it is no row of a journal.
    """
    kind, agent, text, blob = row
    try:
        values: dict[str, Any] = json.loads(text)
        if agent is not None:
            values["agent"] = agent
        if kind in _BLOB_FIELD:
            values[_BLOB_FIELD[kind]] = blob
        if "initial" in values:
            values["initial"] = bytes.fromhex(values["initial"])
        if "epoch" in values:
            values["epoch"] = Epoch(*values["epoch"])
        if "agents" in values:
            values["agents"] = tuple(values["agents"])
        return _RECORDS[kind](**values)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        what = f"this {kind!r} can't be read: {error}"
        raise StorageError(what, hint="Restore a backup") from None
