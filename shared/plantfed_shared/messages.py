"""The messages of the protocol, as frozen and strictly validated types.

The order of the fields is the order on the wire.  A message that carries numbers or bytes has them
in the tail of its envelope (:mod:`plantfed_shared.wire`), not here.  What each message means and
when it is sent is in ``docs/protocol.md``.
"""

from enum import StrEnum
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from plantfed_shared.topics import Kind

U8 = Annotated[int, Field(ge=0, lt=2**8)]
U32 = Annotated[int, Field(ge=0, lt=2**32)]
U64 = Annotated[int, Field(ge=0, lt=2**64)]
Digest16 = Annotated[bytes, Field(min_length=16, max_length=16)]
MAX_REASON_CHARACTERS = 300
Reason = Annotated[str, Field(max_length=MAX_REASON_CHARACTERS)]
Incarnation = Annotated[int, Field(ge=0, lt=2**31)]
"""Given by the coordinator; what either side says must be something the other can say too."""
Software = Annotated[str, Field(max_length=32)]

Score = Annotated[float, Field(ge=-1e30, le=1e30, allow_inf_nan=False)]
"""Sums and squares of such numbers are still finite."""

MAX_CONTENT_BYTES = 256 * 2**20
"""Largest blob that is transferred in chunks."""
MAX_DEFINITION_BYTES = 4 * 2**20
MAX_RANGES = 32
MAX_PARTS = 4096


class Epoch(NamedTuple):
    """One unbroken life of a federation.

    Attributes:
        counter: grows by at least one with every new epoch.
        bits: 64 random bits that tell two epochs with the same counter apart.
    """

    counter: U32
    bits: U64


class ModelName(NamedTuple):
    """The name of a released model: no two different models have the same.

    Attributes:
        epoch: it was released in.
        k: number of the release.
        checksum: :func:`plantfed_shared.lattice.checksum` of its integers.
    """

    epoch: Epoch
    k: U32
    checksum: U64


class Content(NamedTuple):
    """A blob that its receiver can ask for in ranges.

    Attributes:
        digest: :func:`plantfed_shared.definition.content_digest`.
        size: bytes.
    """

    digest: Digest16
    size: Annotated[int, Field(ge=1, le=MAX_CONTENT_BYTES)]


def _no_longer_than_a_definition(content: Content) -> Content:
    if content.size > MAX_DEFINITION_BYTES:
        raise ValueError(f"a definition has at most {MAX_DEFINITION_BYTES} bytes")
    return content


class ModelOffer(NamedTuple):
    """A model that can be had.

    Attributes:
        name: of it.
        definition: of the federation, in this epoch.
        final: there will be no newer one.
    """

    name: ModelName
    definition: Annotated[Content, AfterValidator(_no_longer_than_a_definition)]
    final: bool


class ModelStep(NamedTuple):
    """Which model a content holds, and from which it is the difference.

    Attributes:
        k: release.
        base_k: the release it is the difference from, or None where it is a whole model.
    """

    k: U32
    base_k: U32 | None


class Range(NamedTuple):
    """Bytes start to stop-1 of a content."""

    start: U32
    stop: U32


class Code(StrEnum):
    """What became of a message."""

    APPLIED = "applied"
    BASE_GONE = "base_gone"
    REJECTED = "rejected"
    LATE = "late"
    GAP = "gap"
    OLD_INCARNATION = "old_incarnation"
    UNKNOWN_MEMBER = "unknown_member"
    REMOVED = "removed"
    QUARANTINED = "quarantined"
    UNPROVEN = "unproven"
    LEFT = "left"


def _code_of_text(value: object) -> object:
    return Code(value) if isinstance(value, str) else value


class Verdict(NamedTuple):
    """What became of the message whose envelope digest is ``digest``.

    With ``UNPROVEN`` it is a number: the sender is to say HELLO again with it as ``proof``.
    """

    digest: U64
    code: Annotated[Code, BeforeValidator(_code_of_text)]
    reason: Reason


