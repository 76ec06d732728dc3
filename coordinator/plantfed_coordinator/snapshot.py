"""A federation's state as named parts, so that a start need not replay the whole journal.

The head is short and holds every number that is not a vector; each vector is a part of its own, so
that of a large federation only those parts have to be written that have changed.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from plantfed_coordinator.consensus import AllMembersMean, consensus_of
from plantfed_coordinator.contribution import Contribution
from plantfed_coordinator.fresh_mean import FreshMean
from plantfed_coordinator.state import FederationState, Member, Round
from plantfed_shared.errors import StorageError
from plantfed_shared.lattice import Integers
from plantfed_shared.messages import Epoch
from plantfed_shared.terms import Terms, terms_of

HEAD = "state"
DEFINITION, TOTAL = "definition", "total"
BUFFER, PRIMAL, AVERAGE = "buffer", "primal", "average"
"""Of mode auto."""
ALWAYS_NEW = (TOTAL, BUFFER, PRIMAL, AVERAGE)
"""Parts that any record may have changed."""
_VERSION, _REMAINDER, _MEMBER = "version ", "remainder ", "member "

SnapshotRows = list[tuple[str, str, bytes | None]]
"""(name, JSON, bytes)."""


class Part(NamedTuple):
    """A vector of a state.

    Attributes:
        name: of it.
        size: of its bytes, about.
        encoded: its bytes; what it is made of doesn't change any more.
    """

    name: str
    size: int
    encoded: Callable[[], bytes]


def member_part(agent: str) -> str:
    """The name of a member's part."""
    return _MEMBER + agent


def head_of(state: FederationState) -> dict[str, Any]:
    """All of a state that is no vector, as JSON can hold it."""
    opened = state.round
    return {
        "epoch": list(state.epoch),
        "k": state.k,
        "releases": state.releases,
        "updates": state.updates,
        "retired": dict(state.retired),
        "barred": sorted(state.barred),
        "arrived": sorted(state.arrived),
        "changed": state.changed,
        "weight": state.consensus.weight,
        "round": opened and [opened.k, opened.attempt, list(opened.drawn), sorted(opened.answered)],
        "fresh": _fresh_fields(state),
        "versions": sorted(state.versions),
        "turnovers": [list(each) for each in sorted(state.turnovers.items())],
        "remainders": sorted(state.remainders),
        "members": {agent: _member_fields(member) for agent, member in state.members.items()},
    }


def parts_of(state: FederationState) -> Iterator[Part]:
    """All vectors of a state as it is now; they may be encoded later."""
    encoded = state.terms.encoded
    yield Part(DEFINITION, len(encoded), lambda: encoded)
    yield _wide(TOTAL, state.consensus.total)
    if isinstance(state.consensus, FreshMean):
        yield _wide(BUFFER, state.consensus.buffer)
        yield _wide(PRIMAL, state.consensus.primal)
        yield _wide(AVERAGE, state.consensus.average)
    for k, model in sorted(state.versions.items()):
        yield _wide(f"{_VERSION}{k}", model)
    for k, remainder in sorted(state.remainders.items()):
        yield _narrow(f"{_REMAINDER}{k}", remainder)
    for agent, member in state.members.items():
        yield _member_part(agent, member.contribution)


def names_in(head: dict[str, Any]) -> set[str]:
    """The names of the parts that belong to a head."""
    names = {DEFINITION, TOTAL}
    names |= {BUFFER, PRIMAL, AVERAGE} if head["fresh"] else set()
    names |= {f"{_VERSION}{k}" for k in head["versions"]}
    names |= {f"{_REMAINDER}{k}" for k in head["remainders"]}
    return names | {member_part(agent) for agent in head["members"]}


def restored(head: dict[str, Any], parts: Iterable[tuple[str, bytes]]) -> FederationState:
    """The state of a head and its parts; holds the bytes of one part at a time.

    Args:
        head: from :func:`head_of`.
        parts: names and bytes of :func:`parts_of`.

    Raises:
        StorageError: they are not a snapshot, or the sums are not those of the members.
    """
    try:
        state = _restored(head, parts)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise StorageError(f"a snapshot can't be read: {error}", hint="Restore a backup") from None
    _check_sums(state)
    return state


def to_rows(state: FederationState) -> SnapshotRows:
    """Everything of a state."""
    rows: SnapshotRows = [(HEAD, json.dumps(head_of(state)), None)]
    return rows + [(part.name, "", part.encoded()) for part in parts_of(state)]


def from_rows(rows: SnapshotRows) -> FederationState:
    """The inverse of :func:`to_rows`.

    Raises:
        StorageError: see :func:`restored`.
    """
    (head,) = (json.loads(text) for name, text, _ in rows if name == HEAD)
    return restored(head, ((name, blob or b"") for name, _, blob in rows if name != HEAD))


