"""Which model a machine uses; which it trains on is another question.

In most modes both have the release that it fetched last.  In mode ``auto`` a machine trains on that
and uses its average with those that its updates began from.  Where its guard has tripped it uses
what that has kept.
"""

from plantfed_agent.guard import ServedModel
from plantfed_agent.state import AgentState
from plantfed_agent.whole_model import can_have_own_head
from plantfed_shared.definition import Algorithm, FederationDefinition
from plantfed_shared.lattice import Integers, SaturationError
from plantfed_shared.own_average import average_with


def newest_integers(state: AgentState, algorithm: Algorithm) -> Integers | None:
    """Shared parameters of the newest model, int64 (shared,), lattice units; None before the first.

    Args:
        state: of the agent.
        algorithm: of the federation.
    """
    if algorithm.mode != "auto" or state.model is None or state.earlier is None:
        return state.model
    average = average_with(state.earlier, state.model, state.turnovers)
    return state.model if average is None else average.usable


def model_in_units_of(definition: FederationDefinition, state: AgentState) -> Integers | None:
    """What is used, in the units of a new definition; in the old ones it would be another model.

    Args:
        definition: of an epoch whose first model has yet to come.
        state: with the model of an epoch before, and its definition.

    Returns:
        int64 (shared,); None for none, also where a value is too large for the new units.
    """
    if state.model is None or not state.definition:
        return None
    old = FederationDefinition.from_bytes(state.definition)
    before, after = old.lattice(), definition.lattice()
    used = newest_integers(state, old.algorithm)
    if used is None or (before.bits, before.relaxation) == (after.bits, after.relaxation):
        return used
    try:
        return after.from_floats(before.to_floats(used))
    except SaturationError:
        return None


def newest_model(state: AgentState, definition: FederationDefinition) -> ServedModel:
    """What this machine uses where its guard has not tripped.

    Raises:
        ValueError: no model was fetched yet.
    """
    integers = newest_integers(state, definition.algorithm)
    if integers is None or state.model_name is None:
        raise ValueError("no model was fetched yet")
    kind = "release" if integers is state.model else "average up to release"
    return ServedModel(
        name=f"{kind} {state.model_name.k}",
        shared=definition.lattice().to_floats(integers),
        head=state.head,
        prior=state.prior if definition.algorithm.has_prior else None,
        own_head=state.own_head if can_have_own_head(definition) else None,
    )


def used_model(state: AgentState, definition: FederationDefinition) -> ServedModel | None:
    """What this machine uses; None before the first model."""
    if state.guard is not None and state.guard.tripped:
        return state.guard.kept
    return None if state.model is None else newest_model(state, definition)
