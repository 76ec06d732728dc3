"""What a host does of what the machine has asked for, in order: pure.

Persist, put down, publish, acknowledge.  The order stands here alone: the service and the simulated
host both do one effect after the other as they come, so what the simulation shows of the order is
true of the service.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from plantfed_coordinator.events import Action, Audit, Note, Persist, Publish, Quarantine
from plantfed_coordinator.records import Record


@dataclass(frozen=True, slots=True)
class Commit:
    """Append these records to the journal, on disk before the next effect."""

    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class PutDown:
    """Write what these have for the audit log, on disk before the next effect."""

    actions: tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Tell the broker that it need not keep this message."""

    token: int


Effect = Commit | PutDown | Publish | Note | Acknowledge


def in_order(actions: Sequence[Action], tokens: Sequence[int]) -> Iterator[Effect]:
    """What is to be done, one after the other; if one fails, nothing that follows may happen.

    Args:
        actions: of the machine, for one or several events.
        tokens: of the messages among these events.
    """
    records = tuple(a.record for a in actions if isinstance(a, Persist))
    if records:
        yield Commit(records)
    to_put_down = tuple(a for a in actions if isinstance(a, Audit | Quarantine | Persist))
    if to_put_down:
        yield PutDown(to_put_down)
    newest = {a.topic: a for a in actions if isinstance(a, Publish) and a.retain}
    for action in actions:
        # of several retained messages on a topic only the last will ever matter
        superseded = isinstance(action, Publish) and newest.get(action.topic, action) is not action
        if isinstance(action, Publish | Note) and not superseded:
            yield action
    for token in tokens:
        yield Acknowledge(token)
