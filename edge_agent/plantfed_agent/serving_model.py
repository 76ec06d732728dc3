"""Which shared parameters a machine uses; which it trains on is another question.

In most modes both are the release that it fetched last.  In mode ``auto`` a machine trains on that
and uses the average of the releases.  What decides which model is used belongs in here.
"""

from plantfed_agent.state import AgentState
from plantfed_shared.definition import Algorithm
from plantfed_shared.lattice import Integers


def served_integers(state: AgentState, algorithm: Algorithm) -> Integers | None:
    """Of the model this machine uses, int64 (shared,), lattice units; None before the first.

    Args:
        state: of the agent.
        algorithm: of the federation.
    """
    if algorithm.mode == "auto" and state.average is not None:
        return state.average
    return state.model
