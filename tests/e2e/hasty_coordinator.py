"""A control: the coordinator, but it answers and acknowledges first and commits later.

As brokers do that write their disk every now and then; it must be caught losing updates.
"""

import sys
from collections.abc import Iterable
from time import monotonic
from typing import Any

from plantfed_coordinator.__main__ import main
from plantfed_coordinator.journal import Journal
from plantfed_coordinator.records import EpochStarted, Record

COMMIT_EVERY_S = 0.5

_append = Journal.append
_held: list[Record] = []
_committed_at = monotonic()


def append_later(self: Journal, records: Iterable[Record], live: dict[str, Any]) -> None:
    """Keep the records in memory until it is time."""
    global _committed_at
    _held.extend(records)
    founding = any(isinstance(record, EpochStarted) for record in _held)
    if founding or monotonic() - _committed_at >= COMMIT_EVERY_S:
        _append(self, _held, live)
        _held.clear()
        _committed_at = monotonic()


def no_snapshot(*_: object, **__: object) -> None:
    """It would hold what the journal doesn't."""


if __name__ == "__main__":
    Journal.append = append_later  # type: ignore[method-assign]
    Journal.work = no_snapshot  # type: ignore[method-assign]
    Journal.finish = no_snapshot  # type: ignore[method-assign]
    sys.argv[0] = "plantfed-coordinator"
    main()
