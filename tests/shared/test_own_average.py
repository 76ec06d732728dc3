"""The average of the releases that a machine has worked on."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantfed_shared.codec import TURNOVER
from plantfed_shared.lattice import MAX_MAGNITUDE, Integers
from plantfed_shared.own_average import (
    FRACTION_BITS,
    OVERLAP,
    WINDOW,
    OwnAverage,
    average_with,
    goes_back_to,
)

values = st.integers(1 - MAX_MAGNITUDE, MAX_MAGNITUDE - 1)
vectors = st.lists(values, min_size=3, max_size=3).map(lambda v: np.array(v, dtype=np.int64))
steps = st.one_of(st.integers(0, 4 * TURNOVER), st.integers(0, WINDOW))
worked_on = st.lists(st.tuples(steps, vectors), min_size=1, max_size=40)
Each = list[tuple[int, Integers]]
"""Turnovers since the one before, and the release."""


def after(each: Each, begin: int = 1) -> OwnAverage:
    average, at = None, begin
    for passed, model in each:
        at += passed
        average = average_with(average, model, at)
    assert average is not None
    return average


def one(value: int) -> Integers:
    return np.array([value], dtype=np.int64)


def in_exact_numbers(each: Each) -> list[int]:
    """With no window; numbers are rounded after each release, half to even."""
    exact = [Fraction(int(x) << FRACTION_BITS) for x in each[0][1]]
    for passed, model in each[1:]:
        share = Fraction(passed, TURNOVER + passed)
        exact = [
            Fraction(round(a + share * ((int(x) << FRACTION_BITS) - a)))
            for a, x in zip(exact, model, strict=True)
        ]
    return [int(a) for a in exact]


@given(worked_on)
def test_within_a_window_it_is_the_backward_euler_step_in_exact_numbers(each: Each) -> None:
    at = 1
    within = [step for step in each if (at := at + step[0]) < WINDOW]
    if within:
        assert after(within).value.tolist() == in_exact_numbers(within)


@given(worked_on, st.integers(0, 3 * WINDOW))
def test_it_never_leaves_what_it_was_made_of(each: Each, begin: int) -> None:
    average, models = after(each, begin + 1), np.array([model for _, model in each])
    assert (average.usable >= models.min(axis=0)).all()
    assert (average.usable <= models.max(axis=0)).all()


@given(worked_on, worked_on, worked_on, st.tuples(*[st.integers(0, WINDOW)] * 3))
def test_what_is_older_than_it_goes_back_makes_no_difference(
    one_past: Each, other_past: Each, each: Each, offsets: tuple[int, int, int]
) -> None:
    """Whatever it was before, and whenever that ended."""
    at = 200 * WINDOW + offsets[0]
    averages: list[OwnAverage | None] = [
        after(past, at - ago - sum(step for step, _ in past))
        for past, ago in zip((one_past, other_past), offsets[1:], strict=True)
    ]
    first = at + each[0][0]
    for passed, model in each:
        at += passed
        averages = [average_with(average, model, at) for average in averages]
        assert goes_back_to(at) >= at - WINDOW - OVERLAP
        if first < goes_back_to(at):
            one_value, other_value = (a.value.tolist() for a in averages if a is not None)
            assert one_value == other_value


def test_a_successor_takes_over_once_it_is_old_enough() -> None:
    """In small steps: what went before leaves no trace, and nothing jumps."""
    average, seen = average_with(None, one(-(2**20)), 1), []
    for at in range(2, 2 * WINDOW, TURNOVER // 2):
        average = average_with(average, one(2**20), at)
        assert average is not None
        seen.append((at, average.successor is not None))
    young = [at for at, has_successor in seen if has_successor]
    assert young[0] - WINDOW < TURNOVER
    assert WINDOW + OVERLAP - young[-1] < TURNOVER
    assert average is not None
    assert average.usable.tolist() == [2**20]
    assert average.value.tolist() == [2**20 << FRACTION_BITS]


def test_one_that_comes_seldom_has_a_successor_from_window_to_window() -> None:
    """Never there when one is old enough, so that one of the window before takes over."""
    average = average_with(None, one(-(2**20)), 1)
    for window in range(1, 5):
        average = average_with(average, one(0), window * WINDOW)
        assert average is not None
        assert average.successor is not None
        # the weight of one that was a window ago
        assert -(2**20) / 64 < average.usable[0] < 0 if window == 1 else average.usable[0] == 0


def test_a_release_that_is_worked_on_twice_counts_once() -> None:
    before = average_with(None, np.array([7, -5], dtype=np.int64), 300)
    assert before is not None
    again = average_with(before, np.array([1007, 995], dtype=np.int64), 300)
    assert again is not None
    assert again.value.tolist() == before.value.tolist()


def test_after_a_turnover_it_has_gone_half_of_the_way() -> None:
    average = average_with(OwnAverage(one(0), 50), one(64), 50 + TURNOVER)
    assert average is not None
    assert average.usable.tolist() == [32]


@pytest.mark.parametrize("turnovers", [49, 51 + WINDOW])
def test_it_begins_anew_where_the_last_release_is_far_away(turnovers: int) -> None:
    for before in (OwnAverage(one(0), 50, one(5)), None):
        anew = average_with(before, one(64), turnovers)
        assert anew is not None
        assert (anew.usable.tolist(), anew.successor) == ([64], None)


def test_a_release_without_turnovers_is_used_as_it_is() -> None:
    assert average_with(OwnAverage(one(0), 50), one(64), 0) is None
