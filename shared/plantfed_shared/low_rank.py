"""Changes whose matrices are sums of few products of two vectors, as small integers.

A step of training moves the weights of a layer by (inputs, batch) times (batch, outputs): most of
what a round changes is a matrix of low rank, and its factors are far fewer numbers than its largest
elements and their places (PowerSGD, arXiv 1905.13727, has floats instead).

    tensor with more elements than rows + columns    sum over r of 2^t_r left_r right_r^T
    any other                                         its numbers

Encoded, as one string of bits (:mod:`plantfed_shared.bit_streams`):

    for each tensor of the first kind    how many terms, small; where there are some, t of the
                                         first, 5 bits, and of each other, unary, how it differs
                                         from the one before: 0, -1, 1, -2, ... as 0, 1, 2, 3, ...;
                                         then which rows of left are meant, and which columns of
                                         right
    for any other                        the power of two that divides its numbers, 5 bits
    then                                 of all tensors in order, those rows of left (rows, terms)
                                         and columns of right (columns, terms), and the other
                                         numbers without that power, as one tensor of
                                         :mod:`plantfed_shared.entropy_codec`

Inputs that never change and hidden units that are dead leave rows of zeros, and often many side by
side.  So 1 bit says whether all rows are meant (0), or only those that are not zero (1).  Then a
subset follows: where a row is meant and the one before is not, or the other way round.

No term is zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from plantfed_shared import entropy_codec
from plantfed_shared.bit_streams import BitReader, BitWriter
from plantfed_shared.errors import PeerError
from plantfed_shared.lattice import Integers, Lattice, check_magnitude
from plantfed_shared.subset_code import read_subset, subset_cost, write_subset

MAX_FACTOR = 127
"""In magnitude: 8 bits and the sign included."""
MAX_TERMS = 255
MAX_SHIFT = 29
SHIFT_BITS = 5


@dataclass(frozen=True, slots=True)
class Factors:
    """A matrix of low rank.

    Attributes:
        shifts: t of each term.
        left: int64 (rows, terms), |x| <= 127.
        right: int64 (terms, columns), |x| <= 127.
    """

    shifts: tuple[int, ...]
    left: Integers
    right: Integers

    @property
    def numbers(self) -> Integers:
        """The elements of the product, int64 (rows * columns,)."""
        # exact: a sum of 255 products of 7, 7 and 29 bits is below 2^51
        scaled = self.left * np.exp2(np.array(self.shifts, dtype=np.float64))
        product: Integers = (scaled @ self.right.astype(np.float64)).astype(np.int64)
        return product.ravel()

    @property
    def has_zero_term(self) -> bool:
        """Whether a term says nothing."""
        return not (self.left.any(axis=0).all() and self.right.any(axis=1).all())


Part = Factors | Integers
"""Of a tensor: its factors, or its numbers, int64 (size,)."""


def most_terms(shape: tuple[int, int]) -> int:
    """So many terms are not more numbers than the matrix has itself.

    Args:
        shape: rows, columns; 0 for what is no matrix.
    """
    rows, columns = shape
    return min(MAX_TERMS, rows * columns // (rows + columns)) if min(shape) > 1 else 0


def fewest_numbers(lattice: Lattice) -> int:
    """Of a change that says anything of a matrix: all vectors and its shortest term."""
    vectors = sum(rows * columns for rows, columns in lattice.shapes if min(rows, columns) <= 1)
    terms = [rows + columns for rows, columns in lattice.shapes if min(rows, columns) > 1]
    return vectors + min(terms, default=0)


def whole(parts: Sequence[Part]) -> Integers:
    """All tensors one after the other, int64 (size,)."""
    numbers = [part.numbers if isinstance(part, Factors) else part for part in parts]
    return np.concatenate(numbers) if numbers else np.zeros(0, dtype=np.int64)


def encode(parts: Sequence[Part], lattice: Lattice) -> bytes:
    """One part for each tensor of the lattice -> bytes.

    Raises:
        ValueError: a number is too large, a term is zero, or a part is not of its tensor.
    """
    writer = BitWriter()
    numbers: list[Integers] = []
    for part, shape in zip(parts, lattice.shapes, strict=True):
        if isinstance(part, Factors) != bool(most_terms(shape)):
            raise ValueError(f"a tensor of {shape} needs other parts")
        if isinstance(part, Factors):
            if part.has_zero_term:
                raise ValueError("a term of a matrix is zero")
            _write_shifts(writer, part.shifts, most_terms(shape))
            if part.shifts:
                numbers += [_write_rows(writer, side) for side in (part.left, part.right.T)]
        else:
            together = int(np.bitwise_or.reduce(check_magnitude(part)))
            shift = max(0, (together & -together).bit_length() - 1)
            writer.number(shift, SHIFT_BITS)
            numbers.append(part >> shift)
    stream = np.concatenate([*numbers, np.zeros(0, dtype=np.int64)])
    if stream.size:
        entropy_codec.write_tensor(writer, stream)
    return writer.to_bytes()


def decode(encoded: memoryview, lattice: Lattice) -> Integers:
    """The vector that the parts are, int64 (size,).

    Raises:
        PeerError: these bytes are not an encoding of such parts.
    """
    return whole(decode_parts(encoded, lattice))


def decode_parts(encoded: memoryview, lattice: Lattice) -> list[Part]:
    """The inverse of :func:`encode`.

    Raises:
        PeerError: these bytes are not an encoding of such parts.
    """
    reader = BitReader(encoded)
    heads = [_read_head(reader, shape) for shape in lattice.shapes]
    stream = np.zeros(sum(head.size for head in heads), dtype=np.int64)
    if stream.size:
        entropy_codec.read_tensor(reader, stream)
    reader.end()
    ends = np.cumsum([head.size for head in heads])[:-1]
    return [head.part(numbers) for head, numbers in zip(heads, np.split(stream, ends), strict=True)]


class _Rows(NamedTuple):
    """Which rows of one side of a matrix are in the stream.

    Attributes:
        total: how many the side has.
        meant: places, int64 (m,).
        chosen: none of them is zero.
    """

    total: int
    meant: Integers
    chosen: bool

    def side(self, numbers: Integers) -> Integers:
        """Int64 (m * terms,) -> int64 (total, terms)."""
        rows = numbers.reshape(self.meant.size, -1)
        if self.chosen and not rows.any(axis=1).all():
            raise PeerError("a row of a matrix is zero and was said not to be")
        if max(rows.max(initial=0), -rows.min(initial=0)) > MAX_FACTOR:
            raise PeerError(f"a factor is larger than {MAX_FACTOR}")
        side = np.zeros((self.total, rows.shape[1]), dtype=np.int64)
        side[self.meant] = rows
        return side


class _Head(NamedTuple):
    """What comes before the numbers of a tensor.

    Attributes:
        size: numbers in the stream.
        shifts: of each term of a matrix, or the one of any other tensor.
        sides: left and right of a matrix that has terms.
        shape: rows and columns of a matrix; None for any other tensor.
    """

    size: int
    shifts: tuple[int, ...]
    sides: tuple[_Rows, ...] = ()
    shape: tuple[int, int] | None = None

    def part(self, numbers: Integers) -> Part:
        """Of the tensor, from int64 (size,)."""
        if self.shape is None:
            return numbers << self.shifts[0]
        if not self.sides:
            rows, columns = self.shape
            return Factors((), np.zeros((rows, 0), np.int64), np.zeros((0, columns), np.int64))
        middle = self.sides[0].meant.size * len(self.shifts)
        left, right = self.sides[0].side(numbers[:middle]), self.sides[1].side(numbers[middle:])
        factors = Factors(self.shifts, left, np.ascontiguousarray(right.T))
        if factors.has_zero_term:
            # few bytes would ask for as much work as 255 terms that say something
            raise PeerError("a term of a matrix is zero")
        return factors


def _read_head(reader: BitReader, shape: tuple[int, int]) -> _Head:
    if not most_terms(shape):
        return _Head(shape[0] * shape[1], (_checked_shift(reader.number(SHIFT_BITS)),))
    shifts = _read_shifts(reader, most_terms(shape))
    sides = tuple(_read_rows(reader, count) for count in shape) if shifts else ()
    return _Head(sum(side.meant.size for side in sides) * len(shifts), shifts, sides, shape)


def _write_shifts(writer: BitWriter, shifts: tuple[int, ...], most: int) -> None:
    writer.small(len(shifts), most)
    if shifts:
        writer.number(shifts[0], SHIFT_BITS)
        steps = np.diff(np.array(shifts, dtype=np.int64))
        writer.unary(np.where(steps < 0, -2 * steps - 1, 2 * steps))


def _read_shifts(reader: BitReader, most: int) -> tuple[int, ...]:
    terms = reader.small(most)
    if not terms:
        return ()
    first = reader.number(SHIFT_BITS)
    ends = reader.unary_ends(terms - 1, (terms - 1) * (2 * MAX_SHIFT + 2))
    signed = np.diff(ends, prepend=-1) - 1
    steps = np.where(signed % 2, -(signed + 1) // 2, signed // 2)
    return tuple(_checked_shift(t) for t in [first, *(first + np.cumsum(steps)).tolist()])


def _checked_shift(shift: int) -> int:
    if not 0 <= shift <= MAX_SHIFT:
        raise PeerError("the bytes are not factors of these matrices")
    return shift


def _write_rows(writer: BitWriter, side: Integers) -> Integers:
    """Say which rows of int64 (n, terms) are in the stream; what of them is."""
    meant, n_nonzero = side.any(axis=1), int(np.count_nonzero(side))
    borders = np.diff(meant, prepend=False)
    n_meant = int(np.count_nonzero(meant))
    cost = subset_cost(meant.size, int(np.count_nonzero(borders)))
    cost += subset_cost(n_meant * side.shape[1], n_nonzero)
    chosen = cost < subset_cost(side.size, n_nonzero)
    writer.number(chosen, 1)
    if chosen:
        write_subset(writer, borders)
        side = side[meant]
    return side.ravel()


def _read_rows(reader: BitReader, count: int) -> _Rows:
    if not reader.number(1):
        return _Rows(count, np.arange(count), chosen=False)
    meant = np.flatnonzero(np.logical_xor.accumulate(read_subset(reader, count)))
    if not meant.size:
        raise PeerError("a term of a matrix is zero")
    return _Rows(count, meant, chosen=True)
