"""The entropy codec: every vector comes back, in few bytes; everything else is refused."""

import json
from math import comb, log2
from time import process_time

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.shared import golden_entropy
from tests.shared.vectors import LARGEST, int64, lattice_vectors

from plantfed_shared.bit_streams import BitWriter
from plantfed_shared.entropy_codec import (
    LAYOUT_BITS,
    SHIFT_BITS,
    SMALLEST_IN_BLOCKS,
    decode,
    encode,
)
from plantfed_shared.errors import PeerError
from plantfed_shared.lattice import MAX_MAGNITUDE, Integers
from plantfed_shared.subset_code import PRECISION_BITS, write_numbers, write_subset

Case = tuple[Integers, list[int]]

one_tensor = st.one_of(
    st.sampled_from([1, 2, 7, 127, 2**20, LARGEST]).flatmap(lambda b: lattice_vectors(bound=b)),
    st.builds(
        lambda n, place, x: int64([x if i == place % n else 0 for i in range(n)]),
        st.integers(1, 300),
        st.integers(-1, 300),
        st.integers(-LARGEST, LARGEST),
    ),
    st.builds(lambda n, x: int64([x] * n), st.integers(0, 100), st.integers(-LARGEST, LARGEST)),
    st.builds(
        lambda seed, n, share, scale, shift: _drawn(seed, n, share, scale) << shift,
        st.integers(0, 2**32 - 1),
        st.integers(1, 2000),
        st.floats(0, 1),
        st.floats(0.1, 1000),
        st.integers(0, 14),
    ),
)


def _drawn(seed: int, n: int, share: float, scale: float) -> Integers:
    rng = np.random.default_rng(seed)
    values = rng.laplace(scale=scale, size=n) * (rng.random(n) < share)
    return values.clip(-(2**15), 2**15).round().astype(np.int64)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    tensors = draw(st.lists(one_tensor, max_size=4))
    return np.concatenate([int64([]), *tensors]), [t.size for t in tensors]


@given(cases())
def test_every_vector_comes_back(case):
    integers, sizes = case
    encoded = encode(integers, sizes)
    decoded = decode(encoded, sizes)
    assert decoded.dtype == np.int64
    np.testing.assert_array_equal(decoded, integers)
    np.testing.assert_array_equal(decode(memoryview(encoded), sizes), integers)
    assert encode(integers.copy(), tuple(sizes)) == encoded
    decoded += 1  # its own memory


