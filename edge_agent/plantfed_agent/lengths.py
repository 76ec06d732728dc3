"""About how many bytes the next update and the next model take, for the link's budget: pure."""

from collections.abc import Callable
from math import ceil, log2

from plantfed_agent.state import AgentState
from plantfed_shared.definition import Compression
from plantfed_shared.low_rank import fewest_numbers
from plantfed_shared.terms import terms_of

AROUND_BYTES = 100
"""Of an UPDATE or a model besides its integers, and of what the codec says before them."""
PLAIN_BYTES = 4
DENSE_BYTES = 1.5
"""A number, entropy-coded; simulated and measured it is 1.2 to 1.6."""
SPARED_BITS = 0.9
"""Of a factor, by entropy coding: measured at 3 and 4 bits."""


def usual_update_bytes(state: AgentState) -> int:
    """About how long the next UPDATE is with the usual share of the change; 0 before a model."""
    if state.model is None or not state.definition:
        return 0
    compression = terms_of(state.definition).definition.compression
    keep = compression.keep if state.need is None else state.need.keep
    return _content_bytes(state.model.size, compression, max(keep, _least(state)))


def next_update_bytes(
    state: AgentState, kept_factor: Callable[[int], float], usual_bytes: int | None = None
) -> int:
    """About how long the next UPDATE is, made as small as the budget wants it.

    Args:
        state: of the agent.
        kept_factor: see :meth:`plantfed_agent.budget.LinkBudget.kept_factor`.
        usual_bytes: of the last one with the usual share, where it is known.
    """
    if state.outstanding is not None:
        return len(state.outstanding)
    usual = usual_update_bytes(state) if usual_bytes is None else usual_bytes
    if not state.definition or not shrinks(terms_of(state.definition).definition.compression):
        return usual
    fewest = _content_bytes(
        _size(state), terms_of(state.definition).definition.compression, _least(state)
    )
    return min(usual, max(fewest, ceil(usual * kept_factor(usual))))


def model_bytes(state: AgentState) -> int:
    """About how long the difference to the next model is; 0 before the first model."""
    if state.model is None or not state.definition:
        return 0
    definition = terms_of(state.definition).definition
    keep = definition.compression.keep if state.need is None else state.need.keep
    if definition.compression.kind == "low-rank":
        return AROUND_BYTES + ceil(DENSE_BYTES * state.model.size)
    together = min(1.0, keep * max(1, definition.schedule.arrivals))
    return _content_bytes(state.model.size, definition.compression, together)


def part_of_keep(factor: float) -> float:
    """What to multiply ``keep`` by so that an update takes at most so much of its bytes.

    A smaller part takes more bits for each of its positions: log2(1 / keep) and some.

    Args:
        factor: in (0, 1].
    """
    return factor / (1 + log2(1 / factor) / 4)


def shrinks(compression: Compression) -> bool:
    """Whether less of a change takes fewer bytes."""
    return compression.kind != "dense" and compression.coding == "entropy"


def _size(state: AgentState) -> int:
    return 0 if state.model is None else state.model.size


def _least(state: AgentState) -> float:
    """Part of the parameters that is sent in any case."""
    terms = terms_of(state.definition) if state.definition else None
    if terms is None or terms.definition.compression.kind != "low-rank" or not terms.lattice.size:
        return 0.0
    return min(1.0, fewest_numbers(terms.lattice) / terms.lattice.size)


def _content_bytes(size: int, compression: Compression, keep: float) -> int:
    if compression.coding == "plain":
        return AROUND_BYTES + PLAIN_BYTES * size
    dense = DENSE_BYTES * size
    if compression.kind == "top-k":
        dense = min(dense, size * keep * (log2(1 / keep) + compression.bits) / 8) if keep else 0.0
    elif compression.kind == "low-rank":
        dense = min(dense, size * keep * (compression.bits - SPARED_BITS) / 8)
    return AROUND_BYTES + ceil(dense)
