"""Integer vectors in nearly as few bits as their entropy, or fewer.

What agents and coordinator send is a vector of few different, mostly small integers: zeros, and
values +-q 2^t.  A tensor of n > 0 elements is

    1 bit           whether any is not 0; the rest only if so
    shift t         5 bits: the largest power of two that divides all; what follows is of x / 2^t
    layout b        3 bits, if n >= 128

With b = 0 one *group* follows.  Otherwise the elements, and zeros after the last, form blocks of
8 * 2^b, because a network moves by rows: many of them not at all.  Then follow

    1 bit           what the activity of a block is: 0 or 1 as it has nonzeros (0), or the bit
                    length of its sum of magnitudes (1)
    activities      of all blocks, as numbers
    groups          for each activity above 0, in rising order, the blocks that have it

A group is coded by itself (subsets and numbers are those of :mod:`plantfed_shared.subset_code`):

    support         subset: which are not 0; small, but not empty
    low             gamma: the smallest magnitude of them
    signs           one bit each; from 16 on, a bit says whether they are a subset instead
    excess          numbers: magnitude - low

What may be chosen (layout, signs, classes) is the encoder's affair, so that it can become better
without a new version; all else has one encoding only, and a decoder refuses any other.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from plantfed_shared.bit_streams import BitReader, BitWriter
from plantfed_shared.errors import PeerError
from plantfed_shared.lattice import MAX_MAGNITUDE, Integers
from plantfed_shared.subset_code import (
    Mask,
    choose_classes,
    read_numbers,
    read_subset,
    subset_cost,
    where,
    write_numbers,
    write_subset,
)

SHIFT_BITS = 5
LAYOUT_BITS = 3
SMALLEST_IN_BLOCKS = 128
"""Smaller tensors have no layout."""
SMALLEST_BLOCK = 16
FEWEST_BIASED = 16
"""Fewer signs are not worth the bit that says how they are encoded."""
MAX_SAMPLE = 1 << 13
"""Whether to tell blocks by their sums is decided on at most twice so many elements."""
DENSE = 16
"""Sums are thought of where every 16th element of the blocks that are left is not 0."""


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
    for begin, end in _tensors(sizes):
        write_tensor(writer, integers[begin:end])
    return writer.to_bytes()


def decode(encoded: bytes | memoryview, sizes: Sequence[int]) -> Integers:
    """Decode to int64 (n,), n = the sum of the sizes.

    Raises:
        PeerError: these bytes are not an encoding of such a vector.
    """
    reader = BitReader(encoded)
    integers = np.zeros(sum(sizes), dtype=np.int64)
    for begin, end in _tensors(sizes):
        read_tensor(reader, integers[begin:end])
    reader.end()
    return integers


def _tensors(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    begin = 0
    for size in sizes:
        if size:
            yield begin, begin + size
        begin += size


def write_tensor(writer: BitWriter, tensor: Integers) -> None:
    """Write int64 (n,), n > 0, |x| < 2^30."""
    together = int(np.bitwise_or.reduce(tensor))
    writer.number(together != 0, 1)
    if together == 0:
        return
    shift = (together & -together).bit_length() - 1
    writer.number(shift, SHIFT_BITS)
    tensor = tensor >> shift
    layout, by_sum = _choose_layout(tensor) if tensor.size >= SMALLEST_IN_BLOCKS else (0, False)
    if tensor.size >= SMALLEST_IN_BLOCKS:
        writer.number(layout, LAYOUT_BITS)
    if layout == 0:
        _write_group(writer, tensor)
        return
    writer.number(by_sum, 1)
    blocks = _in_blocks(tensor, layout)
    activities = _activities(blocks, by_sum=by_sum)
    write_numbers(writer, activities)
    for activity in _above_zero(activities):
        _write_group(writer, blocks[activities == activity].ravel())


def read_tensor(reader: BitReader, tensor: Integers) -> None:
    """Read into int64 (n,), n > 0, which is zero.

    Raises:
        PeerError: the bits do not give a tensor of this size.
    """
    if reader.number(1) == 0:
        return
    shift = reader.number(SHIFT_BITS)
    limit = MAX_MAGNITUDE >> shift
    layout = reader.number(LAYOUT_BITS) if tensor.size >= SMALLEST_IN_BLOCKS else 0
    if layout == 0:
        tensor[:] = _read_group(reader, tensor.size, limit)
    else:
        by_sum = reader.number(1) == 1
        blocks = _in_blocks(np.zeros_like(tensor), layout)
        activities = read_numbers(reader, len(blocks), 64)
        for activity in _above_zero(activities):
            chosen = np.flatnonzero(activities == activity)
            group = _read_group(reader, chosen.size * blocks.shape[1], limit)
            group_blocks = group.reshape(chosen.size, -1)
            _require(bool((_activities(group_blocks, by_sum=by_sum) == activity).all()))
            blocks[chosen] = group_blocks
        _require(not blocks.ravel()[tensor.size :].any())
        tensor[:] = blocks.ravel()[: tensor.size]
    _require(int(np.bitwise_or.reduce(tensor)) & 1 == 1)
    tensor <<= shift


# ---------------------------------------------------------------- blocks


def _in_blocks(tensor: Integers, layout: int) -> Integers:
    """A copy, int64 (blocks, elements of each), with zeros after the end."""
    length = SMALLEST_BLOCK << (layout - 1)
    blocks = np.zeros((-(-tensor.size // length), length), dtype=np.int64)
    blocks.ravel()[: tensor.size] = tensor
    return blocks


def _activities(blocks: Integers, *, by_sum: bool) -> Integers:
    """int64 (blocks,)."""
    # exact as float64: a sum is below 2^40
    sums = np.abs(blocks).sum(axis=1) if by_sum else blocks.any(axis=1)
    activities: Integers = np.frexp(sums.astype(np.float64))[1].astype(np.int64)
    return activities


def _above_zero(activities: Integers) -> list[int]:
    return [activity for activity in np.unique(activities).tolist() if activity > 0]


def _choose_layout(tensor: Integers) -> tuple[int, bool]:
    """Layout, and whether the activity is the sum."""
    n, n_nonzero = tensor.size, int(np.count_nonzero(tensor))
    costs = [subset_cost(n, n_nonzero)]
    occupied = _in_blocks(tensor, 1).any(axis=1)
    lefts = [n]
    while len(costs) < 1 << LAYOUT_BITS:
        lefts.append((SMALLEST_BLOCK << (len(costs) - 1)) * int(np.count_nonzero(occupied)))
        costs.append(subset_cost(occupied.size, int(np.count_nonzero(occupied))))
        costs[-1] += subset_cost(lefts[-1], n_nonzero)
        occupied = np.logical_or.reduceat(occupied, np.arange(0, occupied.size, 2))
    layout = costs.index(min(costs))
    if n_nonzero * DENSE >= lefts[layout]:
        of_sums = layout or 3
        if _sums_pay(_in_blocks(tensor, of_sums)):
            return of_sums, True
    return layout, False


def _sums_pay(blocks: Integers) -> bool:
    """Whether blocks had better be told by their sums than by whether they have nonzeros."""
    blocks = blocks[:: 1 + (blocks.size - 1) // MAX_SAMPLE]
    costs = []
    for by_sum in (False, True):
        activities = _activities(blocks, by_sum=by_sum)
        groups = [blocks[activities == a].ravel() for a in _above_zero(activities)]
        costs.append(choose_classes(activities).cost + sum(map(_group_cost, groups)))
    return costs[True] < costs[False]


# ---------------------------------------------------------------- groups


def _write_group(writer: BitWriter, group: Integers) -> None:
    support = group != 0
    write_subset(writer, support, small=True)
    nonzeros = where(group, support)
    magnitudes = np.abs(nonzeros)
    low = int(magnitudes.min())
    writer.gamma(low)
    _write_signs(writer, nonzeros < 0)
    write_numbers(writer, magnitudes - low)


def _read_group(reader: BitReader, m: int, limit: int) -> Integers:
    """Read int64 (m,), 0 < the largest |x| < limit."""
    support = np.flatnonzero(read_subset(reader, m, small=True))
    _require(support.size > 0)
    low = reader.gamma()
    negative = _read_signs(reader, support.size)
    magnitudes = read_numbers(reader, support.size, limit)
    _require(int(magnitudes.min()) == 0 and int(magnitudes.max()) < limit - low)
    group = np.zeros(m, dtype=np.int64)
    group[support] = (magnitudes + low) * (1 - 2 * negative.astype(np.int64))
    return group


def _group_cost(group: Integers) -> int:
    """Bits of a group without its signs, about."""
    magnitudes = np.abs(where(group, group != 0))
    excess = magnitudes - magnitudes.min()
    return subset_cost(group.size, magnitudes.size) + choose_classes(excess).cost


def _write_signs(writer: BitWriter, negative: Mask) -> None:
    if negative.size >= FEWEST_BIASED:
        biased = subset_cost(negative.size, int(np.count_nonzero(negative))) < negative.size
        writer.number(biased, 1)
        if biased:
            write_subset(writer, negative)
            return
    writer.planes(negative.astype(np.int64), 1)


def _read_signs(reader: BitReader, m: int) -> Mask:
    if m >= FEWEST_BIASED and reader.number(1) == 1:
        return read_subset(reader, m)
    return reader.planes(m, 1).astype(np.bool_)


def _require(condition: bool) -> None:
    if not condition:
        raise PeerError("the bytes are not an encoding of a vector")
