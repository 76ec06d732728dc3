"""What a machine uses in mode ``auto``: an average A of the releases that it has worked on.

Releases go to and fro with whose updates they are made of; what is used should not.  With a release
u, dT turnovers after the one before,

    A += dT / (1 + dT) * (u - A)

the backward Euler step of dA/dT = u - A: a machine that comes often and one that comes seldom
average over the same time, and one that was away for long begins anew.  Nothing has to be sent for
it but T.

While a machine has release k it uses the average of those that its applied updates of this epoch
and incarnation began from, and of k.  Each of them is in the journal, and A is made of integers: so
the coordinator can tell what was used, bit for bit.  A journal does not go back for ever, so
neither does A: every 64 turnovers a second one begins, which takes the place of the first after 8
more.  What is older has a weight of 1 % by then where a machine comes often, and 1/9 at most.
"""

from typing import NamedTuple

from plantfed_shared.codec import TURNOVER
from plantfed_shared.lattice import Integers, divide_half_even

FRACTION_BITS = 16
"""Of an average, or moves of less than a lattice unit would be lost."""
WINDOW = 2**6 * TURNOVER
"""How often a successor begins, and the longest dT: after longer the release is all there is, and
|u - A| * dT stays below 2^62."""
OVERLAP = 2**3 * TURNOVER
"""For so long it goes beside the average that it succeeds."""


class OwnAverage(NamedTuple):
    """An average of releases.

    Attributes:
        value: A, int64 (n,), lattice units with 16 fraction bits more.
        at: T of the last release in it, 1/256 turnovers.
        successor: the same of the releases since this window began, as long as it is too young.
    """

    value: Integers
    at: int
    successor: Integers | None = None

    @property
    def usable(self) -> Integers:
        """A in lattice units, int64 (n,)."""
        return divide_half_even(self.value, 1 << FRACTION_BITS)


def average_with(before: OwnAverage | None, model: Integers, turnovers: int) -> OwnAverage | None:
    """The average with one release more.

    Args:
        before: None for none.
        model: the release, int64 (n,), lattice units, |x| < 2^30.
        turnovers: T of the release; 0 where it is to be used as it is.

    Returns:
        None where the release itself is to be used and no later one is averaged with it.
    """
    if not turnovers:
        return None
    wide = model << FRACTION_BITS
    if before is None or begins_anew(before.at, turnovers):
        return OwnAverage(wide, turnovers)
    passed = turnovers - before.at
    value = _moved(before.value, wide, passed)
    successor = before.successor
    if successor is not None:
        successor = _moved(successor, wide, passed)
    if turnovers // WINDOW != before.at // WINDOW:
        value, successor = value if successor is None else successor, wide
    if successor is not None and turnovers % WINDOW >= OVERLAP:
        value, successor = successor, None
    return OwnAverage(value, turnovers, successor)


def begins_anew(before: int, turnovers: int) -> bool:
    """Whether a release is so far from the last one that no average goes on with it.

    Args:
        before: T of the last release.
        turnovers: T of this one.
    """
    return not 0 <= turnovers - before <= WINDOW


def goes_back_to(turnovers: int) -> int:
    """Of the releases before this T nothing is left in an average that has one of T.

    Args:
        turnovers: T of a release.
    """
    window = turnovers - turnovers % WINDOW
    return window if turnovers % WINDOW >= OVERLAP else window - WINDOW


def _moved(average: Integers, wide: Integers, passed: int) -> Integers:
    return average + divide_half_even(passed * (wide - average), TURNOVER + passed)
