"""Journal records as rows: readable columns, and bytes only for what is long."""

import json
from dataclasses import asdict
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

RecordRow = tuple[str, str | None, str, bytes | None]
"""(kind, agent, the other fields as JSON, bytes)."""


def to_row(record: Record) -> RecordRow:
    """A record as a row."""
    kind = _KINDS[type(record)]
    fields = asdict(record)
    agent = fields.pop("agent", None)
    blob = fields.pop(_BLOB_FIELD[kind]) if kind in _BLOB_FIELD else None
    return kind, agent, json.dumps(fields, separators=(",", ":")), blob


def from_row(row: RecordRow) -> Record:
    """The inverse of :func:`to_row`.

    Raises:
        StorageError: it is no row of a journal.
    """
    kind, agent, text, blob = row
    try:
        fields: dict[str, Any] = json.loads(text)
        if agent is not None:
            fields["agent"] = agent
        if kind in _BLOB_FIELD:
            fields[_BLOB_FIELD[kind]] = blob
        if "epoch" in fields:
            fields["epoch"] = Epoch(*fields["epoch"])
        if "agents" in fields:
            fields["agents"] = tuple(fields["agents"])
        return _RECORDS[kind](**fields)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        what = f"this {kind!r} can't be read: {error}"
        raise StorageError(what, hint="Restore a backup") from None
