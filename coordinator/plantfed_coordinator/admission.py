"""Whether a message fits what the coordinator holds: pure judgements, nothing is changed here."""

from enum import StrEnum
from typing import NamedTuple

import numpy as np

from plantfed_coordinator.state import FederationState
from plantfed_shared.codec import decode_integers
from plantfed_shared.errors import PeerError
from plantfed_shared.lattice import (
    Integers,
    SaturationError,
    upper_half,
)
from plantfed_shared.messages import Code, Epoch, Hello, ModelName, Update

MAX_EPOCH_COUNTER = 2**31
MAX_EPOCH_LEAD = 1024
"""Further ahead of ours no honest epoch can be."""
MAX_CLAIMED_INCARNATION = 2**30
"""Who claims as much or more never had it from us.  From here to the last there is is a thousand
years at the rate at which one agent is given new ones: nobody can use an agent's numbers up."""


class Reconciliation(StrEnum):
    """How an agent's HELLO relates to what the coordinator holds."""

    AGREES = "agrees"
    NEW = "new"
    FORKED = "forked"
    BARRED = "barred"


class Judgement(NamedTuple):
    """What is to become of an update.

    Attributes:
        code: of the verdict; none for an old duplicate.
        reason: for the agent's log.
        is_new: it is to be recorded.
        is_offence: no sound agent sends such a thing.
    """

    code: Code | None
    reason: str = ""
    is_new: bool = False
    is_offence: bool = False


def reconcile(state: FederationState, agent: str, hello: Hello) -> Reconciliation:
    """Compare an agent's claims with its row."""
    if agent in state.barred:
        return Reconciliation.BARRED
    member = state.members.get(agent)
    if member is None:
        return Reconciliation.NEW
    if hello.incarnation != member.incarnation:
        return Reconciliation.FORKED
    same_dual = hello.dual_checksum == member.contribution.dual_checksum
    if hello.applied_seq == member.last_seq and same_dual:
        return Reconciliation.AGREES
    awaits_verdict = hello.applied_seq + 1 == member.last_seq
    if awaits_verdict and hello.outstanding == member.last_digest:
        return Reconciliation.AGREES
    return Reconciliation.FORKED


def next_incarnation(state: FederationState, agent: str, claimed: int) -> int:
    """Higher than any that was given to an agent, also by a coordinator this one knows nothing of.

    Args:
        state: of the federation.
        agent: member or not.
        claimed: by its HELLO.
    """
    return max(_incarnation(state, agent), _believed(claimed)) + 1


def _incarnation(state: FederationState, agent: str) -> int:
    """Given to it last, 0 for none."""
    member = state.members.get(agent)
    return member.incarnation if member else state.retired.get(agent, 0)


def _believed(incarnation: int) -> int:
    return incarnation if incarnation < MAX_CLAIMED_INCARNATION else 0


class NewerPast(NamedTuple):
    """Proof that our journal is older than what somebody has seen.

    Attributes:
        reason: for the reader of the history.
        epoch: the one the proof is from; a new epoch must be later.
    """

    reason: str
    epoch: Epoch


def newer_past_of_hello(state: FederationState, agent: str, hello: Hello) -> NewerPast | None:
    """What a HELLO proves."""
    if hello.epoch is None:
        return None
    seen = newer_past_of_model(state, hello.newest) if hello.newest is not None else None
    return seen or _newer_past(state, agent, hello.epoch, hello.incarnation, hello.applied_seq)


def newer_past_of_update(state: FederationState, agent: str, update: Update) -> NewerPast | None:
    """What an UPDATE proves."""
    seen = newer_past_of_model(state, update.base)
    epoch, applied_seq = update.base.epoch, update.seq - 1
    return seen or _newer_past(state, agent, epoch, update.incarnation, applied_seq)


def newer_past_of_model(state: FederationState, name: ModelName) -> NewerPast | None:
    """What the name of a model proves that somebody has seen."""
    epoch, ours = name.epoch, state.epoch
    if epoch != ours:
        return _newer_epoch(state, epoch)
    if name.k > state.k:
        return NewerPast(f"release {name.k} was seen, ours is {state.k}", epoch)
    if name.k == state.k and name != state.name(name.k):
        return NewerPast(f"release {name.k} was seen with another content", epoch)
    return None


