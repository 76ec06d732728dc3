"""The guard's decisions on differences, without models, files or time."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from plantfed_agent.guard import (
    FEWEST_ROWS,
    MOST_ROWS,
    FreshRows,
    Guard,
    ServedModel,
    after_comparison,
    change_in_words,
    excess_and_noise,
    standing,
)

NONE = np.zeros(0, np.float32)
KEYS = np.zeros(0, np.uint32)


def model(k: int) -> ServedModel:
    return ServedModel(f"release {k}", np.float32([k]))


def found(
    differences: Iterable[float], again: Iterable[float] = (), first_key: int = 0
) -> FreshRows:
    new = np.array(list(differences), np.float32)
    keys = np.arange(first_key, first_key + len(new), dtype=np.uint32)
    return FreshRows("files", None, keys, new, np.array(list(again), np.float32))


def begun() -> Guard:
    return after_comparison(None, model(1), FreshRows("files", KEYS, KEYS, NONE, NONE))


def mixed(worse: int, better: int, equal: int) -> list[float]:
    rows = [1.0] * worse + [-1.0] * better + [0.0] * equal
    return list(np.random.default_rng(0).permutation(rows))


def tripped() -> Guard:
    return after_comparison(begun(), model(2), found(mixed(30, 0, 30)))


def test_below_fifty_new_rows_it_is_off_and_says_so() -> None:
    guard = after_comparison(begun(), model(2), found([1.0] * (FEWEST_ROWS - 1)))
    assert not guard.tripped
    assert standing(guard) == "off: 49 of 50 new rows"
    assert standing(None) == "off: no training yet"
    assert after_comparison(guard, model(3), found([1.0])).tripped


def test_a_worse_model_trips_it_and_the_kept_one_stays() -> None:
    guard = tripped()
    assert guard.tripped
    assert guard.kept.name == "release 1"
    assert guard.check is not None
    assert guard.check.newer == "release 2"
    assert guard.check.excess == pytest.approx(0.5)
    assert guard.tripped_on is not None
    assert len(guard.tripped_on) == 60
    assert standing(guard) == "tripped: release 1 is used; 0 of 50 new rows"


@pytest.mark.parametrize("rows", [mixed(0, 0, 60), mixed(5, 6, 49), mixed(0, 30, 30)])
def test_a_model_as_good_is_kept_from_then_on(rows: list[float]) -> None:
    guard = after_comparison(begun(), model(2), found(rows))
    assert not guard.tripped
    assert guard.kept.name == "release 2"
    assert len(guard.differences) == 0


def test_in_between_it_waits_for_more_rows() -> None:
    guard = after_comparison(begun(), model(2), found(mixed(8, 6, 46)))
    assert not guard.tripped
    assert guard.kept.name == "release 1"
    assert len(guard.differences) == 60
    assert standing(guard).startswith("watching: +0.0333 against release 1 on 60 new rows")
    worse = found(mixed(24, 6, 30), first_key=60)
    again = after_comparison(guard, model(3), worse)
    assert again.tripped
    assert again.tripped_on is not None
    assert len(again.tripped_on) == 120


def test_no_more_rows_are_remembered_than_it_needs() -> None:
    guard = begun()
    for first in range(0, 4 * MOST_ROWS, 200):
        guard = replace(guard, kept=model(1))
        guard = after_comparison(guard, model(2), found(mixed(41, 39, 120), first_key=first))
        assert len(guard.keys) == len(guard.differences) <= MOST_ROWS


@pytest.mark.parametrize(("better", "recovers"), [(10, True), (9, False)])
def test_it_recovers_on_fifty_new_rows(better: int, recovers: bool) -> None:
    guard = after_comparison(tripped(), model(3), found(mixed(10, better, 30), first_key=100))
    assert guard.tripped != recovers
    few = after_comparison(tripped(), model(3), found([-1.0] * 49, first_key=100))
    assert few.tripped


def test_rows_that_spoke_against_one_model_do_not_count_against_the_next() -> None:
    guard = after_comparison(tripped(), model(3), found([1.0] * 500, first_key=100))
    assert guard.tripped
    assert not after_comparison(guard, model(4), found([0.0] * 50, first_key=600)).tripped


@pytest.mark.parametrize(
    ("again", "recovers"),
    [(mixed(0, 30, 30), True), (mixed(10, 12, 38), False), (mixed(0, 0, 60), False)],
)
def test_without_new_rows_it_recovers_where_the_newest_is_better_beyond_noise(
    again: list[float], recovers: bool
) -> None:
    guard = after_comparison(tripped(), model(3), found([], again))
    assert guard.tripped != recovers


def test_what_old_rows_say_does_not_count_against_fifty_new_ones() -> None:
    again = mixed(0, 30, 30)
    assert not after_comparison(tripped(), model(3), found([1.0] * 49, again)).tripped
    guard = after_comparison(tripped(), model(3), found([1.0] * 50, again, first_key=100))
    assert guard.tripped
    assert len(guard.differences) == 0


def test_a_recovery_says_on_which_rows() -> None:
    before = tripped()
    after = after_comparison(before, model(3), found([], mixed(0, 30, 30)))
    said = change_in_words(before, after)
    assert said is not None
    assert "on 60 rows that it had tripped on, noise" in said


def test_what_was_kept_stays_until_new_rows_confirm_another() -> None:
    guard = after_comparison(tripped(), model(3), found([], mixed(0, 30, 30)))
    assert not guard.tripped
    assert guard.kept.name == "release 1"
    assert after_comparison(guard, model(4), found(mixed(30, 0, 30))).kept.name == "release 1"
    assert after_comparison(guard, model(4), found(mixed(0, 9, 51))).kept.name == "release 4"


def test_the_log_has_one_line_for_a_trip_and_one_for_a_recovery() -> None:
    before, trip = begun(), tripped()
    still = after_comparison(trip, model(3), found([1.0] * 60, first_key=100))
    over = after_comparison(still, model(4), found([0.0] * 60, first_key=200))
    later = after_comparison(over, model(5), found([0.0] * 60, first_key=300))
    lines = [
        change_in_words(a, b)
        for a, b in ((None, before), (before, trip), (trip, still), (still, over), (over, later))
    ]
    assert lines == [
        None,
        "the guard has tripped, release 1 is used: release 2 refused: error +0.5 against release 1 "
        f"on 60 new rows, noise {excess_and_noise(np.float32(mixed(30, 0, 30)))[1]:.3g}",
        None,
        "the guard has recovered: release 4 taken: error +0 against release 1 on 60 new rows, "
        "noise 0",
        None,
    ]


# ---------------------------------------------------------------- how often it is wrong

Rng = np.random.Generator


def independent(rng: Rng, n: int) -> NDArray[np.float32]:
    """Two models of equal worth that disagree on 30 % of the rows."""
    return rng.choice([-1.0, 0.0, 1.0], n, p=[0.15, 0.7, 0.15]).astype(np.float32)


def alike(rng: Rng, n: int) -> NDArray[np.float32]:
    """As above, where a row resembles the one before it: an AR(1) of 0.7, cut in three."""
    noise, level = rng.normal(size=n), np.empty(n)
    level[0] = noise[0]
    for i in range(1, n):
        level[i] = 0.7 * level[i - 1] + np.sqrt(1 - 0.7**2) * noise[i]
    return (np.sign(level) * (np.abs(level) > 1.036)).astype(np.float32)


def losses(rng: Rng, n: int) -> NDArray[np.float32]:
    """Differences of squared errors, which have heavy tails."""
    errors = rng.standard_t(4, (2, n)) ** 2
    return (errors[0] - errors[1]).astype(np.float32)


Draw = Callable[[Rng, int], NDArray[np.float32]]


def worse_by(excess: float) -> Draw:
    """One model is right on 5 % of the rows where the other is wrong, which is right on more."""
    odds = [0.05, 0.9 - excess, 0.05 + excess]
    return lambda rng, n: rng.choice([-1.0, 0.0, 1.0], n, p=odds).astype(np.float32)


@pytest.mark.parametrize(("draw", "rate"), [(independent, 0.015), (losses, 0.015), (alike, 0.05)])
@pytest.mark.parametrize("n", [50, 200])
def test_one_look_at_equal_models_finds_a_difference_rarely(
    draw: Draw, rate: float, n: int
) -> None:
    rng = np.random.default_rng(5)
    looks = [excess_and_noise(draw(rng, n)) for _ in range(2000)]
    assert sum(excess > noise for excess, noise in looks) / 2000 <= rate


def test_where_rows_resemble_each_other_counting_them_one_by_one_would_not_do() -> None:
    rng = np.random.default_rng(5)
    looks = [alike(rng, 50) for _ in range(500)]
    errors = [2 * d.std(ddof=1) / np.sqrt(50) for d in looks]
    assert np.mean([d.mean() > e for d, e in zip(looks, errors, strict=True)]) > 0.1


@pytest.mark.parametrize(("draw", "rate"), [(independent, 0.02), (losses, 0.015), (alike, 0.05)])
def test_a_stream_of_equal_models_trips_it_rarely_and_not_for_long(draw: Draw, rate: float) -> None:
    """Twenty machines, a hundred times sixty new rows each: as often as not the older one wins."""
    trips = tripped_for = 0
    for seed in range(20):
        rng, guard = np.random.default_rng(seed), begun()
        for batch in range(100):
            before = guard
            rows = found(draw(rng, 60), first_key=60 * batch)
            guard = after_comparison(guard, model(batch + 2), rows)
            trips += guard.tripped and not before.tripped
            tripped_for += guard.tripped
    assert 0 < trips / 2000 <= rate
    assert tripped_for <= 3 * trips


@pytest.mark.parametrize(("excess", "caught"), [(0.1, 0.9), (0.2, 0.99)])
def test_a_worse_model_trips_it_sooner_or_later(excess: float, caught: float) -> None:
    """By sixty new rows at a time, before one of them is taken for as good."""
    trips = 0
    for seed in range(200):
        rng, guard = np.random.default_rng(seed), begun()
        while not guard.tripped and guard.kept.name == "release 1":
            guard = after_comparison(guard, model(2), found(worse_by(excess)(rng, 60)))
        trips += guard.tripped
    assert trips / 200 >= caught
