"""Integer vectors in nearly as few bits as their entropy.

What agents and coordinator send is a vector of few different, mostly small integers: zeros, and
values +-q 2^t.  All of it is put down as *subsets*: which of n elements are nonzero, which of those
have the smallest magnitude, which of the rest the next.  A subset is the gaps between its members
(between its non-members if these are fewer) as Golomb-Rice codes (Golomb 1966, Rice 1979), which
for any share of members are within 4 % of its entropy.  A tensor of n elements is

    count of nonzeros       bounded by n; ends here if 0
    support                 subset of n
    shift t                 5 bits: the largest power of two that divides all
    low                     gamma: the smallest magnitude / 2^t
    signs                   one bit each; from 16 on, a bit says whether as a subset instead
    k, p                    gamma, 2 bits: the classes of the excess magnitude / 2^t - low
    for class 0, 1, ... until none is left:
        its share           bounded count and subset of what is left
        offset in class     plain

Class s holds 2^(k + s div 2^p) numbers: 2^p classes of 2^k each, then 2^p twice as wide, and so on.
k and p are whatever makes the tensor short.  Everything in an encoding follows from the vector, and
a decoder checks that it did: two encodings never decode to the same vector.
"""

from collections.abc import Iterator, Sequence
from itertools import count as count_up

import numpy as np
from numpy.typing import NDArray

from plantfed_shared.bit_streams import FLAT_BOUND, BitReader, BitWriter
from plantfed_shared.errors import PeerError
from plantfed_shared.lattice import MAX_MAGNITUDE, Integers

Mask = NDArray[np.bool_]

SHIFT_BITS = 5
PRECISION_BITS = 2
FEWEST_BIASED = 16
"""Fewer signs are not worth the bit that says how they are encoded."""
MAX_SAMPLE = 1 << 13
"""The classes are chosen for at most twice so many of the magnitudes, evenly spread."""


def encode(integers: Integers, sizes: Sequence[int]) -> bytes:
    """Encode a vector; equal vectors give equal bytes.

    Args:
        integers: int64 (n,), |x| < 2^30.
        sizes: elements of each tensor, in order, together n.

    Raises:
        ValueError: a value is too large, or the sizes are those of another vector.
    """
    if sum(sizes) != integers.size:
        raise ValueError(f"{integers.size} integers are not tensors of {sum(sizes)}")
    if integers.size and not -MAX_MAGNITUDE < integers.min() <= integers.max() < MAX_MAGNITUDE:
        raise ValueError("a value is too large for the lattice")
    writer = BitWriter()
    begin = 0
    for size in sizes:
        _write_tensor(writer, integers[begin : begin + size])
        begin += size
    return writer.to_bytes()


def decode(encoded: bytes | memoryview, sizes: Sequence[int]) -> Integers:
    """Decode to int64 (n,), n = the sum of the sizes.

    Raises:
        PeerError: these bytes are not the encoding of such a vector.
    """
    reader = BitReader(encoded)
    integers = np.zeros(sum(sizes), dtype=np.int64)
    begin = 0
    for size in sizes:
        _read_tensor(reader, integers[begin : begin + size])
        begin += size
    reader.end()
    return integers


# ---------------------------------------------------------------- tensors


def _write_tensor(writer: BitWriter, tensor: Integers) -> None:
    support = tensor != 0
    n_nonzero = _write_subset(writer, support)
    if n_nonzero == 0:
        return
    nonzeros = tensor[support]
    magnitudes = np.abs(nonzeros)
    shift = _shift(magnitudes)
    magnitudes >>= shift
    low = int(magnitudes.min())
    writer.number(shift, SHIFT_BITS)
    writer.gamma(low)
    _write_signs(writer, nonzeros < 0)
    _write_excess(writer, magnitudes - low)


def _read_tensor(reader: BitReader, tensor: Integers) -> None:
    support = np.flatnonzero(_read_subset(reader, tensor.size))
    if support.size == 0:
        return
    shift = reader.number(SHIFT_BITS)
    low = reader.gamma()
    negative = _read_signs(reader, support.size)
    magnitudes = _read_excess(reader, support.size, MAX_MAGNITUDE >> shift)
    _require(int(magnitudes.min()) == 0)
    magnitudes += low
    _require(_shift(magnitudes) == 0)
    _require(int(magnitudes.max()) << shift < MAX_MAGNITUDE)
    magnitudes <<= shift
    tensor[support] = np.where(negative, -magnitudes, magnitudes)


def _shift(magnitudes: Integers) -> int:
    together = int(np.bitwise_or.reduce(magnitudes))
    return (together & -together).bit_length() - 1


def _write_signs(writer: BitWriter, negative: Mask) -> None:
    if negative.size >= FEWEST_BIASED:
        as_subset = _are_biased(negative)
        writer.number(as_subset, 1)
        if as_subset:
            _write_subset(writer, negative)
            return
    writer.planes(negative.astype(np.int64), 1)


