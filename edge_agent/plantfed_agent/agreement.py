"""Whether what the coordinator says agrees with what this agent holds: pure judgements."""

from enum import StrEnum

from plantfed_agent.state import AgentState, with_applied
from plantfed_shared import wire
from plantfed_shared.codec import decode_integers
from plantfed_shared.lattice import checksum, upper_half
from plantfed_shared.messages import Epoch, ModelName, State, Update, Welcome
from plantfed_shared.terms import terms_of
from plantfed_shared.topics import Kind


class Agreement(StrEnum):
    """What a STATE means for the agent."""

    AGREES = "agrees"
    APPLIED = "applied"
    DISAGREES = "disagrees"


class Standing(StrEnum):
    """How an epoch or a model's name relates to what the agent has seen."""

    NEWER = "newer"
    SAME = "same"
    OLDER = "older"
    TWIN = "twin"


def standing_of_epoch(state: AgentState, epoch: Epoch) -> Standing:
    """Epochs are ordered by their counter; equal counters with other bits are twins."""
    if state.epoch is None or epoch.counter > state.epoch.counter:
        return Standing.NEWER
    if epoch.counter < state.epoch.counter:
        return Standing.OLDER
    return Standing.SAME if epoch == state.epoch else Standing.TWIN


def standing_of_model(state: AgentState, name: ModelName) -> Standing:
    """Within the agent's epoch, release numbers only rise and a number has one content."""
    standing = standing_of_epoch(state, name.epoch)
    if standing is not Standing.SAME or state.newest is None:
        return standing
    if name.k != state.newest.k:
        return Standing.NEWER if name.k > state.newest.k else Standing.OLDER
    return Standing.SAME if name == state.newest else Standing.TWIN


def agreement(state: AgentState, message: State) -> Agreement:
    """Compare the coordinator's row of this agent with the agent's own state."""
    if message.incarnation != state.incarnation or state.incarnation == 0:
        return Agreement.DISAGREES
    if message.last_seq == state.applied_seq and message.dual_checksum == state.dual_checksum:
        return Agreement.AGREES
    if state.outstanding is not None and message.last_seq == state.applied_seq + 1:
        same = message.last_digest == wire.envelope_digest(state.outstanding)
        made = _update(state.outstanding)[0].dual_check
        if same and upper_half(message.dual_checksum) == made:
            return Agreement.APPLIED
    return Agreement.DISAGREES


def accepts_welcome(state: AgentState, welcome: Welcome) -> bool:
    """A welcome counts if it is newer than everything we know; an old one may come again."""
    standing = standing_of_epoch(state, welcome.epoch)
    fits = standing in (Standing.NEWER, Standing.SAME)
    return fits and welcome.incarnation > state.incarnation


def dual_after_outstanding(state: AgentState) -> AgentState:
    """The state after its outstanding update was applied; only valid when there is one."""
    if state.outstanding is None:
        return state
    terms = terms_of(state.definition)
    update, tail = _update(state.outstanding)
    dual = state.dual
    if terms.definition.algorithm.has_duals:
        dual = state.dual_after(terms.lattice, decode_integers(tail, terms.lattice))
        if upper_half(checksum(dual)) != update.dual_check:
            raise ValueError("the dual on disk is not the one the outstanding update was made with")
    return with_applied(state, update.base, dual)


def _update(outstanding: bytes) -> tuple[Update, memoryview]:
    envelope = wire.decode_own(outstanding, Kind.UPDATE)
    if not isinstance(envelope.message, Update):
        raise TypeError(type(envelope.message).__name__)
    return envelope.message, envelope.tail
