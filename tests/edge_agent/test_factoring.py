"""What of a change is sent as factors: what is worth most for its numbers, in few bits."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.shared.test_low_rank import lattice_of

from plantfed_agent.factoring import factored
from plantfed_shared.lattice import Lattice, SaturationError
from plantfed_shared.low_rank import Factors, whole

UNIT = 2.0**-16


def change_of(lattice: Lattice, seed: int, rank: int, noise: float = 0.0) -> np.ndarray:
    """Parameter units: every matrix of low rank, with some noise."""
    rng = np.random.RandomState(seed)
    tensors = []
    for rows, columns in lattice.shapes:
        tensor = rng.standard_normal((rows, rank)) @ rng.standard_normal((rank, columns))
        tensors.append(0.01 * (tensor + noise * rng.standard_normal((rows, columns))).ravel())
    return np.concatenate(tensors)


def left_over(lattice: Lattice, bits: int, keep: float, wanted: np.ndarray) -> float:
    """Part of the square of a change that is not sent."""
    sent = lattice.transmitted_change(whole(factored(lattice, bits, keep, wanted)))
    return float(((wanted - sent) ** 2).sum() / (wanted**2).sum())


@given(st.integers(0, 99), st.sampled_from([3, 4, 6, 8]), st.floats(0.001, 1))
def test_it_stays_within_its_bits_and_numbers(seed, bits, keep):
    lattice = lattice_of((30, 20), (1, 20), (20, 6))
    parts = factored(lattice, bits, keep, change_of(lattice, seed, 3, 1.0))
    numbers = 0
    for part in parts:
        if not isinstance(part, Factors):
            numbers += part.size
            continue
        numbers += part.left.size + part.right.size
        for factor in (part.left, part.right):
            assert np.abs(factor).max(initial=0) < 2 ** (bits - 1)
    # a term is taken where half of it is within the budget, and one in any case
    assert numbers <= max(keep * lattice.size + 25, 20 + 50)


@given(st.integers(0, 99))
def test_more_numbers_and_more_bits_leave_less(seed):
    lattice = lattice_of((40, 30), (1, 30), (30, 10))
    wanted = change_of(lattice, seed, 4, 0.3)
    by_keep = [left_over(lattice, 4, keep, wanted) for keep in (0.05, 0.15, 0.3, 0.6)]
    assert all(more < less for less, more in pairwise(by_keep))
    assert left_over(lattice, 8, 0.3, wanted) < left_over(lattice, 3, 0.3, wanted)


def test_a_matrix_of_rank_one_takes_one_term_and_the_one_that_matters_gets_it():
    lattice = lattice_of((50, 40), (50, 40))
    wanted = change_of(lattice, 1, 1)
    wanted[:2000] *= 0.001
    small, large = factored(lattice, 8, 0.02, wanted)
    assert isinstance(small, Factors)
    assert isinstance(large, Factors)
    assert len(large.shifts) == 1
    assert len(small.shifts) == 0
    assert left_over(lattice, 8, 0.02, wanted) < 1e-3


def test_it_says_more_in_as_many_bytes_as_the_largest_elements():
    """Against what top-k keeps at its best: every kept element exact."""
    lattice = lattice_of((100, 60))
    wanted = change_of(lattice, 3, 5, 0.5)
    # 600 numbers of 2 bits are shorter than 120 places and values of 10 and more
    kept = np.sort(wanted**2)[::-1][:120].sum() / (wanted**2).sum()
    assert 1 - left_over(lattice, 3, 0.1, wanted) > 2 * kept


def test_nothing_is_nothing_and_too_much_is_refused():
    lattice = lattice_of((5, 4), (1, 4))
    assert whole(factored(lattice, 4, 0.5, np.zeros(24))).tolist() == [0] * 24
    for bad in (np.nan, np.inf, 2.0**20):
        wanted = np.zeros(24)
        wanted[3] = bad
        with pytest.raises(SaturationError):
            factored(lattice, 4, 0.5, wanted)


def test_a_change_below_what_can_be_said_waits_in_the_memory():
    lattice = lattice_of((5, 4))
    wanted = np.full(20, 0.4 * UNIT)
    assert not whole(factored(lattice, 4, 0.5, wanted)).any()
