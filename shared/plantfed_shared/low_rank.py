"""Changes whose matrices are sums of few products of two vectors, as small integers.

A step of training moves the weights of a layer by (inputs, batch) times (batch, outputs): most of
what a round changes is a matrix of low rank, and its factors are far fewer numbers than its largest
elements and their places (PowerSGD, arXiv 1905.13727, has floats instead).

    tensor with more elements than rows + columns    sum over r of 2^t_r left_r right_r^T
    any other                                         its numbers

Encoded:

    for each tensor of the first kind    the number of terms, 1 byte, and t of each, 1 byte
    then                                 all numbers by :mod:`plantfed_shared.entropy_codec`, as
                                         one tensor for each left (rows, terms), right (terms,
                                         columns) and tensor of the other kind
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


Part = Factors | Integers
"""Of a tensor: its factors, or its numbers, int64 (size,)."""


def most_terms(shape: tuple[int, int]) -> int:
    """So many terms are not more numbers than the matrix has itself.

    Args:
        shape: rows, columns; 0 for what is no matrix.
    """
    rows, columns = shape
    return min(MAX_TERMS, rows * columns // (rows + columns)) if min(shape) > 1 else 0


def whole(parts: Sequence[Part]) -> Integers:
    """All tensors one after the other, int64 (size,)."""
    numbers = [part.numbers if isinstance(part, Factors) else part for part in parts]
    return np.concatenate(numbers) if numbers else np.zeros(0, dtype=np.int64)


def encode(parts: Sequence[Part], lattice: Lattice) -> bytes:
    """One part for each tensor of the lattice -> bytes.

    Raises:
        ValueError: a number is too large.
    """
    head = bytearray()
    numbers: list[Integers] = []
    for part, shape in zip(parts, lattice.shapes, strict=True):
        if isinstance(part, Factors):
            head += bytes([len(part.shifts), *part.shifts])
            numbers += [part.left.ravel(), part.right.ravel()]
        elif most_terms(shape):
            raise ValueError(f"a matrix of {shape} needs factors")
        else:
            numbers.append(part)
    together = np.concatenate(numbers) if numbers else np.zeros(0, dtype=np.int64)
    return bytes(head) + entropy_codec.encode(together, [n.size for n in numbers])


def decode(encoded: memoryview, lattice: Lattice) -> Integers:
    """The vector that the parts are, int64 (size,).

    Raises:
        PeerError: these bytes are not an encoding of such parts.
    """
    shifts, rest = _read_shifts(encoded, lattice)
    sizes: list[int] = []
    for terms, (rows, columns) in zip(shifts, lattice.shapes, strict=True):
        sizes += [rows * columns] if terms is None else [rows * len(terms), columns * len(terms)]
    numbers = iter(np.split(entropy_codec.decode(rest, sizes), np.cumsum(sizes)[:-1]))
    parts: list[Part] = []
    for terms, (rows, columns) in zip(shifts, lattice.shapes, strict=True):
        if terms is None:
            parts.append(next(numbers))
            continue
        left, right = next(numbers), next(numbers)
        if max(np.abs(left).max(initial=0), np.abs(right).max(initial=0)) > MAX_FACTOR:
            raise PeerError(f"a factor is larger than {MAX_FACTOR}")
        shape = (rows, len(terms)), (len(terms), columns)
        parts.append(Factors(terms, left.reshape(shape[0]), right.reshape(shape[1])))
    return whole(parts)


def _read_shifts(
    encoded: memoryview, lattice: Lattice
) -> tuple[list[tuple[int, ...] | None], memoryview]:
    """The shifts of each matrix, None for any other tensor, and what comes after them."""
    found: list[tuple[int, ...] | None] = []
    for shape in lattice.shapes:
        most = most_terms(shape)
        if not most:
            found.append(None)
            continue
        count = encoded[0] if len(encoded) else most + 1
        shifts = tuple(encoded[1 : 1 + count])
        if count > most or len(shifts) < count or max(shifts, default=0) > MAX_SHIFT:
            raise PeerError("the bytes are not factors of these matrices")
        found.append(shifts)
        encoded = encoded[1 + count :]
    return found, encoded
