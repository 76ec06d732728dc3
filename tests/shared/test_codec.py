"""The dense encoding: every integer vector comes back (I11), everything else is refused."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.shared.message_strategies import epochs, u32
from tests.shared.vectors import LARGEST, int64, lattice_vectors

from plantfed_shared.codec import decode_dense, decode_model, encode_dense, encode_model
from plantfed_shared.errors import PeerError
from plantfed_shared.lattice import MAX_MAGNITUDE, Integers, checksum
from plantfed_shared.messages import Epoch, ModelName

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


# ---------------------------------------------------------------- models


def named(epoch: Epoch, k: int, integers: Integers) -> ModelName:
    return ModelName(epoch, k, checksum(integers))


@given(epochs, u32, vectors)
def test_every_model_comes_back_under_its_name(epoch, k, integers):
    name = named(epoch, k, integers)
    decoded = decode_model(encode_model(name, integers), name, integers.size)
    np.testing.assert_array_equal(decoded, integers)


@given(lattice_vectors(min_size=1), st.data())
def test_a_damaged_model_is_refused(integers, data):
    name = named(Epoch(3, 2**63), 7, integers)
    encoded = encode_model(name, integers)
    damaged = bytearray(encoded)
    place = data.draw(st.integers(0, 8 * len(encoded) - 1))
    damaged[place // 8] ^= 1 << place % 8
    with pytest.raises(PeerError):
        decode_model(bytes(damaged), name, integers.size)
    with pytest.raises(PeerError):
        decode_model(encoded[: data.draw(st.integers(0, len(encoded) - 1))], name, integers.size)
    with pytest.raises(PeerError):
        decode_model(encoded, name, integers.size + 1)


@pytest.mark.parametrize(
    "other", [Epoch(3, 5), Epoch(4, 4), 8], ids=["other bits", "other counter", "other release"]
)
def test_the_same_integers_of_another_release_are_refused(other):
    integers = int64([1, 2, 3])
    name = named(Epoch(3, 4), 7, integers)
    epoch, k = (other, 7) if isinstance(other, Epoch) else (Epoch(3, 4), other)
    with pytest.raises(PeerError, match="is not release 7"):
        decode_model(encode_model(named(epoch, k, integers), integers), name, 3)


def test_a_name_with_the_checksum_of_other_integers_is_refused():
    name = named(Epoch(1, 1), 1, int64([1, 2, 3]))
    with pytest.raises(PeerError, match="checksum"):
        decode_model(encode_model(name, int64([1, 3, 2])), name, 3)


def test_the_layout_of_a_model_is_the_documented_one():
    name = ModelName(Epoch(1, 2), 3, 4)
    numbers = [(1, 4), (2, 8), (3, 4), (4, 8)]
    header = b"".join(number.to_bytes(width, "little") for number, width in numbers)
    assert encode_model(name, int64([5, -1])) == header + b"\x01\x05\xff"
