"""Integer vectors as bytes: every one comes back (I11), everything else is refused."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.shared.message_strategies import epochs, u32
from tests.shared.vectors import LARGEST, in_range, int64, lattice_vectors

from plantfed_shared.codec import (
    Coding,
    DecodedStep,
    decode_integers,
    decode_model,
    encode_integers,
    encode_model,
    largest_encoding_bytes,
)
from plantfed_shared.errors import PeerError
from plantfed_shared.lattice import MAX_MAGNITUDE, Integers, Lattice, checksum
from plantfed_shared.messages import Epoch, ModelName, ModelStep

codings = st.sampled_from(Coding)
EPOCH = Epoch(3, 2**63)


def lattice_of(*sizes: int) -> Lattice:
    return Lattice(sizes, (16,) * len(sizes))


@st.composite
def tensors(draw, *, min_size: int = 0) -> tuple[Lattice, Integers]:
    """A vector as dense or as sparse as they are sent, cut into tensors, some of them empty."""
    bound = draw(st.sampled_from([1, 7, 127, 128, 32767, 32768, LARGEST]))
    numbers = in_range(bound)
    if draw(st.booleans()):
        numbers = st.one_of(*[st.just(0)] * 7, numbers)
    values = draw(st.lists(numbers, min_size=min_size, max_size=60))
    cuts = sorted(draw(st.lists(st.integers(0, len(values)), max_size=3)))
    sizes = np.diff([0, *cuts, len(values)]).tolist()
    return lattice_of(*sizes), int64(values)


# ---------------------------------------------------------------- vectors


@given(tensors(), codings)
def test_every_vector_comes_back(vector, coding):
    lattice, integers = vector
    encoded = encode_integers(integers, lattice, coding)
    assert len(encoded) <= largest_encoding_bytes(lattice)
    for given_as in (encoded, memoryview(encoded)):
        decoded = decode_integers(given_as, lattice)
        assert decoded.dtype == np.int64
        np.testing.assert_array_equal(decoded, integers)
        # who decodes the same bytes again gets the same vector: nobody may change it
        assert not decoded.flags.writeable


@given(st.integers(1, 400), st.integers(0, 2**32), codings)
def test_no_vector_of_the_lattice_is_longer_than_the_longest_that_a_peer_may_send(n, seed, coding):
    """Noise of all 31 bits: an offer or a model of an honest peer must never be refused."""
    integers = np.random.default_rng(seed).integers(-LARGEST, LARGEST + 1, n)
    lattice = lattice_of(*[1] * (n // 2), n - n // 2)
    assert len(encode_integers(integers, lattice, coding)) <= largest_encoding_bytes(lattice)


@given(tensors())
def test_plain_is_a_byte_and_little_endian_twos_complement(vector):
    lattice, integers = vector
    encoded = encode_integers(integers, lattice, Coding.PLAIN)
    expected = b"".join(x.to_bytes(4, "little", signed=True) for x in integers.tolist())
    assert encoded == b"\x04" + expected


def test_entropy_coding_takes_few_bits_for_few_different_numbers():
    """2 % of 10 000 kept, in 4 bits each: entropy 0.14 + 0.02 * 3.9 bits, so 275 bytes."""
    rng = np.random.default_rng(0)
    change = np.zeros(10_000, dtype=np.int64)
    where = rng.choice(change.size, 200, replace=False)
    change[where] = rng.choice([-1, 1], 200) * rng.integers(1, 8, 200) * 2**9
    encoded = encode_integers(change, lattice_of(change.size), Coding.ENTROPY)
    assert encoded[0] == 0
    assert len(encoded) < 1.05 * 275


@given(tensors(), codings, st.integers(0, 60))
def test_another_size_is_refused(vector, coding, size):
    lattice, integers = vector
    # with nothing but zeros there is no bit to tell the sizes apart, and 0 of them are no bytes
    assume(size != integers.size and integers.any())
    encoded = encode_integers(integers, lattice, coding)
    try:
        decoded = decode_integers(encoded, lattice_of(size))
    except PeerError:
        return
    # entropy-coded bytes may happen to be those of another vector, but of one of this size only
    assert coding == Coding.ENTROPY
    assert encode_integers(decoded, lattice_of(size), coding) == encoded


@given(tensors(), st.integers(0, 60))
def test_plain_of_another_size_is_refused(vector, size):
    lattice, integers = vector
    assume(size != integers.size)
    with pytest.raises(PeerError, match=f"are not a vector of {size} integers"):
        decode_integers(encode_integers(integers, lattice, Coding.PLAIN), lattice_of(size))


@given(tensors(), codings, st.integers(0, 255).filter(lambda how: how not in (0, 4)))
def test_another_coding_is_refused(vector, coding, how):
    lattice, integers = vector
    encoded = encode_integers(integers, lattice, coding)
    with pytest.raises(PeerError):
        decode_integers(bytes([how]) + encoded[1:], lattice)


@given(tensors(min_size=1), codings, st.data())
def test_another_length_is_refused(vector, coding, data):
    lattice, integers = vector
    encoded = encode_integers(integers, lattice, coding)
    end = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(PeerError):
        decode_integers(encoded[:end], lattice)
    with pytest.raises(PeerError):
        decode_integers(encoded + b"\0", lattice)


@given(st.sampled_from([b"", b"\0", b"\4"]), st.binary(max_size=60), st.integers(0, 20))
def test_whatever_comes_is_the_one_encoding_of_a_vector_or_refused(how, noise, size):
    encoded, lattice = how + noise, lattice_of(size)
    try:
        integers = decode_integers(encoded, lattice)
    except PeerError:
        return
    assert integers.shape == (size,)
    assert np.all(np.abs(integers) < MAX_MAGNITUDE)
    coding = Coding.PLAIN if encoded[0] else Coding.ENTROPY
    assert encode_integers(integers, lattice, coding) == encoded


@pytest.mark.parametrize("beyond", [MAX_MAGNITUDE, -MAX_MAGNITUDE, 2**31 - 1, -(2**31)])
def test_a_value_too_large_is_refused_at_both_ends(beyond):
    for coding in Coding:
        with pytest.raises(ValueError, match="too large"):
            encode_integers(int64([0, beyond]), lattice_of(2), coding)
    with pytest.raises(PeerError, match="too large"):
        decode_integers(b"\x04" + np.array([0, beyond], dtype="<i4").tobytes(), lattice_of(2))


@pytest.mark.parametrize("coding", Coding)
def test_a_value_beyond_32_bits_is_not_encoded(coding):
    with pytest.raises(ValueError, match="too large"):
        encode_integers(int64([2**40]), lattice_of(1), coding)


# ---------------------------------------------------------------- models


def named(epoch: Epoch, k: int, integers: Integers) -> ModelName:
    return ModelName(epoch, k, checksum(integers))


@given(epochs, u32, tensors(), codings)
def test_every_whole_model_comes_back_under_its_name(epoch, k, vector, coding):
    lattice, integers = vector
    name = named(epoch, k, integers)
    encoded = encode_model(name, integers, lattice, coding)
    decoded = decode_model(encoded, lattice)
    assert (decoded.name, decoded.step) == (name, ModelStep(k, None))
    np.testing.assert_array_equal(decoded.model(None), integers)
    # whatever is here: a whole model starts from nothing
    np.testing.assert_array_equal(decoded.model(integers + 1), integers)


@given(epochs, u32, st.integers(0, 2**32 - 2), codings, st.data())
def test_i6_a_base_and_the_difference_are_the_model(epoch, k, base_k, coding, data):
    """Half the bound, so that every difference is a number of the lattice."""
    base = data.draw(lattice_vectors(bound=LARGEST // 2))
    model = data.draw(lattice_vectors(min_size=base.size, max_size=base.size, bound=LARGEST // 2))
    lattice, name = lattice_of(base.size), named(epoch, k, model)
    encoded = encode_model(name, model, lattice, coding, (base_k, base))
    decoded = decode_model(encoded, lattice)
    assert (decoded.name, decoded.step) == (name, ModelStep(k, base_k))
    np.testing.assert_array_equal(decoded.model(base), model)


@given(tensors(min_size=1), codings)
def test_what_is_left_as_it_was_takes_next_to_nothing(vector, coding):
    lattice, integers = vector
    encoded = encode_model(named(EPOCH, 8, integers), integers, lattice, coding, (7, integers))
    assert not decode_model(encoded, lattice).integers.any()
    if coding == Coding.ENTROPY:
        assert len(encoded) <= 28 + 1 + len(lattice.sizes)


@given(st.data())
def test_another_base_is_refused(data):
    base, other, model = (data.draw(lattice_vectors(min_size=9, max_size=9)) for _ in range(3))
    assume((base != other).any())
    decoded = DecodedStep(named(EPOCH, 8, model), ModelStep(8, 7), model - base)
    with pytest.raises(PeerError, match="release 8 does not have the checksum in its name"):
        decoded.model(other)


def test_a_difference_without_its_base_is_refused():
    model = int64([1, 2, 3])
    decoded = DecodedStep(named(EPOCH, 8, model), ModelStep(8, 7), int64([0, 0, 1]))
    with pytest.raises(PeerError, match="release 7, which it is the difference from, is gone"):
        decoded.model(None)
    np.testing.assert_array_equal(decoded.model(int64([1, 2, 2])), model)


@pytest.mark.parametrize("base_k", [None, 7])
def test_a_name_with_the_checksum_of_other_integers_is_refused(base_k):
    name = named(EPOCH, 8, int64([1, 2, 3]))
    base = None if base_k is None else (base_k, int64([0, 0, 0]))
    encoded = encode_model(name, int64([1, 3, 2]), lattice_of(3), Coding.ENTROPY, base)
    with pytest.raises(PeerError, match="checksum"):
        decode_model(encoded, lattice_of(3)).model(base and base[1])


@pytest.mark.parametrize("sign", [1, -1])
def test_a_model_that_is_no_number_of_the_lattice_is_refused(sign):
    """A name and a difference that fit each other: only the sum is too large."""
    base, step = int64([sign * LARGEST]), int64([sign])
    decoded = DecodedStep(named(EPOCH, 8, base + step), ModelStep(8, 7), step)
    with pytest.raises(PeerError, match="too large for the lattice"):
        decoded.model(base)


@given(tensors(min_size=1), codings, st.none() | st.just(7), st.data())
def test_a_damaged_model_is_refused(vector, coding, base_k, data):
    lattice, integers = vector
    base = integers[::-1] // 2
    name = named(EPOCH, 8, integers)
    known = None if base_k is None else (base_k, base)
    # from zeros the difference is the whole, and no damage where it is taken for that
    assume(known is None or (base.any() and np.abs(integers - base).max() < MAX_MAGNITUDE))
    encoded = encode_model(name, integers, lattice, coding, known)
    damaged = bytearray(encoded)
    # what comes after the name: that the name is another's is for the receiver to see
    place = data.draw(st.integers(8 * 24, 8 * len(encoded) - 1))
    damaged[place // 8] ^= 1 << place % 8
    whole = bytes(damaged)
    by_number = {} if base_k is None else {base_k: base}

    def received(content: bytes) -> Integers:
        found = decode_model(content, lattice)
        return found.model(None if found.step.base_k is None else by_number.get(found.step.base_k))

    np.testing.assert_array_equal(received(encoded), integers)
    with pytest.raises(PeerError):
        received(whole)
    with pytest.raises(PeerError):
        received(encoded[: data.draw(st.integers(0, len(encoded) - 1))])
    with pytest.raises(PeerError):
        received(encoded + b"\0")


@pytest.mark.parametrize(("base_k", "written"), [(None, 0), (0, 1), (6, 7), (2**32 - 2, 2**32 - 1)])
def test_the_layout_of_a_model_is_the_documented_one(base_k, written):
    name = ModelName(Epoch(1, 2), 3, 4)
    numbers = [(1, 4), (2, 8), (3, 4), (4, 8), (written, 4)]
    head = b"".join(number.to_bytes(width, "little") for number, width in numbers)
    base = None if base_k is None else (base_k, int64([0, 0]))
    encoded = encode_model(name, int64([5, -1]), lattice_of(2), Coding.PLAIN, base)
    assert encoded == head + b"\x04" + b"\x05\0\0\0" + b"\xff\xff\xff\xff"
    assert decode_model(encoded, lattice_of(2)).step == ModelStep(3, base_k)
    with pytest.raises(PeerError, match="27 bytes are no model"):
        decode_model(encoded[:27], lattice_of(2))


def test_equal_steps_have_equal_contents():
    """One encoding for all who have the same base; nothing of who asks or when is in it."""
    model, base, lattice = int64([5, 6, 7]), int64([5, 5, 5]), lattice_of(3)
    contents = {
        encode_model(named(EPOCH, 8, model), model.copy(), lattice, "entropy", (7, base.copy()))
        for _ in range(3)
    }
    assert len(contents) == 1
