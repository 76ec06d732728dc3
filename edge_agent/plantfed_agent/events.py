"""What the agent machine is told and what it asks its shell to do."""

from dataclasses import dataclass

from plantfed_agent.state import AgentState
from plantfed_agent.training import TrainingOutcome, TrainingTask
from plantfed_shared.day_ledger import Spent
from plantfed_shared.errors import PlantfedError
from plantfed_shared.local_time import LocalTime
from plantfed_shared.messages import Content, Epoch, ModelStep


@dataclass(frozen=True, slots=True)
class BusConnected:
    """The bus is connected.

    Attributes:
        max_payload_bytes: an update longer than this is offered instead of sent.
    """

    max_payload_bytes: int


@dataclass(frozen=True, slots=True)
class BusDisconnected:
    """The bus is no longer connected."""


@dataclass(frozen=True, slots=True)
class MessageArrived:
    """A payload on one of the agent's subscriptions.

    Attributes:
        topic: it came on.
        payload: of the message.
        retained: the broker kept it: nobody need be there now who says so.
    """

    topic: str
    payload: bytes
    retained: bool = False


@dataclass(frozen=True, slots=True)
class LaneAnswered:
    """The broker has answered :class:`Listen`.

    Attributes:
        topic: of the lane.
        allowed: whether anything can come on it.
    """

    topic: str
    allowed: bool


@dataclass(frozen=True, slots=True)
class TimerDue:
    """The time asked for with ``next_timer`` has come."""


@dataclass(frozen=True, slots=True)
class RoundDone:
    """The training asked for under ``ticket`` is finished."""

    ticket: int
    outcome: TrainingOutcome


@dataclass(frozen=True, slots=True)
class RoundFailed:
    """The training asked for under ``ticket`` failed."""

    ticket: int
    error: PlantfedError


@dataclass(frozen=True, slots=True)
class RowsChanged:
    """The files with this machine's rows are others than before."""

    fingerprint: str


@dataclass(frozen=True, slots=True)
class LinkRead:
    """What clock and byte counters say; told before every other event where the link is limited.

    Attributes:
        local: time on the wall.
        spent: MQTT bytes of its day.
        bytes_in: MQTT bytes received since the agent was started.
        waiting: MQTT bytes of bulk that were handed over and have not yet left.
    """

    local: LocalTime
    spent: Spent
    bytes_in: int
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class LeaveRequested:
    """The operator of this machine wants it out of the federation for good."""


Event = (
    BusConnected
    | BusDisconnected
    | MessageArrived
    | LaneAnswered
    | TimerDue
    | RoundDone
    | RoundFailed
    | RowsChanged
    | LinkRead
    | LeaveRequested
)


@dataclass(frozen=True, slots=True)
class Persist:
    """Write these fields of the state in one transaction before anything that follows.

    Attributes:
        state: as it is now.
        changed: names of the fields that differ from what was persisted before.
    """

    state: AgentState
    changed: frozenset[str]


@dataclass(frozen=True, slots=True)
class HalfFetched:
    """Some of a long content.

    Attributes:
        epoch: it is of use in no other.
        content: what is fetched.
        step: what it is, where it is a model.
        pieces: offsets and bytes.
    """

    epoch: Epoch | None
    content: Content
    step: ModelStep | None
    pieces: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True)
class KeepPieces:
    """Write these pieces too, before anything that follows; those of another content go."""

    half: HalfFetched


@dataclass(frozen=True, slots=True)
class DropPieces:
    """No pieces are of use any more."""


@dataclass(frozen=True, slots=True)
class KeepArtefact:
    """Write a compiled model, in place of any other, before anything that follows.

    Attributes:
        digest: of its bytes, which was verified.
        encoded: its bytes.
    """

    digest: bytes
    encoded: bytes


@dataclass(frozen=True, slots=True)
class Publish:
    """Send this message."""

    topic: str
    payload: bytes
    retain: bool = False


@dataclass(frozen=True, slots=True)
class Listen:
    """Hear what comes on this lane from now on."""

    topic: str


@dataclass(frozen=True, slots=True)
class StopListening:
    """Hear no more of it."""

    topic: str


@dataclass(frozen=True, slots=True)
class Train:
    """Do a local round in the background; its result comes back under this ticket."""

    ticket: int
    task: TrainingTask


@dataclass(frozen=True, slots=True)
class Note:
    """Tell the reader of the log."""

    text: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Stop:
    """End the program, with this error or because all is done."""

    error: PlantfedError | None


Action = (
    Persist
    | KeepPieces
    | DropPieces
    | KeepArtefact
    | Publish
    | Listen
    | StopListening
    | Train
    | Note
    | Stop
)
