"""How much of the mean of the duals a release of mode auto counts."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plantfed_coordinator.contribution import Contribution, Staleness
from plantfed_coordinator.fresh_mean import ONE, FreshMean, bearable_share
from plantfed_shared.lattice import Integers

DRIFT = np.array([200, -100, 100])


@pytest.mark.parametrize(
    ("members", "change", "g"),
    [
        # magnitudes of W / N add up to 400, of the change to 2 |change|: 10 / 4 of them or all
        (4, 80, Fraction(1)),
        (4, 60, Fraction(3, 4)),
        (4, -60, Fraction(3, 4)),
        (4, 40, Fraction(1, 2)),
        (4, 0, Fraction(1, 2)),
        (40, 200, Fraction(1)),
        (40, 150, Fraction(3, 4)),
    ],
)
def test_where_nobody_pulls_back_the_dual_of_one_that_is_away_drags_less(
    members: int, change: int, g: Fraction
) -> None:
    start = np.array([1000, -7, 0])
    consensus = consensus_that_drifts(start, members, np.array([change, -change, 0]))
    assert bearable_share(DRIFT, np.array([change, -change, 0]), -(-ONE // members)) == g * ONE
    moved = consensus.release(start) - start - [change, -change, 0]
    # one of them has come: that part of the way to g
    share = 1 - (1 - g) / members
    assert moved.tolist() == [round(share * int(each)) for each in DRIFT]


def test_less_of_what_drags_counts_from_turnover_to_turnover_and_all_again_when_it_is_over() -> (
    None
):
    start, share = np.zeros(3, dtype=np.int64), Fraction(1)
    consensus = consensus_that_drifts(start, 4, start)
    for _ in range(12):
        model, share = consensus.release(start), share + (Fraction(1, 2) - share) / 4
        assert (abs(model - [share * int(each) for each in DRIFT]) <= Fraction(51, 100)).all()
        arrive_again(consensus, start, start)
    assert share < Fraction(52, 100)
    for _ in range(60):
        arrive_again(consensus, start, np.array([1000, 0, 0]))
        consensus.release(start)
    assert consensus.dual_share + ONE // 2 >> 14 == ONE


def test_what_counts_of_the_duals_moves_by_the_weight_of_those_who_came() -> None:
    start, share, two = np.zeros(3, dtype=np.int64), 2**28, -(-2 * ONE // 10)
    consensus, neutral = FreshMean(start), Contribution.neutral(start)
    for weight in (2, 3):
        consensus.join(replace(neutral, weight=weight))
    consensus.join(replace(neutral, weight=5, dual=10 * DRIFT))
    came = replace(neutral, weight=2)
    for _ in range(3):
        consensus.arrive("a", came, came, Staleness(0, 0))
        consensus.release(start)
        share += two * (2**27 - share) // ONE
        assert consensus.dual_share == share


def test_who_joins_or_leaves_or_does_not_come_leaves_what_counts_of_the_duals() -> None:
    start = np.zeros(3, dtype=np.int64)
    consensus, neutral = consensus_that_drifts(start, 4, start), Contribution.neutral(start)
    consensus.release(start)
    share = consensus.dual_share
    assert share == 7 * 2**25
    consensus.release(start)
    consensus.join(neutral)
    consensus.leave("b", neutral)
    assert consensus.dual_share == share


def consensus_that_drifts(start: Integers, members: int, change: Integers) -> FreshMean:
    """One has come and one is away; W / N is DRIFT."""
    consensus, neutral = FreshMean(start), Contribution.neutral(start)
    for _ in range(members - 1):
        consensus.join(neutral)
    consensus.join(replace(neutral, dual=members * DRIFT - change))
    arrived = consensus.next_contribution(neutral, start, change, 1)
    consensus.arrive("a", neutral, arrived, Staleness(0, 0))
    return consensus


def arrive_again(consensus: FreshMean, start: Integers, move: Integers) -> None:
    same = replace(Contribution.neutral(start), z=start + move)
    consensus.arrive("a", same, same, Staleness(0, 0))


def test_what_was_held_is_not_made_up_for_when_nobody_comes() -> None:
    """Whoever leaves, and an epoch that begins, moves the model by what it changes of W / N."""
    start = np.zeros(3, dtype=np.int64)
    consensus = consensus_that_drifts(start, 4, np.array([0, 0, 0]))
    held = consensus.release(start)
    assert held.tolist() == [175, -88, 88]
    assert (consensus.release(held) == held).all()
    consensus.leave("b", Contribution.neutral(start))
    grown = np.array([round(Fraction(4 * int(x), 3)) - int(x) for x in DRIFT])
    assert (consensus.release(held) == held + grown).all()


vectors = st.lists(st.integers(-(2**29), 2**29), min_size=3, max_size=3).map(np.array)


@settings(max_examples=50, deadline=None)
@given(vectors, vectors, st.integers(1, ONE))
def test_no_dual_is_turned_or_more_than_halved(dual: Integers, move: Integers, part: int) -> None:
    """So a model rests only where they add up to nothing (in steps), as without it."""
    assert ONE // 2 <= bearable_share(dual, move, part) <= ONE
    assert bearable_share(dual, dual, part) == ONE
