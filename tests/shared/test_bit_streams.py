"""Two streams in one string: what is written is read, what is not there is not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.shared.vectors import int64

from plantfed_shared.bit_streams import BitReader, BitWriter
from plantfed_shared.errors import PeerError

numbers = st.integers(0, 2**40)


@st.composite
def pieces(draw: st.DrawFn):
    """Method names, arguments that are written and arguments that read it again."""
    kind = draw(st.sampled_from(["number", "uniform", "small", "gamma", "planes", "unary"]))
    if kind in ("uniform", "small"):
        bound = draw(numbers)
        return kind, (draw(st.integers(0, bound)), bound), (bound,)
    if kind == "number":
        width = draw(st.integers(0, 40))
        return kind, (draw(st.integers(0, (1 << width) - 1)), width), (width,)
    if kind == "gamma":
        return kind, (draw(st.integers(1, 2**62 - 1)),), ()
    if kind == "planes":
        width = draw(st.integers(0, 40))
        values = draw(st.lists(st.integers(0, (1 << width) - 1), max_size=9))
        return kind, (int64(values), width), (len(values), width)
    values = draw(st.lists(st.integers(0, 30), max_size=9))
    return kind, (int64(values),), (len(values), 31 * len(values))


@given(st.lists(pieces(), max_size=8))
def test_what_is_written_is_read(written):
    writer = BitWriter()
    for kind, values, _ in written:
        getattr(writer, kind)(*values)
    reader = BitReader(writer.to_bytes())
    for kind, values, asked in written:
        if kind == "unary":
            ends = reader.unary_ends(*asked)
            np.testing.assert_array_equal(np.diff(ends, prepend=-1) - 1, values[0])
        else:
            np.testing.assert_array_equal(getattr(reader, kind)(*asked), values[0])
    reader.end()


def bits_of(write) -> str:
    writer = BitWriter()
    write(writer)
    return "".join(f"{byte:08b}" for byte in writer.to_bytes())


@pytest.mark.parametrize(
    ("write", "bits"),
    [
        (lambda w: None, ""),
        (lambda w: w.number(5, 4), "01010000"),
        (lambda w: w.number(0, 0), ""),
        (lambda w: w.unary(int64([0, 2, 1])), "10010100"[::-1]),
        (lambda w: w.unary_bits(np.array([True, False, True])), "00000101"),
        (lambda w: w.planes(int64([1, 2, 3]), 2), "01110100"),
        (lambda w: w.gamma(1), "00000001"),
        (lambda w: w.gamma(6), "10000100"),
        (lambda w: w.uniform(1, 4), "01000000"),
        (lambda w: w.uniform(4, 4), "11100000"),
        (lambda w: w.small(0, 100), "00000000"),
        (lambda w: w.small(5, 100), "01101000"),
    ],
)
def test_the_bits_are_the_documented_ones(write, bits):
    assert bits_of(write) == bits


@pytest.mark.parametrize(
    ("encoded", "read"),
    [
        (b"", lambda r: r.number(1)),
        (b"\xff", lambda r: r.number(9)),
        (b"\xff", lambda r: r.planes(3, 3)),
        (b"\xff", lambda r: r.planes(2**50, 2**10)),
        (b"\x00", lambda r: r.unary_ends(1, 8)),
        (b"\xff", lambda r: r.unary_ends(9, 99)),
        (b"\x80", lambda r: r.unary_ends(1, 7)),
        (b"\x00", lambda r: r.gamma()),
        (b"\xff", lambda r: (r.number(4), r.unary_ends(5, 9))),
        (b"\xff", lambda r: r.small(100)),
        (b"\x00\x00", lambda r: r.end()),
        (b"\x01", lambda r: (r.number(5), r.end())),
    ],
)
def test_what_is_not_there_is_refused(encoded, read):
    with pytest.raises(PeerError):
        read(BitReader(encoded))


@given(st.binary(max_size=6), st.integers(0, 2**40))
def test_a_bounded_number_keeps_its_bound_or_is_refused(encoded, bound):
    for kind in ("uniform", "small"):
        try:
            number = getattr(BitReader(encoded), kind)(bound)
        except PeerError:
            continue
        assert 0 <= number <= bound