def _read_signs(reader: BitReader, m: int) -> Mask:
    as_subset = m >= FEWEST_BIASED and reader.number(1) == 1
    negative = _read_subset(reader, m) if as_subset else reader.planes(m, 1).astype(np.bool_)
    _require(m < FEWEST_BIASED or as_subset == _are_biased(negative))
    return negative


def _are_biased(negative: Mask) -> bool:
    return _subset_cost(negative.size, int(np.count_nonzero(negative))) < negative.size


# ---------------------------------------------------------------- magnitudes


def _write_excess(writer: BitWriter, excess: Integers) -> None:
    k, p = _choose_classes(excess)
    writer.gamma(k + 1)
    writer.number(p, PRECISION_BITS)
    for start, width in _classes(k, p):
        if excess.size == 0:
            return
        members = excess < start + (1 << width)
        if _write_subset(writer, members):
            writer.planes(excess[members] - start, width)
            excess = excess[~members]


def _read_excess(reader: BitReader, m: int, limit: int) -> Integers:
    k, p = reader.gamma() - 1, reader.number(PRECISION_BITS)
    excess = np.empty(m, dtype=np.int64)
    left = np.arange(m)
    for start, width in _classes(k, p):
        if left.size == 0:
            break
        _require(start < limit)
        members = _read_subset(reader, left.size)
        n_members = int(np.count_nonzero(members))
        if n_members:
            excess[left[members]] = reader.planes(n_members, width) + start
            left = left[~members]
    _require((k, p) == _choose_classes(excess))
    return excess


def _classes(k: int, p: int) -> Iterator[tuple[int, int]]:
    """The first number of each class, and the bits that tell its numbers apart."""
    start = 0
    for number in count_up():
        width = k + (number >> p)
        yield start, width
        start += 1 << width


def _choose_classes(excess: Integers) -> tuple[int, int]:
    """The k and p that need the fewest bits, by integers alone: all machines choose alike."""
    sample = np.sort(excess[:: 1 + (excess.size - 1) // MAX_SAMPLE])
    weight = -(-excess.size // sample.size)
    middle = int(sample[sample.size // 2]).bit_length()
    candidates = [
        (k, p) for k in range(max(0, middle - 4), middle + 1) for p in range(1 << PRECISION_BITS)
    ]
    return min(candidates, key=lambda kp: _classes_cost(sample, weight, *kp))


def _classes_cost(sample: Integers, weight: int, k: int, p: int) -> int:
    cost = 2 * (k + 1).bit_length() - 1
    largest = int(sample[-1])
    classes = []
    for start, width in _classes(k, p):
        classes.append((start, width))
        if start + (1 << width) > largest:
            break
    ends = np.searchsorted(sample, [start + (1 << width) for start, width in classes]).tolist()
    done = 0
    for (_, width), end in zip(classes, ends, strict=True):
        members, left = weight * (end - done), weight * (sample.size - done)
        cost += _subset_cost(left, members) + members * width
        done = end
    return cost


# ---------------------------------------------------------------- subsets


def _write_subset(writer: BitWriter, members: Mask) -> int:
    """Write bool (n,); return the number of members."""
    n, n_members = members.size, int(np.count_nonzero(members))
    writer.bounded(n_members, n)
    chosen = ~members if 2 * n_members > n else members
    positions = np.flatnonzero(chosen)
    if positions.size:
        k = _rice_parameter(n, positions.size)
        if k == 0:
            writer.unary_bits(chosen[: positions[-1] + 1])
        else:
            gaps = np.diff(positions, prepend=-1) - 1
            writer.planes(gaps & ((1 << k) - 1), k)
            writer.unary(gaps >> k)
    return n_members


def _read_subset(reader: BitReader, n: int) -> Mask:
    """Read bool (n,)."""
    n_members = reader.bounded(n)
    few = min(n_members, n - n_members)
    members = np.full(n, 2 * n_members > n)
    if few:
        k = _rice_parameter(n, few)
        ends = reader.unary_ends(few, few + (n - few >> k))
        positions = ends
        if k:
            quotients = np.diff(ends, prepend=-1) - 1
            positions = np.cumsum((quotients << k) + reader.planes(few, k) + 1) - 1
        _require(int(positions[-1]) < n)
        members[positions] = 2 * n_members <= n
    return members


def _rice_parameter(n: int, few: int) -> int:
    """The best k for gaps between few of n (Kiely 2004): 0.4814 = ln of the golden ratio."""
    return ((2 * n - few) * 493 // (2048 * few)).bit_length()


def _subset_cost(n: int, n_members: int) -> int:
    """Bits of a subset whose members are anywhere, about."""
    length = n_members.bit_length()
    count = n.bit_length().bit_length() + max(0, length - 1)
    if n <= FLAT_BOUND:
        count = n.bit_length()
    few = min(n_members, n - n_members)
    if few == 0:
        return count
    k = _rice_parameter(n, few)
    # a gap loses half a divisor on average when it is divided
    quotients = max(0, n - few - (few * ((1 << k) - 1) >> 1)) >> k
    return count + few * (k + 1) + quotients


def _require(condition: bool) -> None:
    if not condition:
        raise PeerError("the bytes are not the encoding of a vector")
