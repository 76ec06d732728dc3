"""How members' updates become the next model: integer sums, independent of the order of arrivals.

``AllMembersMean`` is FedAPM's server step (arXiv 2506.04672, Algorithm 1) on the lattice,

    u = sum_i n_i z_i / sum_i n_i     over ALL members, present or not,

with z_i = u_base + relax*o_i + w_i and w_i the running sum of relax*o_i.  ``ArrivalsMean`` is
FedAlt's: the mean of what arrived since the last release, without duals.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from plantfed_shared.definition import Algorithm
from plantfed_shared.lattice import Integers, check_magnitude, divide_half_even


@dataclass(frozen=True, slots=True)
class Contribution:
    """What the consensus holds of one member, in lattice units.

    Attributes:
        weight: n_i.
        z: int64 (n,), what it says the model should be.
        dual: w_i, int64 (n,).
    """

    weight: int
    z: Integers
    dual: Integers

    @classmethod
    def neutral(cls, model: Integers) -> "Contribution":
        """Of a member that has just joined: it agrees with the model."""
        return cls(1, model, np.zeros_like(model))


class Consensus(Protocol):
    """The sums of one federation; members' contributions are kept by the caller.

    Attributes:
        total: weighted sum, int64 (n,).
        weight: sum of the weights in it.
        counts_members: all members are in it, so that one that leaves changes the model.
    """

    total: Integers
    weight: int
    counts_members: bool

    def next_contribution(
        self, old: Contribution, base: Integers, relaxed: Integers, weight: int
    ) -> Contribution:
        """What a member's update makes of its contribution.

        Args:
            old: before the update.
            base: the version the update started from, lattice units.
            relaxed: relax * o, lattice units.
            weight: n_i from now on.

        Raises:
            SaturationError: a result is not below 2^30 in magnitude.
        """
        ...

    def join(self, new: Contribution) -> None:
        """Count a new member."""
        ...

    def leave(self, old: Contribution) -> None:
        """Take a member out."""
        ...

    def arrive(self, old: Contribution, new: Contribution) -> None:
        """Replace a member's contribution."""
        ...

    def release(self, current: Integers) -> Integers:
        """The next model; the current one where nobody has contributed."""
        ...


class AllMembersMean:
    """S = sum n_i z_i and N = sum n_i over all members; O(n) per arrival whatever their number.

    Attributes:
        total: S, int64 (n,).
        weight: N.
    """

    counts_members = True

    def __init__(self, size: int) -> None:
        self.total: Integers = np.zeros(size, dtype=np.int64)
        self.weight = 0

    def next_contribution(
        self, old: Contribution, base: Integers, relaxed: Integers, weight: int
    ) -> Contribution:
        """W' = w + relax*o and z' = base + relax*o + w'."""
        dual = check_magnitude(old.dual + relaxed)
        return Contribution(weight, check_magnitude(base + relaxed + dual), dual)

    def join(self, new: Contribution) -> None:
        """S += n z, N += n."""
        self.total = self.total + new.weight * new.z
        self.weight += new.weight

    def leave(self, old: Contribution) -> None:
        """S -= n z, N -= n."""
        self.total = self.total - old.weight * old.z
        self.weight -= old.weight

    def arrive(self, old: Contribution, new: Contribution) -> None:
        """S += n' z' - n z, N += n' - n."""
        self.leave(old)
        self.join(new)

    def release(self, current: Integers) -> Integers:
        """U = round(S / N), half to even."""
        return divide_half_even(self.total, self.weight) if self.weight else current


class ArrivalsMean:
    """P = sum n_i (base + relax*o_i) over the arrivals since the last release; no duals.

    Attributes:
        total: P, int64 (n,).
        weight: sum of the arrivals' n_i.
    """

    counts_members = False

    def __init__(self, size: int) -> None:
        self.total: Integers = np.zeros(size, dtype=np.int64)
        self.weight = 0

    def next_contribution(
        self, old: Contribution, base: Integers, relaxed: Integers, weight: int
    ) -> Contribution:
        """Z' = base + relax*o; the dual stays zero."""
        return Contribution(weight, check_magnitude(base + relaxed), old.dual)

    def join(self, new: Contribution) -> None:
        """A member counts when it answers."""

    def leave(self, old: Contribution) -> None:
        """What it has contributed since the last release stays in the mean."""

    def arrive(self, old: Contribution, new: Contribution) -> None:  # noqa: ARG002
        """P += n' z'."""
        self.total = self.total + new.weight * new.z
        self.weight += new.weight

    def release(self, current: Integers) -> Integers:
        """U = round(P / sum n_i), half to even; begins anew."""
        if not self.weight:
            return current
        model = divide_half_even(self.total, self.weight)
        self.total, self.weight = np.zeros_like(self.total), 0
        return model


def consensus_of(algorithm: Algorithm, size: int) -> Consensus:
    """The consensus of a federation's mode."""
    return AllMembersMean(size) if algorithm.mode == "fedapm" else ArrivalsMean(size)
