"""From a state to a local round, and from its outcome to the update that is sent: pure."""

from collections.abc import Callable
from typing import Any

import numpy as np

from plantfed_agent.factoring import factored
from plantfed_agent.guard import after_comparison
from plantfed_agent.lengths import part_of_keep, shrinks
from plantfed_agent.need import OTHERS_AT_LEAST, need_after, others_wanted
from plantfed_agent.selection import Changes, memory_after, selected, wanted_change
from plantfed_agent.serving_model import newest_integers, newest_model
from plantfed_agent.state import AgentState, with_changes
from plantfed_agent.training import TrainingOutcome, TrainingTask
from plantfed_agent.whole_model import can_have_own_head
from plantfed_shared import wire
from plantfed_shared.codec import encode_factors, encode_integers
from plantfed_shared.definition import Compression
from plantfed_shared.lattice import Integers, Lattice, check_magnitude, checksum, upper_half
from plantfed_shared.low_rank import whole
from plantfed_shared.messages import Update, Want
from plantfed_shared.terms import Terms
from plantfed_shared.topics import Kind

ENVELOPE_BYTES = 128
"""What an UPDATE has at most besides the change."""


def everything(_usual_bytes: int) -> float:
    """Of the usual share of a change is sent where no budget is short."""
    return 1.0


def task_of(
    agent: str, state: AgentState, terms: Terms, *, head_only: bool = False
) -> TrainingTask:
    """The round on the model that was fetched last.

    Args:
        agent: its id.
        state: with the model.
        terms: of the federation.
        head_only: whether to train the head alone.

    Raises:
        ValueError: no model was fetched yet.
    """
    if state.model is None:
        raise ValueError("no model to train on")
    lattice = terms.lattice
    dual = np.zeros_like(state.model) if state.dual is None else state.dual
    newest = newest_integers(state, terms.definition.algorithm)
    return TrainingTask(
        agent=agent,
        seq=state.applied_seq + 1,
        base=lattice.to_floats(state.model),
        dual=lattice.to_floats(dual),
        head=state.head,
        definition=terms.definition,
        head_only=head_only,
        earlier=None if state.earlier is None else lattice.to_floats(state.earlier.usable),
        served=None if newest is None or newest is state.model else lattice.to_floats(newest),
        prior=state.prior if terms.definition.algorithm.has_prior else None,
        guard=state.guard,
        rounds=state.rounds,
        own_head=state.own_head if can_have_own_head(terms.definition) else None,
        asked_for_own_head=state.asked_for_own_head,
    )


def after_head_round(state: AgentState, terms: Terms, outcome: TrainingOutcome) -> AgentState:
    """The state with the head of a round that trained nothing else: nothing is to be sent.

    ``trained_on`` stays, so that the same model is trained on in full once there is budget.
    """
    return with_changes(state, **_what_every_round_leaves(state, terms, outcome))


def after_round(
    state: AgentState,
    terms: Terms,
    outcome: TrainingOutcome,
    *,
    report_score: bool,
    want: int = 0,
    kept_factor: Callable[[int], float] = everything,
) -> AgentState:
    """The state with the round's head, memory and UPDATE; the dual waits for the verdict.

    Args:
        state: as it was when the round began.
        terms: of the federation.
        outcome: of the round on ``state.model``.
        report_score: whether the update carries the score.
        want: bytes of the next model that the coordinator may send by itself.
        kept_factor: asked with the UPDATE's bytes at the usual share; what part of them to send,
            in (0, 1].  A dense change is sent whole.

    Raises:
        SaturationError: the numbers are not finite or too large for the lattice.
        ValueError: no model was fetched yet.
    """
    if state.model is None or state.model_name is None:
        raise ValueError("no model was trained on")
    lattice, algorithm = terms.lattice, terms.definition.algorithm
    base = lattice.to_floats(state.model)
    wanted = wanted_change(algorithm, state.memory, base, outcome.shared)
    compression = terms.definition.compression
    need = need_after(state.need, compression, outcome.start_loss)
    change, encoded = _made(lattice, compression, need.keep, wanted)
    factor = kept_factor(ENVELOPE_BYTES + len(encoded))
    if shrinks(compression) and factor < 1:
        keep = need.keep * part_of_keep(factor)
        change, encoded = _made(lattice, compression, keep, wanted)
    dual = state.dual
    if algorithm.has_duals:
        dual = check_magnitude(state.dual_after(lattice, change))
    pace, others = terms.definition.schedule.pace, OTHERS_AT_LEAST.get(algorithm.mode, 0.0)
    update = Update(
        base=state.model_name,
        incarnation=state.incarnation,
        seq=state.applied_seq + 1,
        weight=outcome.n_samples if algorithm.weighting == "rows" else 1,
        definition=terms.digest[:8],
        dual_check=0 if dual is None else upper_half(checksum(dual)),
        score=outcome.score if report_score else None,
        want=want,
        others=others_wanted(need, pace, others) if want else 0,
    )
    return with_changes(
        state,
        memory=memory_after(lattice, algorithm, wanted, change),
        need=need,
        outstanding=wire.encode(update, encoded),
        trained_on=state.model_name,
        **_what_every_round_leaves(state, terms, outcome),
    )


def _made(
    lattice: Lattice, compression: Compression, keep: float, wanted: Changes
) -> tuple[Integers, bytes]:
    if compression.kind == "low-rank":
        parts = factored(lattice, compression.bits, keep, wanted)
        return check_magnitude(whole(parts)), encode_factors(parts, lattice)
    change = selected(lattice, compression, keep, wanted)
    return change, encode_integers(change, lattice, compression.coding)


def _what_every_round_leaves(
    state: AgentState, terms: Terms, outcome: TrainingOutcome
) -> dict[str, Any]:
    guard = state.guard
    if outcome.fresh is not None:
        guard = after_comparison(guard, newest_model(state, terms.definition), outcome.fresh)
    same_rows = outcome.data_fingerprint == state.data_fingerprint
    return {
        "head": outcome.head,
        "prior": outcome.prior,
        "guard": guard,
        "own_head": outcome.own_head,
        "asked_for_own_head": outcome.asked_for_own_head,
        "rounds": state.rounds + 1,
        "rounds_on_these_rows": state.rounds_on_these_rows + 1 if same_rows else 1,
        "data_fingerprint": outcome.data_fingerprint,
        "loss": outcome.loss,
        "score": outcome.score,
        "n_samples": outcome.n_samples,
    }


def model_wanted(outstanding: bytes) -> Want | None:
    """What an update asks for of the model after it."""
    message = wire.decode_own(outstanding, Kind.UPDATE).message
    if not isinstance(message, Update) or not message.want:
        return None
    return Want(have=message.base, window=message.want, others=message.others)
