"""Two streams of bits in one string of bytes: plain numbers from the front, unary from the back.

The streams grow towards each other, so neither's length is transmitted; fewer than eight zero bits
part them.  Everything is whole arrays at a time:

    planes      m numbers of w bits: first the highest bit of all of them, then the next
    unary       m numbers, each as so many zeros and a one: a reader looks for the ones
    uniform     one number of 0..n, any as likely: truncated binary, the lower ones a bit shorter
    small       one number of 0..n, rather small: the length of its bits, uniform, and the bits
                below the leading one
    gamma       one number from 1 up: the same, but its length unary (Elias 1975)

A reader believes nothing: it never takes more bits than are there, nor reserves more memory than
the bits it takes are worth.
"""

from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from plantfed_shared.errors import PeerError

Bits = NDArray[np.uint8]
"""One bit each, 0 or 1."""
Integers = NDArray[np.int64]

MAX_LENGTH = 62
"""Bits of a gamma number."""


class BitWriter:
    """Gathers both streams."""

    def __init__(self) -> None:
        self._front: list[Bits] = []
        self._back: list[Bits] = []

    def planes(self, numbers: Integers, width: int) -> None:
        """Write int64 (m,), 0 <= x < 2^width."""
        for place in reversed(range(width)):
            plane: Bits = ((numbers >> place) & 1).astype(np.uint8)
            self._front.append(plane)

    def unary(self, numbers: Integers) -> None:
        """Write int64 (m,), x >= 0."""
        if numbers.size:
            ones = np.cumsum(numbers + 1) - 1
            bits = np.zeros(int(ones[-1]) + 1, dtype=np.uint8)
            bits[ones] = 1
            self._back.append(bits)

    def unary_bits(self, bits: NDArray[np.bool_]) -> None:
        """Write numbers that are unary already, bool (m,), with a one at the end."""
        self._back.append(bits.view(np.uint8))

    def number(self, number: int, width: int) -> None:
        """Write 0 <= number < 2^width."""
        digits = f"{number:0{width}b}".encode() if width else b""
        self._front.append(np.frombuffer(digits, dtype=np.uint8) & np.uint8(1))

    def uniform(self, number: int, bound: int) -> None:
        """Write 0 <= number <= bound."""
        width, n_short = _truncated(bound)
        if number < n_short:
            self.number(number, width - 1)
        else:
            self.number(number + n_short, width)

    def small(self, number: int, bound: int) -> None:
        """Write 0 <= number <= bound."""
        length = number.bit_length()
        self.uniform(length, bound.bit_length())
        self._below_leading_one(number, length)

    def gamma(self, number: int) -> None:
        """Write 1 <= number < 2^62."""
        length = number.bit_length()
        self.unary(np.array([length - 1]))
        self._below_leading_one(number, length)

    def _below_leading_one(self, number: int, length: int) -> None:
        if length > 1:
            self.number(number - (1 << (length - 1)), length - 1)

    def to_bytes(self) -> bytes:
        """Both streams, nothing if nothing was written."""
        none = np.zeros(0, dtype=np.uint8)
        front = np.concatenate([none, *self._front])
        back = np.concatenate([none, *self._back])
        gap = np.zeros(-(front.size + back.size) % 8, dtype=np.uint8)
        return np.packbits(np.concatenate([front, gap, back[::-1]])).tobytes()


class BitReader:
    """Reads what a :class:`BitWriter` wrote, in the same order.

    All methods raise PeerError where the bits can't be what was asked for.
    """

    def __init__(self, encoded: bytes | memoryview) -> None:
        packed = np.frombuffer(encoded, dtype=np.uint8)
        self._front = np.unpackbits(packed)
        # from a string reversed byte by byte, lowest bit first, the back reads forwards
        self._back = np.unpackbits(packed[::-1], bitorder="little").view(np.bool_)
        self._front_at = 0
        self._back_at = 0

    def planes(self, m: int, width: int) -> Integers:
        """Read int64 (m,), 0 <= x < 2^width."""
        bits = self._take(m * width).reshape(width, m)
        numbers = np.zeros(m, dtype=np.int64)
        for plane in bits:
            np.left_shift(numbers, 1, out=numbers)
            np.bitwise_or(numbers, plane, out=numbers)
        return numbers

    def unary_ends(self, m: int, longest: int) -> Integers:
        """Read m unary numbers: int64 (m,), where each one is, counted from the first bit.

        Args:
            m: how many.
            longest: bits they can have together, so that no more is searched.
        """
        end = self._back_at + min(longest, self._left)
        ones = np.flatnonzero(self._back[self._back_at : end])[:m]
        if ones.size < m:
            _fail()
        self._back_at += int(ones[-1]) + 1 if m else 0
        return ones

    def number(self, width: int) -> int:
        """Read 0 <= number < 2^width."""
        digits = (self._take(width) + ord("0")).tobytes()
        return int(digits, 2) if width else 0

    def uniform(self, bound: int) -> int:
        """Read 0 <= number <= bound."""
        width, n_short = _truncated(bound)
        if width == 0:
            return 0
        number = self.number(width - 1)
        return number if number < n_short else 2 * number + self.number(1) - n_short

    def small(self, bound: int) -> int:
        """Read 0 <= number <= bound."""
        number = self._below_leading_one(self.uniform(bound.bit_length()))
        if number > bound:
            _fail()
        return number

    def gamma(self) -> int:
        """Read 1 <= number < 2^62."""
        return self._below_leading_one(1 + int(self.unary_ends(1, MAX_LENGTH)[0]))

    def end(self) -> None:
        """Make sure that nothing is left but the gap between the streams."""
        if self._left >= 8 or self._take(self._left).any():
            _fail()

    @property
    def _left(self) -> int:
        return self._front.size - self._front_at - self._back_at

    def _below_leading_one(self, length: int) -> int:
        if length == 0:
            return 0
        return (1 << (length - 1)) + self.number(length - 1)

    def _take(self, n_bits: int) -> Bits:
        if n_bits > self._left:
            _fail()
        begin = self._front_at
        self._front_at += n_bits
        return self._front[begin : self._front_at]


def _truncated(bound: int) -> tuple[int, int]:
    """Bits of the longer numbers of 0..bound, and how many are a bit shorter."""
    width = bound.bit_length()
    return width, (1 << width) - 1 - bound


def _fail() -> NoReturn:
    raise PeerError("the bytes do not encode a vector of this size")
