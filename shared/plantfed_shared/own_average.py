"""What a machine uses in mode ``auto``: an average A of the releases that it has worked on.

Releases go to and fro with whose updates they are made of; what is used should not.  With a release
u, dT turnovers after the one before,

    A += dT / (1 + dT) * (u - A)

the backward Euler step of dA/dT = u - A: a machine that comes often and one that comes seldom
average over the same time, and one that was away for long begins anew.  Nothing has to be sent for
it but T.

While a machine has release k it uses the average of those that its applied updates of this epoch
and incarnation began from, and of k.  Each of them is in the journal, and A is made of integers: so
the coordinator can tell what was used, bit for bit.
"""

from plantfed_shared.codec import TURNOVER
from plantfed_shared.lattice import Integers, divide_half_even

FRACTION_BITS = 16
"""Of an average, or moves of less than a lattice unit would be lost."""
LONGEST = 2**6 * TURNOVER
"""Of a dT: after longer the release is all there is.  |u - A| * dT stays below 2^62."""


def average_with(
    average: Integers | None, at: int, model: Integers, turnovers: int
) -> Integers | None:
    """The average with one release more.

    Args:
        average: before, int64 (n,), lattice units with 16 fraction bits more; None for none.
        at: T of the last release in it, 1/256 turnovers.
        model: the release, int64 (n,), lattice units, |x| < 2^30.
        turnovers: T of the release; 0 where it is to be used as it is.

    Returns:
        None where the release itself is to be used and no later one is averaged with it.
    """
    if not turnovers:
        return None
    passed = turnovers - at
    if average is None or not 0 <= passed <= LONGEST:
        return model << FRACTION_BITS
    step = passed * ((model << FRACTION_BITS) - average)
    return average + divide_half_even(step, TURNOVER + passed)


def usable(average: Integers) -> Integers:
    """An average in lattice units, int64, same shape."""
    return divide_half_even(average, 1 << FRACTION_BITS)
