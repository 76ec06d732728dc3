"""A federation's state as rows, so that a start need not replay the whole journal."""

import json
from typing import Any

import numpy as np

from plantfed_coordinator.consensus import AllMembersMean, Contribution, consensus_of
from plantfed_coordinator.state import FederationState, Member, Round
from plantfed_shared.errors import StorageError
from plantfed_shared.lattice import Integers
from plantfed_shared.messages import Epoch
from plantfed_shared.terms import terms_of

SnapshotRows = list[tuple[str, str, bytes | None]]
"""(name, JSON, bytes)."""


def to_rows(state: FederationState) -> SnapshotRows:
    """Everything of a state."""
    opened = state.round
    head = {
        "epoch": state.epoch,
        "k": state.k,
        "releases": state.releases,
        "updates": state.updates,
        "retired": state.retired,
        "barred": sorted(state.barred),
        "arrived": sorted(state.arrived),
        "changed": state.changed,
        "weight": state.consensus.weight,
        "round": opened and [opened.k, opened.attempt, opened.drawn, sorted(opened.answered)],
    }
    rows: SnapshotRows = [
        ("state", json.dumps(head), _blob(state.consensus.total)),
        ("definition", "", state.terms.encoded),
        ("unrounded", "", _blob(state.unrounded)),
    ]
    if state.consensus.exact is not None:
        rows.append(("exact", "", _blob(state.consensus.exact)))
    rows += [(f"version {k}", "", _blob(model)) for k, model in state.versions.items()]
    rows += [
        (f"member {agent}", json.dumps(_member_fields(member)), _member_blob(member))
        for agent, member in state.members.items()
    ]
    return rows


def from_rows(rows: SnapshotRows) -> FederationState:
    """The inverse of :func:`to_rows`.

    Raises:
        StorageError: they are not a snapshot, or the sums are not those of the members.
    """
    found = {name: (text, blob or b"") for name, text, blob in rows}
    try:
        head = json.loads(found["state"][0])
        terms = terms_of(found["definition"][1])
        versions = {
            int(n.removeprefix("version ")): _integers(blob)
            for n, (_, blob) in found.items()
            if n.startswith("version ")
        }
        exact = _integers(found["exact"][1]) if "exact" in found else versions[head["k"]]
        consensus = consensus_of(terms.definition.algorithm, exact)
        consensus.total, consensus.weight = _integers(found["state"][1]), head["weight"]
        state = FederationState(
            terms=terms,
            epoch=Epoch(*head["epoch"]),
            k=head["k"],
            versions=versions,
            consensus=consensus,
            unrounded=_integers(found["unrounded"][1]),
            members={
                n.removeprefix("member "): _member(json.loads(text), blob)
                for n, (text, blob) in found.items()
                if n.startswith("member ")
            },
            retired=head["retired"],
            barred=set(head["barred"]),
            arrived=set(head["arrived"]),
            changed=head["changed"],
            round=_round(head["round"]),
            releases=head["releases"],
            updates=head["updates"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StorageError(f"a snapshot can't be read: {error}", hint="Restore a backup") from None
    _check_sums(state)
    return state


def _check_sums(state: FederationState) -> None:
    if not isinstance(state.consensus, AllMembersMean):
        return
    anew = AllMembersMean(state.consensus.total.size)
    for member in state.members.values():
        anew.join(member.contribution)
    if anew.weight != state.consensus.weight or (anew.total != state.consensus.total).any():
        raise StorageError(
            "a snapshot's sums are not those of its members", hint="Restore a backup"
        )


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


def _member_blob(member: Member) -> bytes:
    stacked = np.stack([member.contribution.z, member.contribution.dual])
    return stacked.astype("<i4").tobytes()


def _member(fields: dict[str, Any], blob: bytes) -> Member:
    z, dual = np.frombuffer(blob, dtype="<i4").astype(np.int64).reshape(2, -1)
    return Member(contribution=Contribution(fields.pop("weight"), z, dual), **fields)


def _round(fields: list[Any] | None) -> Round | None:
    if fields is None:
        return None
    k, attempt, drawn, answered = fields
    return Round(k, attempt, tuple(drawn), frozenset(answered))


def _blob(integers: Integers) -> bytes:
    return integers.astype("<i8").tobytes()


def _integers(blob: bytes) -> Integers:
    return np.frombuffer(blob, dtype="<i8").astype(np.int64)
