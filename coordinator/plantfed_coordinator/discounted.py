"""Server steps that count a stale arrival less: those of fedbuff and fedasync."""

from collections.abc import Collection
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import lru_cache

import numpy as np

from plantfed_coordinator.contribution import Contribution, Staleness
from plantfed_shared.definition import Algorithm
from plantfed_shared.lattice import (
    MAX_TOTAL_WEIGHT,
    Integers,
    check_magnitude,
    divide_half_even,
)

ONE = 2**16
"""1 with 16 fraction bits: what is not an integer in a server step has so many."""


class BufferedChanges:
    """FedBuff's server step (arXiv 2106.06639): U += eta * mean of s(tau) o over the buffer.

    Attributes:
        total: sum of s(tau) relax*o over the buffer, int64 (n,), with 16 fraction bits more.
        weight: arrivals in the buffer, times 2^16.
    """

    counts_members = False
    fewest_arrivals = 1
    carries = True

    def __init__(self, algorithm: Algorithm, current: Integers) -> None:
        self.total: Integers = np.zeros_like(current)
        self.weight = 0
        self._unrounded = current
        self._exponent = algorithm.staleness_exponent
        self._server_step = round(algorithm.server_step * ONE)

    def counted(self, arrived: Collection[str]) -> int:
        """Every one of them."""
        return len(arrived)

    def has_room(self, old: Contribution, weight: int) -> bool:  # noqa: ARG002
        """Fewer than 2^16 arrivals."""
        return self.weight + ONE < MAX_TOTAL_WEIGHT

    def next_contribution(
        self, old: Contribution, base: Integers, relaxed: Integers, weight: int
    ) -> Contribution:
        """Z' = relax*o; the dual stays zero."""
        check_magnitude(base + relaxed)
        # the mean of what is in the buffer already can only get shorter by a discounted arrival
        check_magnitude(self._moved(self.total + relaxed * ONE, self.weight + ONE))
        return Contribution(weight, check_magnitude(relaxed), old.dual)

    def join(self, new: Contribution) -> None:
        """A member counts when it answers."""

    def leave(self, agent: str, old: Contribution) -> None:
        """What it has contributed since the last release stays in the buffer."""

    def arrive(
        self,
        agent: str,  # noqa: ARG002
        old: Contribution,  # noqa: ARG002
        new: Contribution,
        staleness: Staleness,
    ) -> None:
        """Total += s(tau) z', one arrival more."""
        self.total = self.total + discount(staleness.releases, self._exponent) * new.z
        self.weight += ONE

    def release(self, current: Integers) -> Integers:
        """U + eta * mean, half to even; begins anew."""
        if not self.weight:
            return current
        model = self._moved(self.total, self.weight)
        self.total, self.weight, self._unrounded = np.zeros_like(model), 0, model
        return model

    def _moved(self, total: Integers, weight: int) -> Integers:
        mean = divide_half_even(total, weight)
        return self._unrounded + divide_half_even(self._server_step * mean, ONE)


class StalenessMixing:
    """FedAsync's server step (arXiv 1903.03934): U += alpha s(tau) (x - U), arrival by arrival.

    The one mode in which the order of arrivals between two releases matters.

    Attributes:
        total: U with all arrivals in it, int64 (n,), lattice units.
        weight: 0, nothing is weighted.
    """

    counts_members = False
    fewest_arrivals = 1
    carries = True

    def __init__(self, algorithm: Algorithm, current: Integers) -> None:
        self.total: Integers = current
        self.weight = 0
        self._exponent = algorithm.staleness_exponent
        self._share = Fraction(algorithm.server_step)

    def counted(self, arrived: Collection[str]) -> int:
        """Every one of them."""
        return len(arrived)

    def has_room(self, old: Contribution, weight: int) -> bool:  # noqa: ARG002
        """A mixture never outgrows what is mixed."""
        return True

    def next_contribution(
        self, old: Contribution, base: Integers, relaxed: Integers, weight: int
    ) -> Contribution:
        """Z' = x = base + relax*o; the dual stays zero."""
        return Contribution(weight, check_magnitude(base + relaxed), old.dual)

    def join(self, new: Contribution) -> None:
        """A member counts when it answers."""

    def leave(self, agent: str, old: Contribution) -> None:
        """What it has contributed stays in the model."""

    def arrive(
        self,
        agent: str,  # noqa: ARG002
        old: Contribution,  # noqa: ARG002
        new: Contribution,
        staleness: Staleness,
    ) -> None:
        """Total += alpha s(tau) (z' - total), half to even."""
        share = round(self._share * discount(staleness.releases, self._exponent))
        self.total = self.total + divide_half_even(share * (new.z - self.total), ONE)

    def release(self, current: Integers) -> Integers:  # noqa: ARG002
        """The mixture as it stands."""
        return self.total


@lru_cache(maxsize=1024)
def discount(staleness: int, exponent: float) -> int:
    """(1 + tau)^-a with 16 fraction bits.

    In decimal arithmetic, which rounds alike everywhere: the journal must replay on any processor.

    Args:
        staleness: tau >= 0, in releases.
        exponent: a >= 0.
    """
    with localcontext(prec=28):
        return int((ONE * Decimal(1 + staleness) ** -Decimal(exponent)).to_integral_value())
