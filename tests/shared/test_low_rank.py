"""Changes as factors of matrices: every product comes back, everything else is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.shared.vectors import int64

from plantfed_shared import entropy_codec, low_rank
from plantfed_shared.bit_streams import BitWriter
from plantfed_shared.codec import (
    FACTORS,
    decode_integers,
    encode_factors,
    largest_encoding_bytes,
)
from plantfed_shared.errors import PeerError
from plantfed_shared.lattice import MAX_MAGNITUDE, Lattice
from plantfed_shared.low_rank import MAX_FACTOR, Factors, Part, most_terms, whole
from plantfed_shared.subset_code import write_subset

shapes = st.tuples(st.integers(1, 12), st.integers(1, 12))


def lattice_of(*of_tensors: tuple[int, int]) -> Lattice:
    sizes = tuple(rows * columns for rows, columns in of_tensors)
    return Lattice(sizes, (16,) * len(sizes), rows=tuple(rows for rows, _ in of_tensors))


def drawn(draw, size: int, largest: int) -> np.ndarray:
    return int64(draw(st.lists(st.integers(-largest, largest), min_size=size, max_size=size)))


@st.composite
def factored_changes(draw) -> tuple[Lattice, list[Part]]:
    """Some matrices and vectors, the products within what a lattice holds."""
    lattice = lattice_of(*draw(st.lists(shapes, min_size=1, max_size=4)))
    parts: list[Part] = []
    for rows, columns in lattice.shapes:
        most = most_terms((rows, columns))
        if not most:
            parts.append(drawn(draw, rows * columns, 10**6))
            continue
        terms = draw(st.integers(0, most))
        shifts = tuple(draw(st.lists(st.integers(0, 12), min_size=terms, max_size=terms)))
        largest = draw(st.sampled_from([1, 3, 7, MAX_FACTOR]))
        left = drawn(draw, rows * terms, largest).reshape(rows, terms)
        right = drawn(draw, terms * columns, largest).reshape(terms, columns)
        left[draw(st.integers(0, rows)) : draw(st.integers(0, rows))] = 0
        left[0, ~left.any(axis=0)] = 1
        right[~right.any(axis=1), -1] = -1
        parts.append(Factors(shifts, left, right))
    return lattice, parts


@given(factored_changes())
def test_every_change_comes_back_as_the_sum_of_its_products(change):
    lattice, parts = change
    expected = [
        [
            sum(
                int(part.left[i, r]) * 2 ** part.shifts[r] * int(part.right[r, j])
                for r in range(len(part.shifts))
            )
            for i in range(rows)
            for j in range(columns)
        ]
        if isinstance(part, Factors)
        else part.tolist()
        for part, (rows, columns) in zip(parts, lattice.shapes, strict=True)
    ]
    encoded = encode_factors(parts, lattice)
    assert len(encoded) <= largest_encoding_bytes(lattice)
    decoded = decode_integers(encoded, lattice)
    assert decoded.dtype == np.int64
    assert decoded.tolist() == [x for tensor in expected for x in tensor]
    assert whole(parts).tolist() == decoded.tolist()


@given(factored_changes(), st.data())
def test_damage_is_another_vector_or_one_error(change, data):
    lattice, parts = change
    damaged = bytearray(encode_factors(parts, lattice))
    place = data.draw(st.integers(0, 8 * len(damaged) - 1))
    damaged[place // 8] ^= 1 << place % 8
    for encoded in (bytes(damaged), bytes(damaged[: data.draw(st.integers(0, len(damaged) - 1))])):
        try:
            decoded = decode_integers(encoded, lattice)
        except PeerError:
            continue
        assert decoded.shape == (lattice.size,)
        assert int(np.abs(decoded).max()) < MAX_MAGNITUDE


@given(st.lists(shapes, min_size=1, max_size=4), st.binary(max_size=60))
def test_noise_is_a_vector_or_one_error(of_tensors, noise):
    lattice = lattice_of(*of_tensors)
    try:
        decoded = decode_integers(bytes([FACTORS]) + noise, lattice)
    except PeerError:
        return
    assert decoded.shape == (lattice.size,)


def one_term(shift: int, left: list[int], right: list[int]) -> Factors:
    return Factors((shift,), int64(left).reshape(-1, 1), int64(right).reshape(1, -1))


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(one_term(29, [1, 0, 0], [2, 0, 0]), id="product too large"),
        pytest.param(one_term(0, [128, 0, 0], [1, 0, 0]), id="factor too large"),
        pytest.param(one_term(30, [1, 0, 0], [1, 0, 0]), id="shift too large"),
        pytest.param(
            Factors((0, 0), np.ones((3, 2), np.int64), np.ones((2, 3), np.int64)), id="many terms"
        ),
    ],
)
def test_what_no_change_can_be_is_refused(part):
    lattice = lattice_of((3, 3))
    with pytest.raises(PeerError):
        decode_integers(encode_factors([part], lattice), lattice)


def test_vectors_alone_have_no_factors():
    lattice = lattice_of((1, 3))
    encoded = encode_factors([int64([5, 0, -5])], lattice)
    assert decode_integers(encoded, lattice).tolist() == [5, 0, -5]
    with pytest.raises(PeerError):
        decode_integers(bytes([FACTORS]) + encoded[1:], lattice)


def test_factors_are_never_more_numbers_than_the_matrix_has():
    for rows in range(1, 40):
        for columns in range(1, 40):
            terms = most_terms((rows, columns))
            assert terms * (rows + columns) <= rows * columns
    assert most_terms((1, 10**6)) == 0
    assert most_terms((10**4, 10**4)) == low_rank.MAX_TERMS


@pytest.mark.parametrize("zero", ["left", "right"])
def test_terms_that_say_nothing_are_refused(zero: str) -> None:
    lattice = lattice_of((40, 40))
    left, right = np.ones((40, 20), dtype=np.int64), np.ones((20, 40), dtype=np.int64)
    good = Factors((0,) * 20, left, right)
    encoded = encode_factors([good], lattice)
    assert decode_integers(encoded, lattice).tolist() == [20] * 1600
    bad = Factors((0,) * 20, left * (zero != "left"), right * (zero != "right"))
    with pytest.raises(ValueError, match="zero"):
        encode_factors([bad], lattice)
    forged = forgery([0] * 20, bad, lattice)
    with pytest.raises(PeerError, match="a term of a matrix is zero"):
        decode_integers(forged, lattice)


def forgery(shifts: list[int], factors: Factors, lattice: Lattice) -> bytes:
    """One matrix as the encoder would never say it; all its rows and columns are meant."""
    writer = BitWriter()
    writer.small(len(shifts), most_terms(lattice.shapes[0]))
    writer.number(shifts[0], 5)
    writer.unary(int64([2 * d if d >= 0 else -2 * d - 1 for d in np.diff(shifts).tolist()]))
    writer.number(0, 2)
    stream = np.concatenate([factors.left.ravel(), factors.right.T.ravel()])
    entropy_codec.write_tensor(writer, stream)
    return bytes([FACTORS]) + writer.to_bytes()


def test_the_forgery_is_one_only_where_it_lies():
    lattice = lattice_of((9, 7))
    terms = Factors((3, 2, 5), np.ones((9, 3), dtype=np.int64), np.ones((3, 7), dtype=np.int64))
    assert forgery([3, 2, 5], terms, lattice) == encode_factors([terms], lattice)


@pytest.mark.parametrize("shifts", [[30, 29], [29, 30], [0, -1], [29, 60], [0, -40]])
def test_a_power_of_two_out_of_range_is_refused(shifts):
    lattice = lattice_of((9, 7))
    terms = Factors((0, 0), np.ones((9, 2), dtype=np.int64), np.ones((2, 7), dtype=np.int64))
    with pytest.raises(PeerError):
        decode_integers(forgery(shifts, terms, lattice), lattice)


@pytest.mark.parametrize(
    ("borders", "rows", "problem"),
    [([0], [1, 1, 1, 1, 0, 1, 1, 1, 1], "row"), ([], [], "term"), ([8], [0], "term|row")],
)
def test_rows_that_are_said_to_have_numbers_have_some(borders, rows, problem):
    lattice = lattice_of((9, 7))
    writer = BitWriter()
    writer.small(1, most_terms((9, 7)))
    writer.number(0, 5)
    writer.number(1, 1)
    write_subset(writer, np.isin(np.arange(9), borders))
    writer.number(0, 1)
    entropy_codec.write_tensor(writer, int64([*rows, 1, 1, 1, 1, 1, 1, 1]))
    with pytest.raises(PeerError, match=problem):
        decode_integers(bytes([FACTORS]) + writer.to_bytes(), lattice)


def test_rows_that_are_zero_side_by_side_cost_next_to_nothing():
    """As of inputs that never change: of 600 rows only 60 in the middle have numbers."""
    rng = np.random.default_rng(1)
    right = rng.integers(-3, 4, (8, 50))
    left = np.zeros((600, 8), dtype=np.int64)
    left[300:360] = rng.integers(-3, 4, (60, 8))
    large = encode_factors([Factors((0,) * 8, left, right)], lattice_of((600, 50)))
    small = encode_factors([Factors((0,) * 8, left[300:360], right)], lattice_of((60, 50)))
    assert len(large) <= len(small) + 8


def test_powers_of_two_cost_the_more_the_more_they_differ():
    left, right = np.ones((60, 20), dtype=np.int64), np.ones((20, 60), dtype=np.int64)
    lattice = lattice_of((60, 60))
    alike, falling, apart = (
        len(encode_factors([Factors(shifts, left, right)], lattice))
        for shifts in ((9,) * 20, (9,) * 10 + (8,) * 10, (0, 29) * 10)
    )
    # a bit for each that is the same, one more for each step down
    assert alike <= falling <= alike + 1
    assert apart > alike + 19 * 29 // 8
