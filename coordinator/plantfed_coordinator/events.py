"""What the federation machine is told and what it asks its shell to do."""

from dataclasses import dataclass
from enum import StrEnum

from plantfed_coordinator.records import Record


@dataclass(frozen=True, slots=True)
class BusConnected:
    """The bus is connected; retained messages may be gone.

    Attributes:
        max_payload_bytes: what the broker grants.
    """

    max_payload_bytes: int


@dataclass(frozen=True, slots=True)
class MessageArrived:
    """A payload on one of the coordinator's subscriptions.

    Attributes:
        topic: it came on.
        payload: its bytes.
        retained: the broker had kept it from before this subscription.
    """

    topic: str
    payload: bytes
    retained: bool = False


@dataclass(frozen=True, slots=True)
class TimerDue:
    """The time asked for with ``next_timer`` has come."""


class Order(StrEnum):
    """What an operator may ask for."""

    REMOVE = "remove"
    ADMIT = "admit"
    RELEASE = "release"


@dataclass(frozen=True, slots=True)
class OperatorOrder:
    """An operator's command about one agent."""

    order: Order
    agent: str


Event = BusConnected | MessageArrived | TimerDue | OperatorOrder


@dataclass(frozen=True, slots=True)
class Persist:
    """Append this record; nothing that follows it may happen before it is on disk."""

    record: Record


@dataclass(frozen=True, slots=True)
class Publish:
    """Send this message.

    Attributes:
        topic: of the message.
        payload: of it.
        retain: whether the broker keeps it.
        heard_by: the agents it comes to besides the one in the topic, as far as is known.
    """

    topic: str
    payload: bytes
    retain: bool = False
    heard_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Note:
    """Tell the reader of the log.

    Attributes:
        text: one line.
        agent: whom it is about.
        warning: it is worth a look.
    """

    text: str
    agent: str | None = None
    warning: bool = False


class Deed(StrEnum):
    """What an entry of the audit log is about."""

    OFFENCE = "offence"
    REFUSED = "refused"
    SET_ASIDE = "set aside"
    QUARANTINED = "quarantined"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class Audit:
    """Write an entry of the audit log.

    Attributes:
        deed: what happened.
        agent: whom it is about, as the topic says.
        text: one line.
        count: how often since the entry before; ``text`` is the last of them.
    """

    deed: Deed
    agent: str | None
    text: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Keep it through a restart that this agent is quarantined, or, without a reason, released."""

    agent: str
    reason: str | None


Action = Persist | Publish | Note | Audit | Quarantine
