"""The average of the releases that a machine has fetched."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantfed_agent.own_average import FRACTION_BITS, LONGEST, average_with, usable
from plantfed_agent.serving_model import newest_integers
from plantfed_agent.state import AgentState, with_model
from plantfed_shared.codec import TURNOVER
from plantfed_shared.definition import Algorithm
from plantfed_shared.lattice import MAX_MAGNITUDE, Integers
from plantfed_shared.messages import Epoch, ModelName

values = st.integers(1 - MAX_MAGNITUDE, MAX_MAGNITUDE - 1)
vectors = st.lists(values, min_size=3, max_size=3).map(lambda v: np.array(v, dtype=np.int64))
fetched = st.lists(st.tuples(st.integers(0, LONGEST), vectors), min_size=1, max_size=12)


def after(each: list[tuple[int, Integers]]) -> tuple[Integers | None, int]:
    """The average and its turnovers; each (turnovers since the one before, release)."""
    average, at = None, 1
    for passed, model in each:
        average = average_with(average, at, model, at + passed)
        at += passed
    return average, at


@given(fetched)
def test_it_is_the_backward_euler_step_in_exact_numbers(each: list[tuple[int, Integers]]) -> None:
    average, _ = after(each)
    assert average is not None
    exact = [Fraction(int(x) << FRACTION_BITS) for x in each[0][1]]
    for passed, model in each[1:]:
        share = Fraction(passed, TURNOVER + passed)
        exact = [
            Fraction(round(a + share * ((int(x) << FRACTION_BITS) - a)))
            for a, x in zip(exact, model, strict=True)
        ]
    assert average.tolist() == [int(a) for a in exact]


@given(fetched)
def test_it_never_leaves_what_it_was_made_of(each: list[tuple[int, Integers]]) -> None:
    average, _ = after(each)
    assert average is not None
    models = np.array([model for _, model in each])
    assert (usable(average) >= models.min(axis=0)).all()
    assert (usable(average) <= models.max(axis=0)).all()


def test_a_release_that_is_fetched_twice_counts_once() -> None:
    model = np.array([7, -5], dtype=np.int64)
    before = average_with(None, 0, model, 300)
    assert before is not None
    again = average_with(before, 300, model + 1000, 300)
    assert again is not None
    assert again.tolist() == before.tolist()


def test_after_a_turnover_it_has_gone_half_of_the_way() -> None:
    nothing = np.zeros(1, dtype=np.int64)
    average = average_with(nothing, 50, np.array([64], dtype=np.int64), 50 + TURNOVER)
    assert average is not None
    assert usable(average).tolist() == [32]


@pytest.mark.parametrize("turnovers", [49, 51 + LONGEST])
def test_it_begins_anew_where_the_last_release_is_far_away(turnovers: int) -> None:
    average, model = np.zeros(1, dtype=np.int64), np.array([64], dtype=np.int64)
    for before in (average, None):
        anew = average_with(before, 50, model, turnovers)
        assert anew is not None
        assert usable(anew).tolist() == [64]


def test_a_release_without_turnovers_is_used_as_it_is() -> None:
    model = np.array([64], dtype=np.int64)
    assert average_with(np.zeros(1, dtype=np.int64), 50, model, 0) is None


def named(counter: int, k: int) -> ModelName:
    return ModelName(Epoch(counter, 9), k, 0)


def used(state: AgentState) -> list[int]:
    found = newest_integers(state, Algorithm(mode="auto"))
    assert found is not None
    return [int(x) for x in found]


def test_what_is_used_is_the_release_and_those_before_it() -> None:
    model = np.array([4, 8], dtype=np.int64)
    state = with_model(AgentState(), named(1, 1), model, 256)
    assert used(state) == [4, 8]
    state = with_model(state, named(1, 2), model + 10, 512)
    assert used(state) == [9, 13]
    assert newest_integers(state, Algorithm()) is state.model
    state = with_model(state, named(1, 3), model + 10, 768)
    assert used(state) == [12, 16]  # 11.5 and 15.5, half to even


def test_it_ends_with_the_epoch_and_with_the_last_release() -> None:
    model = np.array([4, 8], dtype=np.int64)
    state = with_model(AgentState(), named(1, 1), model, 256)
    state = with_model(state, named(1, 2), model + 10, 512)
    assert used(with_model(state, named(2, 1), model, 768)) == [4, 8]
    last = with_model(state, named(1, 3), model, 0)
    assert used(last) == [4, 8]
    assert (last.earlier, last.earlier_turnovers) == (None, 0)


def test_one_that_comes_late_has_one_from_its_second_release_on() -> None:
    """However many turnovers there were before it came, or while it was away."""
    model, far = np.array([4, 8], dtype=np.int64), 3 * LONGEST
    state = with_model(AgentState(), named(1, 900), model, far)
    state = with_model(state, named(1, 901), model + 10, far + 256)
    assert used(state) == [9, 13]
    state = with_model(state, named(1, 999), model, 2 * far)
    assert used(state) == [4, 8]
    state = with_model(state, named(1, 1000), model + 10, 2 * far + 256)
    assert used(state) == [9, 13]


def test_the_first_model_of_an_epoch_is_in_no_average() -> None:
    """It may be from before anybody had trained."""
    model = np.array([4, 8], dtype=np.int64)
    state = with_model(AgentState(), named(1, 0), model, 0)
    assert used(with_model(state, named(1, 1), model + 10, 256)) == [14, 18]