def _newer_past(
    state: FederationState, agent: str, epoch: Epoch, incarnation: int, applied_seq: int
) -> NewerPast | None:
    if epoch != state.epoch:
        return _newer_epoch(state, epoch)
    member = state.members.get(agent)
    ours = _incarnation(state, agent)
    if _believed(incarnation) > ours:
        return NewerPast(f"incarnation {incarnation} of {agent} was seen, ours is {ours}", epoch)
    if member is not None and incarnation == ours and applied_seq > member.last_seq:
        what = f"update {applied_seq} of {agent} was applied, ours is {member.last_seq}"
        return NewerPast(what, epoch)
    return None


def _newer_epoch(state: FederationState, epoch: Epoch) -> NewerPast | None:
    ours = state.epoch.counter
    if epoch.counter >= min(MAX_EPOCH_COUNTER, ours + MAX_EPOCH_LEAD):
        return None
    if epoch.counter > ours:
        return NewerPast(f"epoch {epoch.counter} was seen, ours is {ours}", epoch)
    if epoch.counter == ours and epoch.bits != state.epoch.bits:
        return NewerPast(f"epoch {epoch.counter} was seen with another identity", epoch)
    return None


def judge_update(
    state: FederationState, agent: str, update: Update, digest: int, change: bytes
) -> Judgement:
    """Check an UPDATE in the order: member, sequence, settings, base, content."""
    member = state.members.get(agent)
    if member is None:
        barred = agent in state.barred
        return Judgement(Code.REMOVED if barred else Code.UNKNOWN_MEMBER, "say hello")
    if update.incarnation < member.incarnation:
        return Judgement(Code.OLD_INCARNATION, f"incarnation {member.incarnation} is current")
    if update.seq <= member.last_seq:
        same = update.seq == member.last_seq and digest == member.last_digest
        return Judgement(Code.APPLIED if same else None)
    if update.incarnation > member.incarnation or update.seq != member.last_seq + 1:
        return Judgement(Code.GAP, f"update {member.last_seq + 1} is next")
    if update.base.epoch == state.epoch and update.definition != state.terms.digest[:8]:
        return Judgement(Code.REJECTED, "other settings than those of this epoch")
    if update.base.epoch != state.epoch:
        return Judgement(Code.BASE_GONE, "it began from a release of an epoch that has ended")
    if not _has_base(state, update.base):
        return Judgement(Code.BASE_GONE, f"release {update.base.k} is not kept")
    if _is_late(state, agent, update):
        return Judgement(Code.LATE, f"the round on release {update.base.k} is closed")
    return _judge_content(state, agent, update, change)


def _has_base(state: FederationState, base: ModelName) -> bool:
    return base.k in state.versions and base == state.name(base.k)


def _is_late(state: FederationState, agent: str, update: Update) -> bool:
    """With duals a late answer still counts: z_i of an absent member is part of the mean anyway."""
    definition = state.terms.definition
    if definition.schedule.kind != "sync" or definition.algorithm.has_duals:
        return False
    opened = state.round
    return opened is None or update.base.k != opened.k or agent not in opened.drawn


def _judge_content(state: FederationState, agent: str, update: Update, change: bytes) -> Judgement:
    algorithm = state.terms.definition.algorithm
    if algorithm.weighting == "equal" and update.weight != 1:
        return Judgement(Code.REJECTED, "weight must be 1 in this federation")
    if not state.consensus.has_room(state.members[agent].contribution, update.weight):
        return Judgement(Code.REJECTED, "the sum of all weights would leave the lattice's range")
    try:
        decoded = decode_integers(change, state.terms.lattice)
    except PeerError as error:
        return Judgement(Code.REJECTED, str(error), is_offence=True)
    try:
        after = state.contribution_after(agent, update.base.k, decoded, update.weight)
    except SaturationError as error:
        return Judgement(Code.REJECTED, str(error))  # of one whose training diverges
    if algorithm.max_norm is not None and _norm(state, decoded) > algorithm.max_norm:
        return Judgement(Code.REJECTED, f"the change is longer than {algorithm.max_norm:g}")
    if upper_half(after.dual_checksum) != update.dual_check:
        reason = "the dual after it would not be the agent's"
        return Judgement(Code.REJECTED, reason, is_offence=True)
    return Judgement(Code.APPLIED, is_new=True)


def _norm(state: FederationState, change: Integers) -> float:
    lattice = state.terms.lattice
    in_parameter_units = lattice.to_floats(change * (1 << lattice.relaxation.shift))
    return float(np.linalg.norm(in_parameter_units.astype(np.float64)))
