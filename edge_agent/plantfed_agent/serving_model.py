"""Which model a machine uses; which it trains on is another question.

In most modes both have the release that it fetched last.  In mode ``auto`` a machine trains on that
and uses its average with those that its updates began from.  Where its guard has tripped it uses
what that has kept.
"""

from plantfed_agent.guard import ServedModel
from plantfed_agent.state import AgentState, with_changes
from plantfed_agent.whole_model import can_have_own_head
from plantfed_shared.definition import Algorithm, FederationDefinition
from plantfed_shared.lattice import Integers, Lattice, SaturationError
from plantfed_shared.own_average import average_with

OF_BEFORE = "model of the epoch before"


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


def between_epochs(state: AgentState, definition: FederationDefinition | None) -> AgentState:
    """What is used goes on being used until the first model of the new epoch is here.

    It is no release any more, so it has no name: nothing is trained on it, and no difference from
    it is asked for.

    Args:
        state: with the model of an epoch before, and its definition.
        definition: of the new epoch, in whose units it is from now on; None where that is not here.
    """
    used = None
    if state.definition:
        old = FederationDefinition.from_bytes(state.definition)
        used = newest_integers(state, old.algorithm)
        if definition is not None and used is not None:
            used = _in_units_of(definition.lattice(), used, old.lattice())
    return with_changes(state, model=used, model_name=None, turnovers=0, earlier=None)


def _in_units_of(lattice: Lattice, model: Integers, before: Lattice) -> Integers | None:
    if (before.bits, before.relaxation) == (lattice.bits, lattice.relaxation):
        return model
    try:
        return lattice.from_floats(before.to_floats(model))
    except SaturationError:
        return None


def newest_model(state: AgentState, definition: FederationDefinition) -> ServedModel:
    """What this machine uses where its guard has not tripped.

    Raises:
        ValueError: no model was fetched yet.
    """
    integers = newest_integers(state, definition.algorithm)
    if integers is None:
        raise ValueError("no model was fetched yet")
    kind = "release" if integers is state.model else "average up to release"
    name = OF_BEFORE if state.model_name is None else f"{kind} {state.model_name.k}"
    return ServedModel(
        name=name,
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
