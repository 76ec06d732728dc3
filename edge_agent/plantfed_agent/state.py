"""What an agent keeps through restarts, and the pure steps on it."""

from dataclasses import dataclass, fields
from itertools import compress
from operator import attrgetter, is_not
from typing import Any

import numpy as np

from plantfed_agent.guard import Guard
from plantfed_agent.need import Need
from plantfed_shared.definition import FederationDefinition
from plantfed_shared.lattice import Floats, Integers, Lattice, checksum
from plantfed_shared.messages import Epoch, ModelName
from plantfed_shared.own_average import OwnAverage, average_with


@dataclass(frozen=True, slots=True)
class AgentState:
    """The durable state of one agent; written whole or not at all.

    Attributes:
        epoch: adopted last.
        incarnation: given by the coordinator, 0 before the first.
        applied_seq: of the last update known to be applied in this incarnation.
        newest: newest model seen in this epoch.
        definition: canonical bytes of the federation's definition, empty before the first.
        head: float32 (personal,); None for the initial head.
        dual: w_i in lattice units, int64 (shared,); None for zero.
        memory: e_i in parameter units, float32 (shared,); None for zero.
        need: how much of its change this machine sends; None before the first round.
        model_name: of ``model``.
        model: the shared parameters fetched last, lattice units.
        turnovers: when ``model`` was made, see :class:`plantfed_shared.codec.DecodedStep`.
        earlier: average of the releases that its applied updates began from in mode auto, see
            :mod:`plantfed_shared.own_average`; None where there are none.
        prior: float32 (classes,), added to the logits of this machine, see
            :mod:`plantfed_agent.class_prior`; None before the first round, and in other modes.
        guard: which model is used, and why; None before the first round.
        own_head: float32 (last layer,), in place of the common last layer, see
            :mod:`plantfed_agent.own_head`; None where this machine uses that.
        asked_for_own_head: rounds in succession whose rows have asked for one, where there is none.
        trained_on: the model the last finished round started from.
        outstanding: the UPDATE ``applied_seq + 1``, immutable until its verdict.
        rounds: finished since ever.
        rounds_on_these_rows: finished since the rows or the settings last changed.
        data_fingerprint: of the rows of the last round.
        loss: of the last round.
        score: of the last round, see ``TrainingOutcome``.
        n_samples: of the last round.
        failure: why the last round came to nothing; empty where it did not.
    """

    epoch: Epoch | None = None
    incarnation: int = 0
    applied_seq: int = 0
    newest: ModelName | None = None
    definition: bytes = b""
    head: Floats | None = None
    dual: Integers | None = None
    memory: Floats | None = None
    need: Need | None = None
    model_name: ModelName | None = None
    model: Integers | None = None
    turnovers: int = 0
    earlier: OwnAverage | None = None
    prior: Floats | None = None
    guard: Guard | None = None
    own_head: Floats | None = None
    asked_for_own_head: int = 0
    trained_on: ModelName | None = None
    outstanding: bytes | None = None
    rounds: int = 0
    rounds_on_these_rows: int = 0
    data_fingerprint: str = ""
    loss: float | None = None
    score: float | None = None
    n_samples: int = 0
    failure: str = ""

    @property
    def dual_checksum(self) -> int:
        """c(w_i)."""
        return 0 if self.dual is None else checksum(self.dual)

    def dual_after(self, lattice: Lattice, change: Integers) -> Integers:
        """w_i + relax * o_i."""
        relaxed = lattice.relaxed(change)
        return relaxed if self.dual is None else self.dual + relaxed


FIELD_NAMES = tuple(f.name for f in fields(AgentState))
_values = attrgetter(*FIELD_NAMES)


def with_changes(state: AgentState, **changes: Any) -> AgentState:
    """The same state with other values in some fields.

    A machine does this several times per message; ``dataclasses.replace`` takes far longer.
    """
    return AgentState(**{**dict(zip(FIELD_NAMES, _values(state), strict=True)), **changes})


def with_model(state: AgentState, name: ModelName, model: Integers, turnovers: int) -> AgentState:
    """The state with a release that was fetched.

    Args:
        state: before; without an outstanding update, or what that began from would be gone.
        name: of the release.
        model: int64 (shared,), lattice units.
        turnovers: when it was made, see :class:`plantfed_shared.codec.DecodedStep`.
    """
    here = state.model_name
    goes_on = bool(turnovers) and here is not None and here.epoch == name.epoch
    return with_changes(
        state,
        model_name=name,
        model=model,
        turnovers=turnovers,
        earlier=state.earlier if goes_on else None,
    )


def with_applied(state: AgentState, base: ModelName, dual: Integers | None) -> AgentState:
    """The state after its outstanding update was applied: what that began from is in the average.

    So the journal, which has every applied update and its base, says what a machine has used.

    Args:
        state: before.
        base: the release that the update began from.
        dual: w_i with it, int64 (shared,), lattice units; None for zero.
    """
    earlier = state.earlier
    if base == state.model_name and state.model is not None:
        earlier = average_with(earlier, state.model, state.turnovers)
    return with_changes(
        state,
        dual=dual,
        applied_seq=state.applied_seq + 1,
        outstanding=None,
        earlier=earlier,
    )


def changed_fields(before: AgentState, after: AgentState) -> frozenset[str]:
    """Names of the fields that are not the same object or value."""
    if before is after:
        return frozenset()
    replaced = compress(FIELD_NAMES, map(is_not, _values(before), _values(after)))
    return frozenset(n for n in replaced if _differs(getattr(before, n), getattr(after, n)))


_OF_ARRAYS = (np.ndarray, OwnAverage)


def _differs(before: object, after: object) -> bool:
    if isinstance(before, _OF_ARRAYS) or isinstance(after, _OF_ARRAYS):
        return True
    return before != after


def without_outstanding(state: AgentState) -> AgentState:
    """The update was not applied: its dual step never happened and the memory begins anew."""
    return with_changes(state, outstanding=None, memory=None)


def same_structure(encoded: bytes, other: FederationDefinition) -> bool:
    """Whether a stored definition has the structure of another, so that the head still fits."""
    return not encoded or FederationDefinition.from_bytes(encoded).structure() == other.structure()
