"""The dense encoding: every integer vector comes back (I11), everything else is refused."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.shared.vectors import LARGEST, int64, lattice_vectors

from plantfed_shared.codec import decode_dense, encode_dense
from plantfed_shared.errors import PeerError
from plantfed_shared.lattice import MAX_MAGNITUDE

vectors = st.sampled_from([127, 128, 32767, 32768, LARGEST]).flatmap(
    lambda bound: lattice_vectors(bound=bound)
)


@given(vectors)
def test_every_vector_comes_back(integers):
    encoded = encode_dense(integers)
    decoded = decode_dense(encoded, integers.size)
    assert decoded.dtype == np.int64
    np.testing.assert_array_equal(decoded, integers)
    np.testing.assert_array_equal(decode_dense(memoryview(encoded), integers.size), integers)
    decoded += 1  # its own memory: a read-only view of the message would refuse


@pytest.mark.parametrize(
    ("extreme", "width"),
    [(127, 1), (-128, 1), (128, 2), (-129, 2), (32767, 2), (-32768, 2), (32768, 4), (-32769, 4)],
)
def test_the_width_is_the_smallest_that_holds_all(extreme, width):
    encoded = encode_dense(int64([0, extreme, 0]))
    assert (encoded[0], len(encoded)) == (width, 1 + 3 * width)


@given(vectors)
def test_the_bytes_are_little_endian_twos_complement(integers):
    encoded = encode_dense(integers)
    width = encoded[0]
    numbers = [encoded[i : i + width] for i in range(1, len(encoded), width)]
    expected = [x.to_bytes(width, "little", signed=True) for x in integers.tolist()]
    assert numbers == expected


@given(vectors, st.integers(0, 60))
def test_another_size_is_refused(integers, size):
    assume(size != integers.size)
    with pytest.raises(PeerError):
        decode_dense(encode_dense(integers), size)


@given(lattice_vectors(min_size=1), st.integers(0, 255))
def test_another_width_is_refused(integers, width):
    encoded = encode_dense(integers)
    assume(width != encoded[0])
    with pytest.raises(PeerError):
        decode_dense(bytes([width]) + encoded[1:], integers.size)


@given(vectors, st.data())
def test_another_length_is_refused(integers, data):
    encoded = encode_dense(integers)
    end = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(PeerError):
        decode_dense(encoded[:end], integers.size)
    with pytest.raises(PeerError):
        decode_dense(encoded + b"\0", integers.size)


@given(st.binary(max_size=60), st.integers(0, 20))
def test_whatever_comes_is_a_small_vector_or_refused(encoded, size):
    try:
        integers = decode_dense(encoded, size)
    except PeerError:
        return
    assert integers.shape == (size,)
    assert np.all(np.abs(integers) < MAX_MAGNITUDE)


@pytest.mark.parametrize("beyond", [MAX_MAGNITUDE, -MAX_MAGNITUDE, 2**31 - 1, -(2**31)])
def test_a_value_too_large_is_refused_at_both_ends(beyond):
    with pytest.raises(ValueError, match="too large"):
        encode_dense(int64([0, beyond]))
    with pytest.raises(PeerError, match="too large"):
        decode_dense(b"\x04" + np.array([0, beyond], dtype="<i4").tobytes(), 2)


def test_a_value_beyond_32_bits_is_not_encoded():
    with pytest.raises(ValueError, match="too large"):
        encode_dense(int64([2**40]))
