"""The journal's records: everything that ever changes the state of a federation."""

from dataclasses import dataclass

from plantfed_shared.messages import Epoch


@dataclass(frozen=True, slots=True)
class EpochStarted:
    """A new epoch begins; the first record of every journal.

    Attributes:
        epoch: its name.
        k: the release number its first version gets; that version is the model as it stands.
        definition: canonical bytes of the federation's definition from now on.
        reason: why, for the reader of the history.
        initial: in the first record of a federation with a compiled model, the shared parameters it
            begins with, encoded; empty where the definition says how they are drawn.
    """

    epoch: Epoch
    k: int
    definition: bytes
    reason: str
    initial: bytes = b""


@dataclass(frozen=True, slots=True)
class Joined:
    """An agent becomes a member with z = U_k and w = 0, which moves the model by rounding only."""

    agent: str
    incarnation: int


@dataclass(frozen=True, slots=True)
class IncarnationRaised:
    """A member could not be reconciled; it gets the coordinator's dual and counts on from there."""

    agent: str
    incarnation: int


@dataclass(frozen=True, slots=True)
class Left:
    """A member is out of the consensus; its z and w are no part of the state any more.

    Attributes:
        agent: who.
        barred: by the operator, and may not join again until admitted.
    """

    agent: str
    barred: bool


@dataclass(frozen=True, slots=True)
class Admitted:
    """A barred agent may join again."""

    agent: str


@dataclass(frozen=True, slots=True)
class Served:
    """A member asked for version k: both are kept until it asks for another or comes from k.

    Attributes:
        agent: who.
        k: the version that is served.
        held: the version it has until it has all of that, or None.
    """

    agent: str
    k: int
    held: int | None = None


@dataclass(frozen=True, slots=True)
class Applied:
    """An update is part of the consensus.

    Attributes:
        agent: whose.
        incarnation: of the agent.
        seq: its sequence number in that incarnation, contiguous from 1.
        digest: envelope digest of the message.
        base_k: the version it started from.
        weight: n_i from now on.
        score: reported by the agent.
        change: o as it was on the wire.
    """

    agent: str
    incarnation: int
    seq: int
    digest: int
    base_k: int
    weight: int
    score: float | None
    change: bytes


@dataclass(frozen=True, slots=True)
class Released:
    """Version k is the consensus as it stands; the checksum is that of its integers."""

    k: int
    checksum: int


@dataclass(frozen=True, slots=True)
class RoundOpened:
    """Synchronous schedule: these members were drawn for the round on version k."""

    k: int
    attempt: int
    agents: tuple[str, ...]


Record = (
    EpochStarted
    | Joined
    | IncarnationRaised
    | Left
    | Admitted
    | Served
    | Applied
    | Released
    | RoundOpened
)
