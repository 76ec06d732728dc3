"""What of a change is sent: as many as wanted, the largest, in few bits; the rest is remembered."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from plantfed_agent.selection import memory_after, selected, wanted_change
from plantfed_shared.definition import Algorithm, Compression
from plantfed_shared.lattice import Lattice, Relaxation, SaturationError

FEW_BITS = [4, 8]
WITH_MEMORY = Algorithm(mode="fedalt", memory=1.0)
DENSE = Compression()


def top_k(bits: int = 4) -> Compression:
    return Compression(kind="top-k", bits=bits)


def lattice_of(*sizes: int, bits: int = 16, relaxation: float = 1.0) -> Lattice:
    return Lattice(sizes, (bits,) * len(sizes), Relaxation.from_float(relaxation))


@st.composite
def changes(draw) -> tuple[Lattice, np.ndarray]:
    """In transmission units, whole numbers: then what is sent is as near as it can be said."""
    largest = draw(st.sampled_from([1, 8, 15, 31, 300, 2**17, 2**28, 2**30 - 1]))
    numbers = draw(st.lists(st.integers(-largest, largest), max_size=60))
    cuts = sorted(draw(st.lists(st.integers(0, len(numbers)), max_size=3)))
    sizes = np.diff([0, *cuts, len(numbers)]).tolist()
    return lattice_of(*sizes), np.array(numbers, dtype=np.int64)


keeps = st.floats(0, 1, exclude_min=True)


def tensors_of(lattice: Lattice, *vectors: np.ndarray) -> list[tuple[np.ndarray, ...]]:
    cuts = np.cumsum(lattice.sizes)[:-1]
    return list(zip(*(np.split(vector, cuts) for vector in vectors), strict=True))


def count_of(keep: float, size: int) -> int:
    return max(1, round(keep * size))


def step_of(sent: np.ndarray) -> int:
    """The largest power of two that all are multiples of."""
    together = int(np.bitwise_or.reduce(np.abs(sent)))
    return together & -together


# ---------------------------------------------------------------- dense


@given(changes(), keeps)
def test_dense_sends_every_number(change, keep):
    lattice, numbers = change
    np.testing.assert_array_equal(selected(lattice, DENSE, keep, numbers * 2.0**-16), numbers)


# ---------------------------------------------------------------- top-k


@given(changes(), keeps, st.sampled_from(FEW_BITS))
def test_no_more_than_wanted_are_kept_and_none_that_is_smaller_than_one_left_out(
    change, keep, bits
):
    lattice, numbers = change
    assume(numbers.size)
    sent = selected(lattice, top_k(bits), keep, numbers * 2.0**-16)
    assert sent.shape == numbers.shape
    assert sent.dtype == np.int64
    kept, left = numbers[sent != 0], numbers[sent == 0]
    assert kept.size <= count_of(keep, numbers.size)
    assert (np.sign(sent[sent != 0]) == np.sign(kept)).all()
    # all who were kept: those that are too small beside the largest of their tensor became zero
    chosen = np.argsort(-np.abs(numbers), kind="stable")[: count_of(keep, numbers.size)]
    assert set(np.flatnonzero(sent)) <= set(chosen.tolist())
    if np.unique(np.abs(numbers)).size == 1:
        assert set(np.flatnonzero(sent)) == (set(chosen.tolist()) if numbers.any() else set())
    assert left.size + kept.size == numbers.size


@given(changes(), keeps, st.sampled_from(FEW_BITS))
@example((lattice_of(3), np.array([31, 24, 1])), 1.0, 4)
@example((lattice_of(2), np.array([2**30 - 1, -(2**30) + 1])), 1.0, 4)
def test_each_tensor_is_of_few_bits_in_units_of_a_power_of_two(change, keep, bits):
    """In the smallest unit in which the largest kept one, not rounded up, has so few bits."""
    lattice, numbers = change
    assume(numbers.size)
    largest = 2 ** (bits - 1) - 1
    chosen = np.zeros_like(numbers)
    where = np.argsort(-np.abs(numbers), kind="stable")[: count_of(keep, numbers.size)]
    chosen[where] = numbers[where]
    sent = selected(lattice, top_k(bits), keep, numbers * 2.0**-16)
    for mine, exact in tensors_of(lattice, sent, chosen):
        highest = int(np.abs(exact).max(initial=0))
        unit = 1
        while highest // unit > largest:
            unit *= 2
        q = mine // unit
        assert (q * unit == mine).all()
        assert int(np.abs(q).max(initial=0)) <= largest
        for o, d in zip(mine.tolist(), exact.tolist(), strict=True):
            # those above the largest there is are cut to it, and that is less than a unit
            within = Fraction(unit, 2) if abs(d) <= largest * unit else unit - Fraction(1, 2)
            assert abs(o - d) <= within


@pytest.mark.parametrize("bits", FEW_BITS)
@pytest.mark.parametrize(
    ("keep", "kept"), [(0.001, 1), (0.1, 10), (0.2, 20), (0.204, 20), (0.206, 21), (1.0, 100)]
)
def test_how_many_are_kept(bits, keep, kept):
    """Of numbers of which none becomes zero."""
    numbers = np.random.default_rng(1).permutation(np.arange(200, 300)) * 2.0**-16
    sent = selected(lattice_of(60, 40), top_k(bits), keep, numbers)
    assert np.count_nonzero(sent) == kept
    assert set(np.flatnonzero(sent)) == set(np.argsort(-numbers)[:kept].tolist())


def test_a_tie_goes_to_the_earlier_ones():
    numbers = np.array([3, -5, 3, 3, -3, 0]) * 2.0**-16
    for keep, expected in [
        (1 / 6, [0, -5, 0, 0, 0, 0]),
        (2 / 6, [3, -5, 0, 0, 0, 0]),
        (3 / 6, [3, -5, 3, 0, 0, 0]),
        (5 / 6, [3, -5, 3, 3, -3, 0]),
    ]:
        assert selected(lattice_of(4, 2), top_k(), keep, numbers).tolist() == expected


@pytest.mark.parametrize(
    ("numbers", "sent"),
    [
        ([7, -7, 1], [7, -7, 1]),  # fits as it is
        ([8, 5, 3], [8, 4, 4]),  # units of 2, half to even
        ([14, 13, 15], [14, 12, 14]),  # 15 would be 8 units
        ([-31, 16, 2], [-28, 16, 0]),  # units of 4
        ([700, 6, -30], [640, 0, 0]),  # units of 128: 700 / 64 is above 7
    ],
)
def test_four_bits(numbers, sent):
    change = np.array(numbers) * 2.0**-16
    assert selected(lattice_of(3), top_k(4), 1.0, change).tolist() == sent


def test_each_tensor_has_a_unit_of_its_own():
    change = np.array([700, 6, 5, -6]) * 2.0**-16
    assert selected(lattice_of(1, 3), top_k(4), 1.0, change).tolist() == [640, 6, 5, -6]
    assert selected(lattice_of(2, 0, 2), top_k(4), 1.0, change).tolist() == [640, 0, 5, -6]


def test_all_kept_is_dense_in_four_bits():
    numbers = np.random.default_rng(2).normal(scale=300, size=500).round()
    sent = selected(lattice_of(500), top_k(4), 1.0, numbers * 2.0**-16)
    unit = step_of(sent)
    np.testing.assert_array_equal(sent, np.clip(np.rint(numbers / unit), -7, 7) * unit)
    assert np.count_nonzero(sent) > 250


@pytest.mark.parametrize("compression", [DENSE, top_k(4), top_k(8)], ids=lambda c: c.kind)
@pytest.mark.parametrize("sizes", [(), (0,), (3,), (2, 0, 5)])
def test_no_change_is_no_change(compression, sizes):
    lattice = lattice_of(*sizes)
    sent = selected(lattice, compression, 0.02, np.zeros(lattice.size))
    assert sent.tolist() == [0] * lattice.size


@pytest.mark.parametrize("compression", [DENSE, top_k(4)], ids=lambda c: c.kind)
@pytest.mark.parametrize("value", [np.nan, np.inf, 2.0**15])
def test_what_no_lattice_holds_is_an_error_whether_it_would_be_kept_or_not(compression, value):
    with pytest.raises(SaturationError):
        selected(lattice_of(2), compression, 0.5, np.array([value, 0.0]))


# ---------------------------------------------------------------- what is kept for later


@given(
    st.sampled_from([4, 16, 24, 28]),
    st.sampled_from([1.0, 1.5, 1.625]),
    st.lists(st.floats(-3, 3), min_size=1, max_size=30),
    st.sampled_from([DENSE, top_k(4), top_k(8)]),
    keeps,
)
@example(24, 1.0, [1.0 + 2**-24 + 2**-26], DENSE, 1.0)
def test_what_was_not_sent_is_remembered_to_the_last_bit(bits, relaxation, numbers, how, keep):
    """E' = d - o: the nearest float32 of it, so that nothing is ever lost but its rounding."""
    lattice = lattice_of(len(numbers), bits=bits, relaxation=relaxation)
    wanted = np.array(numbers)
    sent = selected(lattice, how, keep, wanted)
    memory = memory_after(lattice, WITH_MEMORY, wanted, sent)
    assert memory is not None
    assert memory.dtype == np.float32
    exact = [
        float(Fraction(d) - Fraction(o, 2**bits))
        for d, o in zip(numbers, sent.tolist(), strict=True)
    ]
    np.testing.assert_array_equal(memory, np.array(exact).astype(np.float32))


