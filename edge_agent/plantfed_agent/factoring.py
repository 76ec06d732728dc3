"""A change as few products of two vectors, in few bits: pure.

Term after term, the matrix whose next term takes most off what is left, for its rows + columns
numbers, gets it.  With d what is left of a matrix and L = 2^(bits - 1) - 1, a term is

    v      close to the first right singular vector of d, by power iteration, max |v| = 1
    right  = round(L v)
    left   = round(d right / |right|^2 / 2^t)    the smallest t with |left| <= L + 1/2
    d      = d - 2^t left right^T

so that each makes good what those before it were rounded by.  Nothing but products: a device needs
no LAPACK, and there is nothing that could fail to converge.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from plantfed_agent.selection import Changes, coarsened
from plantfed_shared.lattice import Integers, Lattice
from plantfed_shared.low_rank import Factors, Part, most_terms

Matrix = NDArray[np.float64]

ITERATIONS = 5


class _Term(NamedTuple):
    """A product of two vectors.

    Attributes:
        shift: t.
        left: (rows,).
        right: (columns,).
        gain: by how much it shortens the square of what is left.
    """

    shift: int
    left: Integers
    right: Integers
    gain: float


class _Pursuit:
    """A matrix on its way to becoming factors.

    Args:
        matrix: transmission units, float64 (rows, columns).
        largest: L.
    """

    def __init__(self, matrix: Matrix, largest: int) -> None:
        self._rest = matrix
        self._largest = largest
        self._taken: list[_Term] = []
        self.next = _next_term(self._rest, largest)

    @property
    def cost(self) -> int:
        """Numbers of a term."""
        return sum(self._rest.shape)

    @property
    def worth(self) -> float:
        """Of the next term, for each of its numbers; 0 where there is none."""
        full = len(self._taken) >= most_terms(self._rest.shape)
        return 0.0 if full or self.next is None else self.next.gain / self.cost

    def take(self) -> None:
        """Take the next term."""
        if self.next is not None:
            self._taken.append(self.next)
            self._rest = self._rest - _product(self.next)
            self.next = _next_term(self._rest, self._largest)

    def factors(self) -> Factors:
        """Of all terms that were taken."""
        rows, columns = self._rest.shape
        left = np.array([term.left for term in self._taken], dtype=np.int64)
        right = np.array([term.right for term in self._taken], dtype=np.int64)
        shifts = tuple(term.shift for term in self._taken)
        return Factors(shifts, left.reshape(-1, rows).T.copy(), right.reshape(-1, columns))


def factored(lattice: Lattice, bits: int, keep: float, wanted: Changes) -> list[Part]:
    """What is sent of a change, one part for each tensor.

    Args:
        lattice: of the shared vector.
        bits: of a number, its sign included.
        keep: numbers to send, as a part of the parameters; of one matrix a term in any case.
        wanted: d, parameter units, float64 (shared,).

    Raises:
        SaturationError: the change is not finite or too large for the lattice.
    """
    exact = lattice.change_to_transmit(wanted)
    largest = 2 ** (bits - 1) - 1
    numbers = keep * exact.size
    parts: list[_Pursuit | Integers] = []
    begin = 0
    for shape in lattice.shapes:
        tensor = exact[begin : begin + shape[0] * shape[1]]
        begin += tensor.size
        if most_terms(shape):
            parts.append(_Pursuit(tensor.reshape(shape).astype(np.float64), largest))
        else:
            parts.append(coarsened(tensor, largest))
            numbers -= tensor.size
    _take_terms([part for part in parts if isinstance(part, _Pursuit)], numbers)
    return [part.factors() if isinstance(part, _Pursuit) else part for part in parts]


def _take_terms(pursuits: list[_Pursuit], numbers: float) -> None:
    """As many as are nearest to so many numbers, one in any case."""
    first = True
    while pursuits:
        best = max(pursuits, key=lambda pursuit: pursuit.worth)
        if best.worth <= 0 or not (first or numbers >= best.cost / 2):
            return
        numbers -= best.cost
        best.take()
        first = False


def _next_term(rest: Matrix, largest: int) -> _Term | None:
    """None where nothing is left that it could say."""
    # the longest row is not at a right angle to all that matters
    direction = rest[int(np.argmax(np.einsum("ij,ij->i", rest, rest)))]
    for _ in range(ITERATIONS):
        highest = float(np.abs(direction).max(initial=0.0))
        if highest == 0:
            return None
        direction = rest.T @ (rest @ (direction / highest))
    right = np.rint(direction * (largest / np.abs(direction).max()))
    exact = rest @ right / (right @ right)
    shift = int(np.abs(exact).max() / (largest + 0.5)).bit_length()
    left = np.clip(np.rint(exact / (1 << shift)), -largest, largest)
    # |d|^2 - |d - l r^T|^2 with the best left and the one that it is rounded to
    scaled = left * (1 << shift)
    gain = float((2 * exact - scaled) @ scaled) * float(right @ right)
    if gain <= 0:
        return None
    return _Term(shift, left.astype(np.int64), right.astype(np.int64), gain)


def _product(term: _Term) -> Matrix:
    return np.outer(term.left << term.shift, term.right).astype(np.float64)
