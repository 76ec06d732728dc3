"""Laws of the integer lattice: exact, independent of order, and never wrapped."""

from fractions import Fraction
from math import inf, nan

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.shared.vectors import LARGEST, int64, lattice_vectors, relaxations

from plantfed_shared.lattice import (
    BLOCK,
    MAX_BITS,
    MAX_MAGNITUDE,
    MAX_RELAXATION_SHIFT,
    MAX_TOTAL_WEIGHT,
    Lattice,
    Relaxation,
    SaturationError,
    check_magnitude,
    checksum,
    divide_half_even,
)

bits = st.integers(0, MAX_BITS)
float32s = st.floats(width=32, allow_nan=False, allow_infinity=False)
float64s = st.floats(allow_nan=False, allow_infinity=False)


def one_number(b: int, relaxation: Relaxation = Relaxation()) -> Lattice:  # noqa: B008 - frozen
    return Lattice((1,), (b,), relaxation)


def nearest(value: float, units_per_one: int) -> int:
    """Half to even, without floats."""
    return round(Fraction(value) * units_per_one)


# ---------------------------------------------------------------- floats <-> lattice


@given(lattice_vectors(min_size=1, bound=2**24), bits, relaxations)
def test_integers_survive_the_way_through_float32(integers, b, relaxation):
    lattice = Lattice((integers.size,), (b,), relaxation)
    np.testing.assert_array_equal(lattice.from_floats(lattice.to_floats(integers)), integers)


@given(st.integers(-LARGEST, LARGEST), bits, relaxations)
def test_to_floats_is_the_nearest_float32(integer, b, relaxation):
    exact = integer / 2 ** (b + relaxation.shift)
    (value,) = one_number(b, relaxation).to_floats(int64([integer]))
    assert value.dtype == np.float32
    assert value == np.float32(exact)


@given(float32s, bits, relaxations)
@example(2.0**30 - 64, 0, Relaxation())
@example(2.0**30, 0, Relaxation())
@example(-(2.0**30), 0, Relaxation())
@example(-(2.0**18), 12, Relaxation())
@example(0.5, 0, Relaxation())
@example(1.5, 0, Relaxation())
@example(2.5, 0, Relaxation())
def test_from_floats_is_the_nearest_lattice_point_or_an_error(value, b, relaxation):
    expected = nearest(value, 2 ** (b + relaxation.shift))
    lattice = one_number(b, relaxation)
    values = np.array([value], dtype=np.float32)
    if abs(expected) < MAX_MAGNITUDE:
        assert lattice.from_floats(values).tolist() == [expected]
    else:
        with pytest.raises(SaturationError):
            lattice.from_floats(values)


@given(float64s, bits, relaxations)
@example(2.0**30 - 0.75, 0, Relaxation())
@example(2.0**30 - 0.5, 0, Relaxation())
@example(2.0**30 - 0.25, 0, Relaxation())
@example(-(2.0**30) + 0.25, 0, Relaxation())
@example(1.7e308, MAX_BITS, Relaxation())
def test_change_to_transmit_is_the_nearest_transmission_unit_or_an_error(change, b, relaxation):
    expected = nearest(change, 2**b)
    lattice = one_number(b, relaxation)
    changes = np.array([change])
    if abs(expected) < MAX_MAGNITUDE:
        assert lattice.change_to_transmit(changes).tolist() == [expected]
    else:
        with pytest.raises(SaturationError):
            lattice.change_to_transmit(changes)


@pytest.mark.parametrize("value", [nan, inf, -inf])
@pytest.mark.parametrize("place", [0, 2])
def test_what_is_not_finite_is_an_error(value, place):
    lattice = Lattice((3,), (16,))
    values = np.zeros(3)
    values[place] = value
    with pytest.raises(SaturationError):
        lattice.from_floats(values.astype(np.float32))
    with pytest.raises(SaturationError):
        lattice.change_to_transmit(values)


def test_every_tensor_has_its_own_step():
    lattice = Lattice((2, 0, 1), (1, 5, 3), Relaxation(3, 1))
    assert lattice.size == 3
    np.testing.assert_array_equal(lattice.to_floats(int64([1, -4, 1])), [0.25, -1, 0.0625])
    np.testing.assert_array_equal(lattice.from_floats(np.float32([0.25, -1, 0.0625])), [1, -4, 1])
    np.testing.assert_array_equal(
        lattice.change_to_transmit(np.array([0.5, -1, 0.125])), [1, -2, 1]
    )


