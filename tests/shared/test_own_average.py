"""The average of the releases that a machine has worked on."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantfed_shared.codec import TURNOVER
from plantfed_shared.lattice import MAX_MAGNITUDE, Integers
from plantfed_shared.own_average import FRACTION_BITS, LONGEST, average_with, usable

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