@pytest.mark.parametrize("n", [1, 2, 3, 4, 31, 32, 33, 12544])
@pytest.mark.parametrize("value", [1, -1, 64, LARGEST, -LARGEST, MAX_MAGNITUDE // 2])
def test_a_single_nonzero_at_each_end_comes_back(n, value):
    for place in (0, n - 1):
        integers = np.zeros(n, dtype=np.int64)
        integers[place] = value
        np.testing.assert_array_equal(decode(encode(integers, [n]), [n]), integers)


@given(cases())
def test_what_is_encoded_stays_as_it_is(case):
    integers, sizes = case
    before = integers.copy()
    encode(integers, sizes)
    np.testing.assert_array_equal(integers, before)


@pytest.mark.parametrize("beyond", [MAX_MAGNITUDE, -MAX_MAGNITUDE, 2**40, -(2**63)])
def test_a_value_too_large_is_not_encoded(beyond):
    with pytest.raises(ValueError, match="too large"):
        encode(int64([0, beyond]), [2])


def test_the_sizes_of_another_vector_are_refused():
    with pytest.raises(ValueError, match="3 integers are not tensors of 2"):
        encode(int64([1, 2, 3]), [1, 1])


# ---------------------------------------------------------------- what a peer may send


@given(st.binary(max_size=60), st.lists(st.integers(0, 200), max_size=4))
@example(b"\0", [])
@example(b"", [1])
def test_whatever_comes_is_an_encoding_or_refused(encoded, sizes):
    try:
        integers = decode(encoded, sizes)
    except PeerError:
        return
    assert_vector(integers, sizes)


def assert_vector(integers: Integers, sizes: list[int]) -> None:
    """What another encoder may have meant."""
    assert integers.shape == (sum(sizes),)
    assert np.all(np.abs(integers) < MAX_MAGNITUDE)
    np.testing.assert_array_equal(decode(encode(integers, sizes), sizes), integers)


@given(cases(), st.data())
def test_a_flipped_bit_is_another_vector_or_refused(case, data):
    integers, sizes = case
    damaged = bytearray(encode(integers, sizes))
    if not damaged:
        return
    place = data.draw(st.integers(0, 8 * len(damaged) - 1))
    damaged[place // 8] ^= 1 << place % 8
    try:
        decoded = decode(bytes(damaged), sizes)
    except PeerError:
        return
    assert_vector(decoded, sizes)


@given(st.binary(min_size=1, max_size=40), st.integers(0, 3), st.data())
def test_garbage_after_a_good_beginning_is_an_encoding_or_refused(tail, layout, data):
    integers = _drawn(data.draw(st.integers(0, 9)), 300, [0.01, 0.1, 0.9, 1][layout], 3)
    encoded = encode(integers, [300])
    cut = data.draw(st.integers(0, len(encoded)))
    try:
        decoded = decode(encoded[:cut] + tail, [300])
    except PeerError:
        return
    assert_vector(decoded, [300])


@given(cases(), st.data())
def test_another_length_is_refused_or_another_vector(case, data):
    integers, sizes = case
    encoded = encode(integers, sizes)
    cut = data.draw(st.integers(0, len(encoded) - 1)) if encoded else 0
    for other in (encoded[:cut], encoded + b"\0", b"\0" + encoded, encoded + b"\xff"):
        if other == encoded:
            continue
        try:
            decoded = decode(other, sizes)
        except PeerError:
            continue
        assert_vector(decoded, sizes)


def test_bytes_after_the_end_are_refused():
    integers = _drawn(1, 1000, 0.1, 3)
    for tail in (b"\0", b"\xff", b"\0" * 20):
        with pytest.raises(PeerError):
            decode(encode(integers, [1000]) + tail, [1000])


@pytest.mark.parametrize("byte", [0x00, 0xFF, 0x55, 0xAA, 0x01, 0x80])
def test_the_same_byte_again_and_again_is_settled_quickly(byte):
    begin = process_time()
    for n in (1, 1000, 1_000_000):
        with pytest.raises(PeerError):
            decode(bytes([byte]) * 100_000, [n, n])
    assert process_time() - begin < 2


def test_random_bytes_for_a_large_vector_are_settled_quickly():
    begin = process_time()
    for seed in range(20):
        with pytest.raises(PeerError):
            decode(np.random.default_rng(seed).bytes(20_000), [1_000_000])
    assert process_time() - begin < 2


def by_hand(n: int, groups: list, *, shift: int = 0, layout: int = 0, activities=()) -> bytes:
    """Groups are (support, low, excess), all positive, less than 16 nonzeros."""
    writer = BitWriter()
    writer.number(1, 1)
    writer.number(shift, SHIFT_BITS)
    if n >= SMALLEST_IN_BLOCKS:
        writer.number(layout, LAYOUT_BITS)
    if layout:
        writer.number(0, 1)
        write_numbers(writer, int64(activities))
    for support, low, excess in groups:
        write_subset(writer, np.array(support, dtype=np.bool_), small=True)
        writer.gamma(low)
        writer.planes(int64([0] * len(excess)), 1)
        if excess:
            write_numbers(writer, int64(excess))
    return writer.to_bytes()


def in_blocks(*places: int, n_blocks: int) -> list[bool]:
    return [i in places for i in range(16 * n_blocks)]


def test_a_message_by_hand_is_an_encoding():
    assert by_hand(2, [([0, 1], 3, [0])], shift=4) == encode(int64([0, 48]), [2])
    blocks = by_hand(130, [(in_blocks(1, n_blocks=1), 5, [0])], layout=1, activities=[0] * 8 + [1])
    assert decode(blocks, [130]).tolist() == [0] * 129 + [5]


@pytest.mark.parametrize(
    ("n", "message"),
    [
        pytest.param(1, by_hand(1, [([1], 2, [0])]), id="shift is not the largest"),
        pytest.param(1, by_hand(1, [([1], 2, [1])]), id="low is not the smallest"),
        pytest.param(1, by_hand(1, [([1], 3, [0])], shift=29), id="too large when shifted"),
        pytest.param(1, by_hand(1, [([1], 2**30 + 1, [0])]), id="too large"),
        pytest.param(1, by_hand(1, [([1], 2**61 + 1, [0])]), id="beyond int64 with the excess"),
        pytest.param(1, by_hand(1, [([1], 1, [2**30])]), id="excess too large"),
        pytest.param(2, by_hand(2, [([0, 0], 1, [])]), id="an empty group"),
        pytest.param(
            130,
            by_hand(
                130, [(in_blocks(1, 2, n_blocks=1), 5, [0, 0])], layout=1, activities=[0] * 8 + [1]
            ),
            id="a nonzero after the last element",
        ),
        pytest.param(
            130,
            by_hand(
                130, [(in_blocks(1, n_blocks=2), 5, [0])], layout=1, activities=[1, 1] + [0] * 7
            ),
            id="a block without what it is said to have",
        ),
        pytest.param(
            130,
            by_hand(130, [(in_blocks(1, n_blocks=1), 5, [0])], layout=1, activities=[2] + [0] * 8),
            id="an activity that there is not",
        ),
        pytest.param(130, by_hand(130, [], layout=1, activities=[0] * 9), id="nothing but zeros"),
    ],
)
def test_a_second_encoding_or_a_value_out_of_range_is_refused(n, message):
    with pytest.raises(PeerError):
        decode(message, [n])


def test_one_number_in_each_class_is_settled_quickly():
    n = 1_000_000
    writer = BitWriter()
    writer.number(1, 1)
    writer.number(0, SHIFT_BITS)
    writer.number(0, LAYOUT_BITS)
    write_subset(writer, np.ones(n, dtype=np.bool_), small=True)
    writer.gamma(1)
    writer.number(1, 1)
    write_subset(writer, np.zeros(n, dtype=np.bool_))
    writer.gamma(1)
    writer.number(3, PRECISION_BITS)
    for place in range(200):
        write_subset(writer, np.arange(n - place) == 0)
        writer.number(0, place >> 3)
    begin = process_time()
    with pytest.raises(PeerError, match="too many classes"):
        decode(writer.to_bytes(), [n])
    assert process_time() - begin < 2


# ---------------------------------------------------------------- size


def _entropy_bits(integers: Integers, sizes: list[int]) -> float:
    """Zero-order: each tensor's support, and the values on it."""
    return sum(
        _symbol_bits(part != 0) + _symbol_bits(part[part != 0])
        for part in np.split(integers, np.cumsum(sizes)[:-1])
    )


def _symbol_bits(symbols: np.ndarray) -> float:
    counts = np.unique(symbols, return_counts=True)[1]
    return float((counts * np.log2(symbols.size / counts)).sum())


@pytest.mark.parametrize("share", [0.02, 0.03])
@pytest.mark.parametrize("seed", range(3))
def test_a_sparse_update_is_near_its_entropy(share, seed):
    sizes = [196 * 64, 64, 64 * 32, 32]
    integers = _top(seed, sum(sizes), share)
    n_bytes = len(encode(integers, sizes))
    assert n_bytes <= 1.08 * _entropy_bits(integers, sizes) / 8


def _top(seed: int, n: int, share: float) -> Integers:
    values = np.random.default_rng(seed).laplace(size=n)
    magnitudes = np.abs(values)
    values[magnitudes < np.quantile(magnitudes, 1 - share)] = 0
    return (values / magnitudes.max() * 7).round().astype(np.int64) << 4


@pytest.mark.parametrize("scale", [0.3, 2.0, 30.0, 3000.0])
def test_a_dense_vector_is_near_its_entropy(scale):
    integers = np.random.default_rng(5).normal(scale=scale, size=50_000).round().astype(np.int64)
    entropy = log2(scale * np.sqrt(2 * np.pi * np.e)) * integers.size
    if scale < 1:
        entropy = _entropy_bits(integers, [integers.size])
    assert len(encode(integers, [integers.size])) <= 1.03 * entropy / 8


@pytest.mark.parametrize(("n", "few"), [(32, 1), (32, 2), (1000, 10), (10_000, 300)])
def test_a_support_costs_little_more_than_the_subsets_there_are(n, few):
    rng = np.random.default_rng(few)
    sizes = []
    for _ in range(20):
        integers = np.zeros(n, dtype=np.int64)
        integers[rng.choice(n, few, replace=False)] = 1
        sizes.append(len(encode(integers, [n])))
    signs = few
    assert np.mean(sizes) <= 4 + 1.02 * (log2(comb(n, few)) + signs) / 8


@pytest.mark.parametrize(("row", "excess"), [(16, 1.1), (64, 1.1), (200, 1.2), (1000, 1.1)])
def test_rows_that_did_not_move_are_cheap(row, excess):
    rng = np.random.default_rng(row)
    moved = rng.random(20_000 // row) < 0.3
    integers = np.repeat(moved, row) * rng.integers(-1, 2, moved.size * row)
    entropy = moved.sum() * row * log2(3) + moved.size
    assert len(encode(integers, [integers.size])) <= excess * entropy / 8


def test_rows_of_different_scale_are_told_apart():
    rng = np.random.default_rng(7)
    scales = np.exp2(rng.uniform(2, 8, 400))
    integers = (rng.normal(size=(400, 64)) * scales[:, None]).round().astype(np.int64).ravel()
    entropy = 64 * (np.log2(scales) + log2(np.sqrt(2 * np.pi * np.e))).sum()
    assert len(encode(integers, [integers.size])) <= 1.03 * entropy / 8


def test_zeros_cost_next_to_nothing():
    assert encode(int64([]), []) == b""
    assert encode(int64([]), [0, 0]) == b""
    assert len(encode(np.zeros(1_000_000, dtype=np.int64), [1_000_000])) == 1


def test_golden_bytes():
    stored = json.loads(golden_entropy.FILE.read_text(encoding="utf-8"))
    assert golden_entropy.golden() == stored
    for name, (integers, sizes) in golden_entropy.VECTORS.items():
        assert decode(bytes.fromhex(stored[name]), sizes).tolist() == integers