@pytest.mark.parametrize(
    ("sizes", "b"), [((1,), ()), ((), (1,)), ((1, 2), (3,)), ((1,), (-1,)), ((1,), (MAX_BITS + 1,))]
)
def test_a_lattice_with_other_bits_is_refused(sizes, b):
    with pytest.raises(ValueError, match="bits"):
        Lattice(sizes, b)


# ---------------------------------------------------------------- relaxation


@given(lattice_vectors(), bits, relaxations)
def test_the_relaxed_change_is_exact(change, b, relaxation):
    lattice = Lattice((change.size,), (b,), relaxation)
    relax = Fraction(relaxation.numerator, 2**relaxation.shift)
    relaxed = lattice.relaxed(change)
    for o, w in zip(change.tolist(), relaxed.tolist(), strict=True):
        assert Fraction(w, 2 ** (b + relaxation.shift)) == relax * Fraction(o, 2**b)


@given(lattice_vectors(), bits, relaxations)
def test_what_is_transmitted_is_known_exactly(change, b, relaxation):
    lattice = Lattice((change.size,), (b,), relaxation)
    known = lattice.transmitted_change(change)
    assert [Fraction(x) for x in known.tolist()] == [Fraction(o, 2**b) for o in change.tolist()]


@given(st.integers(1, 2**20), st.integers(0, MAX_RELAXATION_SHIFT))
def test_every_relaxation_is_found_exactly(p, shift):
    found = Relaxation.from_float(p / 2**shift)
    assert Fraction(found.numerator, 2**found.shift) == Fraction(p, 2**shift)
    assert found.value == p / 2**shift
    assert found.shift == 0 or found.numerator % 2 == 1


@given(st.floats(max_value=0) | float64s.filter(lambda v: Fraction(v) * 256 % 1 != 0))
@example(1.6)
@example(2.0**-9)
@example(inf)
@example(-inf)
@example(nan)
def test_what_is_no_relaxation_is_refused(value):
    with pytest.raises(ValueError, match="p/2\\^s"):
        Relaxation.from_float(value)


# ---------------------------------------------------------------- what is released


@given(lattice_vectors(), st.integers(0, 27), relaxations)
@example(int64([LARGEST, -LARGEST, LARGEST - 3]), 2, Relaxation())
@example(int64([-6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6]), 2, Relaxation())
def test_the_nearest_vector_that_may_be_released(integers, shift, relaxation):
    lattice = Lattice((integers.size,), (16,), relaxation, release_shift=shift)
    highest = 2 ** (30 - shift) - 1
    expected = [
        max(-highest, min(round(Fraction(x, 2**shift)), highest)) * 2**shift
        for x in integers.tolist()
    ]
    released = lattice.released(integers)
    assert released.dtype == np.int64
    assert released.tolist() == expected
    check_magnitude(released)
    assert lattice.released(released).tolist() == expected
    assert lattice.released(-integers).tolist() == [-x for x in expected]


def test_without_a_coarser_release_every_vector_may_be_released():
    integers = int64([LARGEST, -1, 0])
    assert Lattice((3,), (16,)).released(integers) is integers


# ---------------------------------------------------------------- integers


@pytest.mark.parametrize("beyond", [MAX_MAGNITUDE, -MAX_MAGNITUDE, 2**63 - 1, -(2**63)])
def test_a_magnitude_of_2_to_the_30_is_an_error(beyond):
    with pytest.raises(SaturationError):
        check_magnitude(int64([0, beyond, 1]))


@given(lattice_vectors())
@example(int64([LARGEST, -LARGEST]))
def test_smaller_magnitudes_pass_unchanged(integers):
    assert check_magnitude(integers) is integers


totals = st.integers(-(2**62) + 1, 2**62 - 1)
weights = st.integers(1, MAX_TOTAL_WEIGHT - 1) | st.integers(1, 8)


@given(st.lists(totals | st.integers(-20, 20), max_size=20), weights)
@example([2**62 - 1, -(2**62) + 1], MAX_TOTAL_WEIGHT - 1)
@example([-5, -3, -1, 1, 3, 5], 2)
def test_division_rounds_as_fractions_do(total, weight):
    expected = [round(Fraction(t, weight)) for t in total]
    assert divide_half_even(int64(total), weight).tolist() == expected


@given(lattice_vectors(), st.integers(1, MAX_TOTAL_WEIGHT - 1))
def test_the_mean_of_equal_members_is_the_member(integers, weight):
    np.testing.assert_array_equal(divide_half_even(integers * weight, weight), integers)


# ---------------------------------------------------------------- checksum


