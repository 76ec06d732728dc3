"""Changes whose matrices are sums of few products of two vectors, as small integers.

A step of training moves the weights of a layer by (inputs, batch) times (batch, outputs): most of
what a round changes is a matrix of low rank, and its factors are far fewer numbers than its largest
elements and their places (PowerSGD, arXiv 1905.13727, has floats instead).

    tensor with more elements than rows + columns    sum over r of 2^t_r left_r right_r^T
    any other                                         its numbers

Encoded:

    for each tensor of the first kind    the number of terms, 1 byte, and t of each, 1 byte
    for any other                        the power of two that divides its numbers, 1 byte
    then                                 left (rows, terms), right (terms, columns) and the other
                                         numbers without that power, in the order of the tensors,
                                         as one tensor by :mod:`plantfed_shared.entropy_codec`

No term is zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from plantfed_shared import entropy_codec
from plantfed_shared.errors import PeerError
from plantfed_shared.lattice import Integers, Lattice

MAX_FACTOR = 127
"""In magnitude: 8 bits and the sign included."""
MAX_TERMS = 255
MAX_SHIFT = 29


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
    head = bytearray()
    numbers: list[Integers] = []
    for part, shape in zip(parts, lattice.shapes, strict=True):
        if isinstance(part, Factors) != bool(most_terms(shape)):
            raise ValueError(f"a tensor of {shape} needs other parts")
        if isinstance(part, Factors):
            if part.has_zero_term:
                raise ValueError("a term of a matrix is zero")
            head += bytes([len(part.shifts), *part.shifts])
            numbers += [part.left.ravel(), part.right.ravel()]
        else:
            together = int(np.bitwise_or.reduce(part))
            shift = max(0, (together & -together).bit_length() - 1)
            head.append(shift)
            numbers.append(part >> shift)
    stream = np.concatenate(numbers)
    return bytes(head) + entropy_codec.encode(stream, [stream.size])


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
    shifts, rest = _read_shifts(encoded, lattice)
    sizes: list[int] = []
    for of_tensor, (rows, columns) in zip(shifts, lattice.shapes, strict=True):
        terms = len(of_tensor)
        matrix = most_terms((rows, columns)) > 0
        sizes += [rows * terms, columns * terms] if matrix else [rows * columns]
    stream = entropy_codec.decode(rest, [sum(sizes)])
    numbers = iter(np.split(stream, np.cumsum(sizes)[:-1]))
    return [
        _factors(of_tensor, shape, next(numbers), next(numbers))
        if most_terms(shape)
        else next(numbers) << of_tensor[0]
        for of_tensor, shape in zip(shifts, lattice.shapes, strict=True)
    ]


def _factors(
    shifts: tuple[int, ...], shape: tuple[int, int], left: Integers, right: Integers
) -> Factors:
    if max(np.abs(left).max(initial=0), np.abs(right).max(initial=0)) > MAX_FACTOR:
        raise PeerError(f"a factor is larger than {MAX_FACTOR}")
    terms = len(shifts)
    factors = Factors(shifts, left.reshape(shape[0], terms), right.reshape(terms, shape[1]))
    if factors.has_zero_term:
        # few bytes would ask for as much work as 255 terms that say something
        raise PeerError("a term of a matrix is zero")
    return factors


def _read_shifts(encoded: memoryview, lattice: Lattice) -> tuple[list[tuple[int, ...]], memoryview]:
    """The shifts of each matrix, or the one of any other tensor, and what comes after them."""
    found: list[tuple[int, ...]] = []
    for shape in lattice.shapes:
        most = most_terms(shape)
        count = 1
        if most:
            count = encoded[0] if len(encoded) else most + 1
            encoded = encoded[1:]
        shifts = tuple(encoded[:count])
        if count > max(1, most) or len(shifts) < count or max(shifts, default=0) > MAX_SHIFT:
            raise PeerError("the bytes are not factors of these matrices")
        found.append(shifts)
        encoded = encoded[count:]
    return found, encoded