def _restored(head: dict[str, Any], parts: Iterable[tuple[str, bytes]]) -> FederationState:
    terms: Terms | None = None
    vectors: dict[str, Integers] = {}
    versions: dict[int, Integers] = {}
    remainders: dict[int, NDArray[np.int32]] = {}
    members: dict[str, Member] = {}
    for name, blob in parts:
        if name == DEFINITION:
            terms = terms_of(blob)
        elif name.startswith(_VERSION):
            versions[int(name.removeprefix(_VERSION))] = _integers(blob)
        elif name.startswith(_REMAINDER):
            remainders[int(name.removeprefix(_REMAINDER))] = _narrow_integers(blob)
        elif name.startswith(_MEMBER):
            agent = name.removeprefix(_MEMBER)
            members[agent] = _member(dict(head["members"][agent]), blob)
        else:
            vectors[name] = _integers(blob)
    if terms is None:
        raise KeyError(DEFINITION)
    model = versions[head["k"]] + remainders.get(head["k"], 0)
    consensus = consensus_of(terms.definition.algorithm, model)
    consensus.total, consensus.weight = vectors[TOTAL], head["weight"]
    if isinstance(consensus, FreshMean):
        _restore_fresh(consensus, vectors, head)
    return FederationState(
        terms=terms,
        epoch=Epoch(*head["epoch"]),
        k=head["k"],
        versions={k: versions[k] for k in head["versions"]},
        consensus=consensus,
        remainders={k: remainders[k] for k in head["remainders"]},
        turnovers=dict(head["turnovers"]),
        members={agent: members[agent] for agent in head["members"]},
        retired=dict(head["retired"]),
        barred=set(head["barred"]),
        arrived=set(head["arrived"]),
        changed=head["changed"],
        round=_round(head["round"]),
        releases=head["releases"],
        updates=head["updates"],
    )


def _check_sums(state: FederationState) -> None:
    if not isinstance(state.consensus, AllMembersMean | FreshMean):
        return
    if not state.consensus.is_sum_of({a: m.contribution for a, m in state.members.items()}):
        raise StorageError(
            "a snapshot's sums are not those of its members", hint="Restore a backup"
        )


def _fresh_fields(state: FederationState) -> list[Any] | None:
    consensus = state.consensus
    if not isinstance(consensus, FreshMean):
        return None
    fresh = sorted(consensus.fresh)
    counts = [consensus.buffer_weight, consensus.averaged, consensus.turnovers]
    return [fresh, *counts, consensus.dual_share]


def _restore_fresh(
    consensus: FreshMean, vectors: dict[str, Integers], head: dict[str, Any]
) -> None:
    fresh, *counts, consensus.dual_share = head["fresh"]
    consensus.buffer_weight, consensus.averaged, consensus.turnovers = counts
    consensus.fresh = frozenset(fresh)
    consensus.buffer, consensus.primal = vectors[BUFFER], vectors[PRIMAL]
    consensus.average = vectors[AVERAGE]


def _member_fields(member: Member) -> dict[str, Any]:
    return {
        "incarnation": member.incarnation,
        "last_seq": member.last_seq,
        "last_digest": member.last_digest,
        "pinned": member.pinned,
        "held": member.held,
        "updates": member.updates,
        "staleness": member.staleness,
        "staleness_sum": member.staleness_sum,
        "score": member.score,
        "weight": member.contribution.weight,
    }


def _member_part(agent: str, contribution: Contribution) -> Part:
    def encoded() -> bytes:
        return np.stack([contribution.z, contribution.dual]).astype("<i4").tobytes()

    return Part(member_part(agent), contribution.z.nbytes, encoded)


def _member(fields: dict[str, Any], blob: bytes) -> Member:
    z, dual = _narrow_integers(blob).astype(np.int64).reshape(2, -1)
    return Member(contribution=Contribution(fields.pop("weight"), z, dual), **fields)


def _round(fields: list[Any] | None) -> Round | None:
    if fields is None:
        return None
    k, attempt, drawn, answered = fields
    return Round(k, attempt, tuple(drawn), frozenset(answered))


def _wide(name: str, integers: Integers) -> Part:
    return Part(name, integers.nbytes, lambda: integers.astype("<i8").tobytes())


def _integers(blob: bytes) -> Integers:
    return np.frombuffer(blob, dtype="<i8").astype(np.int64)


def _narrow(name: str, integers: NDArray[np.int32]) -> Part:
    return Part(name, integers.nbytes, lambda: integers.astype("<i4").tobytes())


def _narrow_integers(blob: bytes) -> NDArray[np.int32]:
    return np.frombuffer(blob, dtype="<i4").astype(np.int32)
