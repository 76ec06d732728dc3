"""The integer lattice on which all shared numbers live.

Shared parameters u, the scaled duals w_i and z_i = u_i + w_i are int64 vectors in *lattice units*.
A change o_i that an agent transmits is an int64 vector in *transmission units*.  Per tensor j with
b_j bits, and with the relaxation p/2^s of the federation,

    one transmission unit = 2^-b_j,       one lattice unit = 2^-(b_j + s),

so that relax * o = p * o lattice units: exact.  Sums are int64 and therefore independent of the
order of their terms; no value ever wraps, a value out of range is an error.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import isfinite

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float32]

MAX_MAGNITUDE = 2**30
"""Stored integers satisfy |x| < 2^30."""
MAX_TOTAL_WEIGHT = 2**32
"""N = sum n_i < 2^32, so that |S| = |sum n_i z_i| < 2^62 fits int64."""
MAX_BITS = 28
MAX_RELAXATION_SHIFT = 8


class SaturationError(ValueError):
    """A number is not finite or too large for the lattice."""


@dataclass(frozen=True, slots=True)
class Relaxation:
    """The over-relaxation p/2^s, exact.

    Attributes:
        numerator: p > 0.
        shift: s, 0 to 8.
    """

    numerator: int = 1
    shift: int = 0

    @property
    def value(self) -> float:
        """The relaxation as a number."""
        return self.numerator / (1 << self.shift)

    @classmethod
    def from_float(cls, value: float) -> "Relaxation":
        """The exact p/2^s of a number like 1, 1.5 or 1.625.

        Raises:
            ValueError: it is not positive or not p/2^s with s <= 8.
        """
        for shift in range(MAX_RELAXATION_SHIFT + 1):
            scaled = value * (1 << shift)
            if isfinite(scaled) and scaled == int(scaled) and scaled > 0:
                return cls(int(scaled), shift)
        raise ValueError(f"{value} is not p/2^s with p > 0 and s <= {MAX_RELAXATION_SHIFT}")


@dataclass(frozen=True, slots=True)
class Lattice:
    """Steps of a parameter vector made of tensors.

    Attributes:
        sizes: number of elements of each tensor, in order.
        bits: b_j of each tensor, 0 to 28.
        relaxation: p/2^s.
        release_shift: released models are multiples of 2^release_shift lattice units.
        coarsest_release_shift: a tensor that moves fast is released in multiples of up to so much.
        rows: of each tensor seen as a matrix, 1 for a vector; () where all are vectors.
    """

    sizes: tuple[int, ...]
    bits: tuple[int, ...]
    relaxation: Relaxation = Relaxation()
    release_shift: int = 0
    coarsest_release_shift: int = 0
    rows: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if len(self.sizes) != len(self.bits):
            raise ValueError("one number of bits for each tensor")
        if not all(0 <= b <= MAX_BITS for b in self.bits):
            raise ValueError(f"bits must be 0 to {MAX_BITS}")
        if self.rows and any(n % r for n, r in zip(self.sizes, self.rows, strict=True)):
            raise ValueError("a tensor's size must be a multiple of its rows")

    @property
    def size(self) -> int:
        """Number of elements of the whole vector."""
        return sum(self.sizes)

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """(rows, columns) of each tensor."""
        rows = self.rows or (1,) * len(self.sizes)
        return tuple((r, n // r) for n, r in zip(self.sizes, rows, strict=True))

    @property
    def has_matrices(self) -> bool:
        """Whether a tensor is more than a vector."""
        return any(min(shape) > 1 for shape in self.shapes)

    def to_floats(self, integers: Integers) -> Floats:
        """Lattice units -> float32, same shape (size,)."""
        return (integers * self._lattice_step()).astype(np.float32)

    def from_floats(self, values: Floats) -> Integers:
        """Nearest lattice point, half to even.

        Raises:
            SaturationError: a value is not finite or beyond 2^30 lattice units.
        """
        return _to_integers(values.astype(np.float64) / self._lattice_step())

    def change_to_transmit(self, change: NDArray[np.float64]) -> Integers:
        """A change in parameter units -> nearest transmission units, half to even.

        Raises:
            SaturationError: a value is not finite or beyond 2^30 transmission units.
        """
        with np.errstate(over="ignore"):  # infinite is too large like any other
            return _to_integers(change / _steps(self.sizes, self.bits))

    def transmitted_change(self, transmitted: Integers) -> NDArray[np.float64]:
        """Transmission units -> parameter units, exact; the inverse of what was rounded."""
        return transmitted * _steps(self.sizes, self.bits)

    def relaxed(self, transmitted: Integers) -> Integers:
        """Relax * o: transmission units -> lattice units, exact."""
        return transmitted * self.relaxation.numerator

    def released(
        self, integers: Integers, before: Integers | None = None, steps_per_move: int = 2
    ) -> Integers:
        """The nearest vector that may be released, half to even.

        A tensor whose elements have moved by d on average since the release before is rounded to
        the largest power of two up to ``steps_per_move`` d that the two release shifts allow.

        Args:
            integers: lattice units, |x| < 2^30.
            before: the release before as it was before it was rounded, or None to be as exact as a
                release may be.
            steps_per_move: see above.
        """
        if before is None or self.coarsest_release_shift <= self.release_shift:
            return _rounded(integers, self.release_shift)
        parts, begin = [], 0
        for size in self.sizes:
            tensor = slice(begin, begin + size)
            moved = int(np.abs(integers[tensor] - before[tensor]).sum())
            coarse = (steps_per_move * moved // max(1, size)).bit_length() - 1
            shift = min(max(coarse, self.release_shift), self.coarsest_release_shift)
            parts.append(_rounded(integers[tensor], shift))
            begin += size
        return np.concatenate(parts) if parts else integers

    def _lattice_step(self) -> NDArray[np.float64]:
        return _steps(self.sizes, tuple(b + self.relaxation.shift for b in self.bits))


def _rounded(integers: Integers, shift: int) -> Integers:
    if not shift:
        return integers
    # what is next to 2^30 would round up to it, and nobody could be sent that
    highest = (MAX_MAGNITUDE >> shift) - 1
    return np.clip(divide_half_even(integers, 1 << shift), -highest, highest) << shift


@lru_cache(maxsize=32)
def _steps(sizes: tuple[int, ...], bits: tuple[int, ...]) -> NDArray[np.float64]:
    """(size,), or () where all tensors have the same step: that of a large model takes memory."""
    if len(set(bits)) == 1:
        return np.array(np.exp2(-np.float64(bits[0])))
    steps = np.repeat(np.exp2(-np.array(bits, dtype=np.float64)), sizes)
    steps.flags.writeable = False
    return steps


def _to_integers(scaled: NDArray[np.float64]) -> Integers:
    low, high = (float(scaled.min()), float(scaled.max())) if scaled.size else (0.0, 0.0)
    # NaN compares false, so it must be the inside of the range that is asked for; rounding keeps
    # the order, so the two ends speak for all
    if not (np.rint(low) > -MAX_MAGNITUDE and np.rint(high) < MAX_MAGNITUDE):
        raise SaturationError("a value is not finite or too large for the lattice")
    rounded: Integers = np.rint(scaled).astype(np.int64)
    return rounded


def check_magnitude(integers: Integers) -> Integers:
    """Return the vector unchanged.

    Raises:
        SaturationError: a value is not below 2^30 in magnitude.
    """
    if integers.size and (
        int(integers.max()) >= MAX_MAGNITUDE or int(integers.min()) <= -MAX_MAGNITUDE
    ):
        raise SaturationError("a value is too large for the lattice")
    return integers


def divide_half_even(total: Integers, weight: int) -> Integers:
    """Total / weight rounded to the nearest integer, half to even, without floats.

    Args:
        total: int64, |x| < 2^62.
        weight: 1 <= weight < 2^32.
    """
    # by one scalar numpy divides many times faster than with divmod
    quotient = total // weight
    twice = 2 * (total - quotient * weight)
    up = (twice > weight) | ((twice == weight) & (quotient & 1 == 1))
    result: Integers = quotient + up
    return result


BLOCK = 2**18
"""Integers whose checksum is computed at once: all of a large model would take twice its memory."""


def checksum(integers: Integers) -> int:
    """c(x) = sum_j r_j x_j mod 2^64 with fixed odd r_j; 0 for the zero vector.

    Linear: c(x + y) = c(x) + c(y) mod 2^64, so that a sparse change costs O(entries).
    """
    unsigned = integers.astype(np.int64, copy=False).view(np.uint64)
    if unsigned.size <= BLOCK:
        return _checksum_of_block(unsigned, 0)
    blocks = range(0, unsigned.size, BLOCK)
    return sum(_checksum_of_block(unsigned[n : n + BLOCK], n) for n in blocks) % 2**64


def upper_half(of_checksum: int) -> int:
    """32 bits of it for where a message must be short.

    The lower half knows nothing of the upper bits of values, and little of multiples of 2^n.
    """
    return of_checksum >> 32


def _checksum_of_block(block: NDArray[np.uint64], begin: int) -> int:
    return int(np.add.reduce(block * _odd_numbers(begin, block.size), dtype=np.uint64))


@lru_cache(maxsize=8)
def _odd_numbers(begin: int, size: int) -> NDArray[np.uint64]:
    """SplitMix64 (Steele, Lea, Flood 2014) of begin + 1 .. begin + size, made odd."""
    first, last = begin + 1, begin + size
    x = np.arange(first, last + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    odd: NDArray[np.uint64] = (x ^ (x >> np.uint64(31))) | np.uint64(1)
    odd.flags.writeable = False
    return odd
