"""From a state to a local round, and from its outcome to the update that is sent: pure."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from plantfed_agent.state import AgentState, with_changes
from plantfed_agent.training import TrainingOutcome, TrainingTask
from plantfed_shared import wire
from plantfed_shared.codec import encode_dense
from plantfed_shared.definition import Algorithm
from plantfed_shared.lattice import Floats, Integers, Lattice, check_magnitude, checksum
from plantfed_shared.messages import Update
from plantfed_shared.terms import Terms

ENVELOPE_BYTES = 128
"""What an UPDATE has at most besides the change."""


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
    return TrainingTask(
        agent=agent,
        seq=state.applied_seq + 1,
        base=lattice.to_floats(state.model),
        dual=lattice.to_floats(dual),
        head=state.head,
        definition=terms.definition,
        head_only=head_only,
    )


def update_bytes(state: AgentState) -> int:
    """About how long the UPDATE of the next round is; 0 before the first model."""
    if state.outstanding is not None:
        return len(state.outstanding)
    return 0 if state.model is None else ENVELOPE_BYTES + 2 * state.model.size


def model_bytes(state: AgentState) -> int:
    """About how long the next model is; 0 before the first."""
    return 0 if state.model is None else ENVELOPE_BYTES + 4 * state.model.size


def after_head_round(state: AgentState, outcome: TrainingOutcome) -> AgentState:
    """The state with the head of a round that trained nothing else: nothing is to be sent.

    ``trained_on`` stays, so that the same model is trained on in full once there is budget.
    """
    return with_changes(state, **_what_every_round_leaves(state, outcome))


def after_round(
    state: AgentState,
    terms: Terms,
    outcome: TrainingOutcome,
    *,
    report_score: bool,
) -> AgentState:
    """The state with the round's head, memory and UPDATE; the dual waits for the verdict.

    Args:
        state: as it was when the round began.
        terms: of the federation.
        outcome: of the round on ``state.model``.
        report_score: whether the update carries the score.

    Raises:
        SaturationError: the numbers are not finite or too large for the lattice.
        ValueError: no model was fetched yet.
    """
    if state.model is None or state.model_name is None:
        raise ValueError("no model was trained on")
    lattice, algorithm = terms.lattice, terms.definition.algorithm
    base = lattice.to_floats(state.model)
    sent = transmission(lattice, algorithm, state.memory, base, outcome.shared)
    dual = state.dual
    if algorithm.has_duals:
        dual = check_magnitude(state.dual_after(lattice, sent.change))
    update = Update(
        base=state.model_name,
        incarnation=state.incarnation,
        seq=state.applied_seq + 1,
        weight=outcome.n_samples if algorithm.weighting == "rows" else 1,
        definition=terms.digest[:8],
        dual_checksum=0 if dual is None else checksum(dual),
        encoding=0,
        score=outcome.score if report_score else None,
    )
    return with_changes(
        state,
        memory=sent.memory,
        outstanding=wire.encode(update, encode_dense(sent.change)),
        trained_on=state.model_name,
        **_what_every_round_leaves(state, outcome),
    )


def _what_every_round_leaves(state: AgentState, outcome: TrainingOutcome) -> dict[str, Any]:
    same_rows = outcome.data_fingerprint == state.data_fingerprint
    return {
        "head": outcome.head,
        "rounds": state.rounds + 1,
        "rounds_on_these_rows": state.rounds_on_these_rows + 1 if same_rows else 1,
        "data_fingerprint": outcome.data_fingerprint,
        "loss": outcome.loss,
        "score": outcome.score,
        "n_samples": outcome.n_samples,
    }


@dataclass(frozen=True, slots=True)
class Transmission:
    """What of a local change is sent, and what is kept for later.

    Attributes:
        change: o_i in transmission units, int64 (shared,).
        memory: e_i = d - o in parameter units, or None where beta is 0.
    """

    change: Integers
    memory: Floats | None


def transmission(
    lattice: Lattice, algorithm: Algorithm, memory: Floats | None, base: Floats, trained: Floats
) -> Transmission:
    """O = round(d / step) with d = (x - base) + beta * e, and e' = d - o * step.

    Args:
        lattice: of the shared vector.
        algorithm: has beta.
        memory: e, float32 (shared,), or None for zero.
        base: u, float32 (shared,).
        trained: x, float32 (shared,).

    Raises:
        SaturationError: the change is not finite or too large for the lattice.
    """
    wanted = trained.astype(np.float64) - base.astype(np.float64)
    if algorithm.memory and memory is not None:
        wanted = wanted + algorithm.memory * memory.astype(np.float64)
    change = lattice.change_to_transmit(wanted)
    if not algorithm.memory:
        return Transmission(change, None)
    sent = lattice.to_floats(change << lattice.relaxation.shift).astype(np.float64)
    return Transmission(change, (wanted - sent).astype(np.float32))