class Message(BaseModel):
    """Base of all messages."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Hello(Message):
    """Agent: who I am and what I hold; asks for STATE or WELCOME.

    Attributes:
        epoch: adopted last, or None.
        incarnation: given by the coordinator, 0 for none yet.
        applied_seq: sequence number of the last update known to be applied.
        outstanding: envelope digest of the update ``applied_seq + 1``, if there is one.
        dual_checksum: c(w_i).
        newest: the newest model seen in ``epoch``.
        software: version.
        proof: the number in the coordinator's answer (``UNPROVEN``) to an earlier HELLO: this one
            is no replay.
    """

    epoch: Epoch | None
    incarnation: Incarnation
    applied_seq: U32
    outstanding: U64 | None
    dual_checksum: U64
    newest: ModelName | None
    software: Software
    proof: U64 | None


class Update(Message):
    """Agent: one local round.  Tail: the change o_i, see :mod:`plantfed_shared.codec`.

    Attributes:
        base: the model the round started from.
        incarnation: of the agent.
        seq: one more than the last applied update.
        weight: n_i.
        definition: first 8 bytes of the definition's digest.
        dual_check: upper half of c(w_i) after this update.
        score: of the model served before this round, on the machine's own test rows.
        want: as a WANT with this window, ``have`` being the base, once it is applied; 0 is none.
        others: of that WANT.
    """

    base: ModelName
    incarnation: Incarnation
    seq: Annotated[int, Field(ge=1, lt=2**32)]
    weight: Annotated[int, Field(ge=1, lt=2**32)]
    definition: Annotated[bytes, Field(min_length=8, max_length=8)]
    dual_check: U32
    score: Score | None
    want: U32
    others: U8


class Offer(Message):
    """Agent: an update longer than one message waits to be fetched; content is its envelope."""

    content: Content


class Want(Message):
    """Agent: send me the newest model as soon as there is a newer one than I have.

    Attributes:
        have: the model it may be the difference from, or None for a whole one.
        window: most bytes that may be on their way at once.
        others: not before so many 256ths of the live members, the sender left out, have sent an
            update, or ``release_after_s`` has passed.
    """

    have: ModelName | None
    window: Annotated[int, Field(ge=1, lt=2**32)]
    others: U8


class Need(Message):
    """Either side: send me these ranges of a content now.

    Attributes:
        digest: of the content.
        ranges: of its bytes.
        step: what the content is, where it is a model: a coordinator that has forgotten the bytes
            makes the same ones again.
    """

    digest: Digest16
    ranges: Annotated[tuple[Range, ...], Field(min_length=1, max_length=MAX_RANGES)]
    step: ModelStep | None


class Chunk(Message):
    """Either side: the answer to NEED or WANT.  Tail: the bytes from ``offset`` on.

    Attributes:
        content: what they are part of.
        offset: of the first of them.
        step: what the content is, where it is a model: a late copy of the model before must not be
            taken for the one that is wanted.
    """

    content: Content
    offset: U32
    step: ModelStep | None


NO_GROUP = 0
"""No group has this number."""


class Part(Message):
    """Agent: I listen to the lane of this part of a model or an artefact; send it there.

    Attributes:
        digest: of the content.
        step: what the content is, where it is a model.
        group: number of the group; :data:`NO_GROUP` where the agent is in none and would join one.
        part: bytes from ``part * PART_BYTES`` on (:mod:`plantfed_shared.transfer`).
    """

    digest: Digest16
    step: ModelStep | None
    group: U32
    part: Annotated[int, Field(ge=0, lt=MAX_PARTS)]


class Group(Message):
    """Coordinator: several want this content now; listen to its parts in this group.

    Attributes:
        content: of the model or the artefact.
        step: what the content is, where it is a model.
        number: of the group.
        missed: the part that was asked for too late in an earlier group.
    """

    content: Content
    step: ModelStep | None
    number: U32
    missed: Annotated[int, Field(ge=0, lt=MAX_PARTS)] | None


class Bye(Message):
    """Agent: I leave the federation for good."""

    incarnation: Incarnation


class Status(Message):
    """Agent: retained presence; ``online = False`` is the last will."""

    online: bool
    software: Software


class Welcome(Message):
    """Coordinator: a new incarnation; take this dual and drop what you have outstanding.

    Attributes:
        epoch: of the federation.
        incarnation: higher than any before; its updates count from 1.
        dual_checksum: c(w_i).
        dual: w_i, or None where it is zero.
        offer: the newest model.
    """

    epoch: Epoch
    incarnation: Incarnation
    dual_checksum: U64
    dual: Content | None
    offer: ModelOffer


class State(Message):
    """Coordinator: what I have of you; the answer to HELLO, UPDATE and BYE.

    Attributes:
        epoch: of the federation.
        incarnation: of the agent, 0 if it is no member.
        last_seq: of its last applied update.
        last_digest: envelope digest of that update, if there is one in this incarnation.
        dual_checksum: c(w_i).
        verdict: on the message this answers, if it was an update.
        offer: the newest model, in answer to HELLO and to a NEED that can't be served.
    """

    epoch: Epoch
    incarnation: Incarnation
    last_seq: U32
    last_digest: U64 | None
    dual_checksum: U64
    verdict: Verdict | None
    offer: ModelOffer | None


class Start(Message):
    """Coordinator, synchronous schedule: train on this model now.

    Attributes:
        offer: of the round's model.
        deadline_s: the round closes at the latest so long after it was opened, seconds; for the
            reader, an agent does not hurry.
    """

    offer: ModelOffer
    deadline_s: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Manifest(Message):
    """Coordinator, retained: the newest model."""

    offer: ModelOffer


MESSAGE_OF_KIND: dict[Kind, type[Message]] = {
    Kind.HELLO: Hello,
    Kind.UPDATE: Update,
    Kind.OFFER: Offer,
    Kind.WANT: Want,
    Kind.NEED: Need,
    Kind.CHUNK: Chunk,
    Kind.BYE: Bye,
    Kind.STATUS: Status,
    Kind.WELCOME: Welcome,
    Kind.STATE: State,
    Kind.START: Start,
    Kind.MODEL: Manifest,
    Kind.GROUP: Group,
    Kind.PART: Part,
}
KIND_OF_MESSAGE: dict[type[Message], Kind] = {m: k for k, m in MESSAGE_OF_KIND.items()}