def test_without_memory_nothing_is_remembered():
    plain = Algorithm(mode="fedalt", memory=0.0)
    assert memory_after(lattice_of(1), plain, np.array([0.3]), np.array([0])) is None
    base, trained = np.float32([1.0]), np.float32([1.5])
    ghost = np.float32([9.0])
    assert wanted_change(plain, ghost, base, trained).tolist() == [0.5]


@pytest.mark.parametrize(("beta", "wanted"), [(0.5, 0.75), (1.0, 1.0)])
def test_what_was_remembered_is_wanted_again(beta, wanted):
    algorithm = Algorithm(mode="fedalt", memory=beta)
    base, trained, memory = np.float32([1.0]), np.float32([1.5]), np.float32([0.5])
    assert wanted_change(algorithm, memory, base, trained).tolist() == [wanted]
    assert wanted_change(algorithm, None, base, trained).tolist() == [0.5]


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=20), st.sampled_from(FEW_BITS))
def test_with_full_memory_all_is_sent_in_the_end(numbers, bits):
    """Of a change that is wanted once: the sum of what is sent is within a float32 of it."""
    lattice, wanted = lattice_of(len(numbers)), np.array(numbers)
    total = np.zeros(lattice.size, dtype=np.int64)
    rest = wanted
    for _ in range(200):
        sent = selected(lattice, top_k(bits), 0.3, rest)
        total += sent
        memory = memory_after(lattice, WITH_MEMORY, rest, sent)
        assert memory is not None
        rest = memory.astype(np.float64)
    assert np.abs(total * 2.0**-16 - wanted).max() <= 2.0**-17 + 1e-6
