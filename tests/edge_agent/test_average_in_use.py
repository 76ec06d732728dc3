"""Of which releases a machine makes what it uses in mode auto."""

import numpy as np

from plantfed_agent.serving_model import newest_integers
from plantfed_agent.state import AgentState, with_applied, with_changes, with_model
from plantfed_shared.definition import Algorithm
from plantfed_shared.messages import Epoch, ModelName
from plantfed_shared.own_average import WINDOW

MODEL = np.array([4, 8], dtype=np.int64)


def named(counter: int, k: int) -> ModelName:
    return ModelName(Epoch(counter, 9), k, 0)


def used(state: AgentState) -> list[int]:
    found = newest_integers(state, Algorithm(mode="auto"))
    assert found is not None
    return [int(x) for x in found]


def fetched(state: AgentState, k: int, by: int, turnovers: int) -> AgentState:
    return with_model(state, named(1, k), MODEL + by, turnovers)


def applied(state: AgentState) -> AgentState:
    assert state.model_name is not None
    return with_applied(state, state.model_name, None)


def worked_on(state: AgentState, k: int, by: int, turnovers: int) -> AgentState:
    return applied(fetched(state, k, by, turnovers))


def test_what_is_used_is_the_release_and_those_that_updates_began_from() -> None:
    state = fetched(AgentState(), 1, 0, 256)
    assert used(state) == [4, 8]
    state = applied(state)
    assert used(state) == [4, 8]
    state = fetched(state, 2, 10, 512)
    assert used(state) == [9, 13]
    assert newest_integers(state, Algorithm()) is state.model
    assert used(applied(state)) == [9, 13]
    state = fetched(applied(state), 3, 10, 768)
    assert used(state) == [12, 16]  # 11.5 and 15.5, half to even


def test_a_release_that_no_applied_update_began_from_is_in_no_average() -> None:
    state = fetched(worked_on(AgentState(), 1, 0, 256), 2, 1000, 512)
    assert used(fetched(state, 3, 10, 512)) == [9, 13]


def test_an_update_is_counted_once_and_with_its_own_base() -> None:
    state = worked_on(AgentState(), 1, 0, 256)
    assert (state.applied_seq, state.outstanding) == (1, None)
    other = with_applied(fetched(state, 2, 10, 512), named(1, 1), None)
    assert (other.earlier and other.earlier.at, other.applied_seq) == (256, 2)
    assert used(other) == [9, 13]


def test_it_ends_with_the_epoch_and_with_the_last_release() -> None:
    state = worked_on(AgentState(), 1, 0, 256)
    assert used(with_model(state, named(2, 1), MODEL + 10, 512)) == [14, 18]
    last = fetched(state, 2, 10, 0)
    assert used(last) == [14, 18]
    assert last.earlier is None


def test_one_that_comes_late_has_one_from_its_second_release_on() -> None:
    """However many turnovers there were before it came, or while it was away."""
    far = 3 * WINDOW
    state = worked_on(AgentState(), 900, 0, far)
    state = worked_on(state, 901, 10, far + 256)
    assert used(state) == [9, 13]
    state = worked_on(state, 999, 0, 2 * far)
    assert used(state) == [4, 8]
    assert used(fetched(state, 1000, 10, 2 * far + 256)) == [9, 13]


def test_the_first_model_of_an_epoch_is_in_no_average() -> None:
    """It may be from before anybody had trained."""
    state = worked_on(AgentState(), 0, 0, 0)
    assert state.earlier is None
    assert used(fetched(state, 1, 10, 256)) == [14, 18]


def test_other_modes_have_none() -> None:
    """There no release comes with turnovers."""
    state = worked_on(worked_on(AgentState(), 1, 0, 0), 2, 10, 0)
    assert with_changes(state, model=None).earlier is None