def splitmix64(n: int) -> int:
    """Steele, Lea, Flood 2014, on Python integers."""
    x = n * 0x9E3779B97F4A7C15 % 2**64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return x ^ (x >> 31)


@given(lattice_vectors())
def test_checksum_is_the_documented_sum(integers):
    terms = [(splitmix64(j) | 1) * x for j, x in enumerate(integers.tolist(), start=1)]
    assert checksum(integers) == sum(terms) % 2**64


@given(
    st.integers(0, 40).flatmap(lambda n: st.tuples(*[lattice_vectors(min_size=n, max_size=n)] * 2))
)
def test_checksum_is_linear(vectors):
    x, y = vectors
    assert checksum(x + y) == (checksum(x) + checksum(y)) % 2**64
    assert checksum(-x) == -checksum(x) % 2**64
    assert checksum(np.zeros_like(x)) == 0


@given(lattice_vectors(min_size=2), st.data())
def test_checksum_is_sensitive_to_order(integers, data):
    i, j = data.draw(st.lists(st.integers(0, integers.size - 1), min_size=2, max_size=2))
    swapped = integers.copy()
    swapped[[i, j]] = integers[[j, i]]
    assert (checksum(swapped) == checksum(integers)) == (integers[i] == integers[j])


@given(lattice_vectors(min_size=1), st.data())
def test_checksum_sees_every_single_change(integers, data):
    other = integers.copy()
    place = data.draw(st.integers(0, integers.size - 1))
    other[place] += data.draw(st.integers(-(2**30), 2**30).filter(bool))
    assert checksum(other) != checksum(integers)


moves = st.integers(0, 12).flatmap(lambda log: st.integers(0, 2**log))


@given(
    st.lists(st.tuples(moves, st.integers(-(2**20), 2**20)), min_size=1, max_size=30),
    st.integers(2, 50),
)
def test_a_tensor_that_moves_fast_is_released_coarser_within_bounds(elements, steps):
    before = int64([x for _, x in elements] * 2)
    # the first tensor moves, the second stays where it is
    after = before + int64([m for m, _ in elements] + [0] * len(elements))
    lattice = Lattice((len(elements),) * 2, (16, 16), release_shift=2, coarsest_release_shift=6)
    released = lattice.released(after, before, steps)
    mean = sum(m for m, _ in elements) / len(elements)
    fitting = [shift for shift in range(2, 7) if 2**shift <= steps * mean]
    shift = max(fitting, default=2)
    moving, still = Lattice((1,), (16,), release_shift=shift), Lattice((1,), (16,), release_shift=2)
    assert released[: len(elements)].tolist() == moving.released(after[: len(elements)]).tolist()
    assert released[len(elements) :].tolist() == still.released(after[len(elements) :]).tolist()


def test_without_a_release_before_it_is_as_exact_as_it_may_be():
    lattice = Lattice((2,), (16,), release_shift=1, coarsest_release_shift=9)
    assert lattice.released(int64([1001, -3])).tolist() == [1000, -4]
    assert lattice.released(int64([1001, -3]), int64([0, 0])).tolist() == [1024, 0]


def odd_number(n: int) -> int:
    """SplitMix64 of n, made odd, in whole numbers."""
    x = n * 0x9E3779B97F4A7C15 % 2**64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return (x ^ (x >> 31)) | 1


def test_the_checksum_of_a_long_vector_is_that_of_its_definition() -> None:
    entries = {0: 5, BLOCK - 1: -7, BLOCK: 11, 2 * BLOCK: -(2**29), 2 * BLOCK + 2: 1}
    x = np.zeros(2 * BLOCK + 3, dtype=np.int64)
    x[list(entries)] = list(entries.values())
    assert checksum(x) == sum(odd_number(at + 1) * v for at, v in entries.items()) % 2**64


def test_equal_steps_give_the_numbers_that_steps_of_each_tensor_give() -> None:
    values = np.random.default_rng(0).normal(size=7).astype(np.float32)
    alike, apart = Lattice((4, 3), (9, 9)), Lattice((4, 3, 1), (9, 9, 2))
    integers = alike.from_floats(values)
    longer = apart.from_floats(np.append(values, np.float32(1)))
    assert np.array_equal(integers, longer[:7])
    assert np.array_equal(alike.to_floats(integers), apart.to_floats(longer)[:7])
    assert alike.to_floats(integers).dtype == np.float32
    change = alike.transmitted_change(integers)
    assert np.array_equal(change, apart.transmitted_change(longer)[:7])
    assert np.array_equal(alike.change_to_transmit(change), integers)
