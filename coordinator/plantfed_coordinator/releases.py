"""When the next model is released: pure decisions on the state."""

from collections.abc import Callable, Sequence

import numpy as np

from plantfed_coordinator.state import FederationState

Selector = Callable[[int, int, int, Sequence[str], float], tuple[str, ...]]
"""(seed, k, attempt, sorted members, participation) -> members of the round."""


def draw_participants(
    seed: int, k: int, attempt: int, members: Sequence[str], participation: float
) -> tuple[str, ...]:
    """``int(participation * m)`` members, at least one, from a stream frozen by NEP 19."""
    rng = np.random.RandomState([seed, k, attempt])
    count = max(int(participation * len(members)), 1)
    return tuple(members[i] for i in rng.choice(len(members), count, replace=False))


def arrivals_wanted(state: FederationState, live: int) -> int:
    """Distinct arrivals after which an asynchronous release is made.

    Args:
        state: of the federation.
        live: members heard of lately.
    """
    wanted = state.terms.definition.schedule.arrivals or max(1, live // 8)
    return max(1, min(wanted, live))


def release_is_allowed(state: FederationState) -> bool:
    """Whether there is something to release and the federation still releases."""
    enough = len(state.members) >= state.terms.definition.schedule.min_members
    return state.changed and not state.final and enough


def round_is_answered(state: FederationState) -> bool:
    """Whether all drawn members of the open round have answered, and somebody has."""
    opened = state.round
    return opened is not None and bool(opened.answered) and opened.answered >= set(opened.drawn)


def round_can_open(state: FederationState) -> bool:
    """Whether a synchronous round is due: none is open, and enough members have joined."""
    schedule = state.terms.definition.schedule
    if schedule.kind != "sync" or state.final or state.round is not None:
        return False
    return len(state.members) >= schedule.min_members
