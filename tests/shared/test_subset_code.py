"""Subsets and numbers: what is written is read, near its entropy."""

from math import log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.shared.vectors import int64

from plantfed_shared.bit_streams import BitReader, BitWriter
from plantfed_shared.errors import PeerError
from plantfed_shared.subset_code import (
    PRECISION_BITS,
    choose_classes,
    read_numbers,
    read_subset,
    subset_cost,
    write_numbers,
    write_subset,
)

masks = st.one_of(
    st.lists(st.booleans(), max_size=70).map(lambda bits: np.array(bits, dtype=np.bool_)),
    st.builds(
        lambda seed, n, share: np.random.default_rng(seed).random(n) < share,
        st.integers(0, 999),
        st.integers(0, 3000),
        st.floats(0, 1),
    ),
)
numbers = st.lists(
    st.one_of(st.integers(0, 20), st.integers(0, 300), st.integers(0, 2**30 - 1)),
    min_size=1,
    max_size=60,
)


@given(masks, st.booleans())
def test_every_subset_comes_back(members, small):
    writer = BitWriter()
    assert write_subset(writer, members, small=small) == np.count_nonzero(members)
    reader = BitReader(writer.to_bytes())
    np.testing.assert_array_equal(read_subset(reader, members.size, small=small), members)
    reader.end()


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.3, 0.38, 0.45, 0.55, 0.7, 0.99])
def test_a_subset_costs_its_entropy(share):
    n = 200_000
    members = np.random.default_rng(3).random(n) < share
    entropy = -n * (share * log2(share) + (1 - share) * log2(1 - share))
    writer = BitWriter()
    write_subset(writer, members)
    n_bits = 8 * len(writer.to_bytes())
    assert n_bits <= 1.05 * entropy
    assert abs(subset_cost(n, int(np.count_nonzero(members))) - n_bits) <= 0.03 * n_bits


def test_a_member_beyond_the_end_is_refused():
    writer = BitWriter()
    writer.uniform(1, 9)
    writer.planes(int64([3]), 3)
    writer.unary(int64([1]))
    with pytest.raises(PeerError, match="beyond its end"):
        read_subset(BitReader(writer.to_bytes()), 9)


@given(numbers)
def test_all_numbers_come_back(values):
    writer = BitWriter()
    write_numbers(writer, int64(values))
    reader = BitReader(writer.to_bytes())
    assert read_numbers(reader, len(values), 2**30).tolist() == values
    reader.end()


@pytest.mark.parametrize("mean", [0.1, 0.5, 1, 3, 10, 100, 10_000])
def test_geometric_numbers_cost_their_entropy(mean):
    share = 1 / (1 + mean)
    values = np.random.default_rng(1).geometric(share, 50_000) - 1
    entropy = -(share * log2(share) + (1 - share) * log2(1 - share)) / share * values.size
    writer = BitWriter()
    write_numbers(writer, values)
    n_bits = 8 * len(writer.to_bytes())
    assert n_bits <= 1.04 * entropy
    # of a sample
    assert abs(choose_classes(values).cost - n_bits) <= 0.1 * n_bits


def test_a_number_too_large_is_refused():
    writer = BitWriter()
    write_numbers(writer, int64([5] * 20))
    with pytest.raises(PeerError, match="too large"):
        read_numbers(BitReader(writer.to_bytes()), 20, 4)


@pytest.mark.parametrize("k", [4, 61, 2**61])
def test_a_class_too_wide_is_refused(k):
    writer = BitWriter()
    writer.gamma(k + 1)
    writer.number(0, PRECISION_BITS)
    writer.uniform(0, 1)
    with pytest.raises(PeerError, match="too large"):
        read_numbers(BitReader(writer.to_bytes()), 1, 4)
