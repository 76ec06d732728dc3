"""How members' updates become the next model: integer sums, exact and replayable.

Each mode has its rule; with the member's transmitted change o_i and its base u,

    fedapm                  u = sum n_i z_i / sum n_i over ALL members, present or not, where
                            z_i = u_base + relax*o_i + w_i and w_i is the running sum of relax*o_i
                            (arXiv 2506.04672, Algorithm 1)
    fedalt, fedsim, fedavg, u = sum n_i (u_base + relax*o_i) / sum n_i over what arrived since the
    fedprox, local          last release
    auto                    duals over all members, models over what arrived: see
                            :mod:`plantfed_coordinator.fresh_mean`
    fedbuff                 u += eta * mean of s(tau_i) relax*o_i over what arrived since then
    fedasync                u += alpha s(tau_i) (u_base + relax*o_i - u) at each arrival

s(tau) = (1 + tau)^-a.  In all but fedasync the order of arrivals between two releases makes no
difference, not to the last bit.
"""

from collections.abc import Collection, Mapping
from typing import Protocol

import numpy as np

from plantfed_coordinator.contribution import Contribution, Staleness
from plantfed_coordinator.discounted import BufferedChanges, StalenessMixing
from plantfed_coordinator.fresh_mean import FreshMean
from plantfed_shared.definition import Algorithm
from plantfed_shared.lattice import (
    MAX_TOTAL_WEIGHT,
    Integers,
    check_magnitude,
    divide_half_even,
)


class Consensus(Protocol):
    """The sums of one federation; members' contributions are kept by the caller.

    Attributes:
        total: weighted sum, int64 (n,).
        weight: sum of the weights in it.
        counts_members: all members are in it, so that one that leaves changes the model.
        fewest_arrivals: of fewer the next model would be made without regard to the last one.
        carries: whether a change is added to what its base was before it was rounded, or to what
            was released.
    """

    total: Integers
    weight: int
    counts_members: bool
    carries: bool

    @property
    def fewest_arrivals(self) -> int:
        """See above."""
        ...

    def counted(self, arrived: Collection[str]) -> int:
        """How many of those that have arrived since the last release count towards the next."""
        ...

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
            SaturationError: a result, or the model it would make, is not below 2^30 in magnitude.
        """
        ...

    def has_room(self, old: Contribution, weight: int) -> bool:
        """Whether the sums stay exact with this member's contribution replaced.

        Args:
            old: before the update.
            weight: n_i from now on.
        """
        ...

    def join(self, new: Contribution) -> None:
        """Count a new member."""
        ...

    def leave(self, agent: str, old: Contribution) -> None:
        """Take a member out."""
        ...

    def arrive(
        self, agent: str, old: Contribution, new: Contribution, staleness: Staleness
    ) -> None:
        """Replace a member's contribution.

        Args:
            agent: whose.
            old: before the update.
            new: from :meth:`next_contribution`.
            staleness: of the version the update started from.
        """
        ...

    def release(self, current: Integers) -> Integers:
        """The next model before it is rounded; the current one where nobody has contributed."""
        ...


class AllMembersMean:
    """S = sum n_i z_i and N = sum n_i over all members; O(n) per arrival whatever their number.

    A z stays until its machine answers again, so it is counted from what that machine was sent.

    Attributes:
        total: S, int64 (n,).
        weight: N.
    """

    counts_members = True
    fewest_arrivals = 1
    carries = False

    def __init__(self, size: int) -> None:
        self.total: Integers = np.zeros(size, dtype=np.int64)
        self.weight = 0

    def counted(self, arrived: Collection[str]) -> int:
        """Every one of them."""
        return len(arrived)

    def has_room(self, old: Contribution, weight: int) -> bool:
        """N - n + n' < 2^32."""
        return self.weight - old.weight + weight < MAX_TOTAL_WEIGHT

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

    def leave(self, agent: str, old: Contribution) -> None:  # noqa: ARG002
        """S -= n z, N -= n."""
        self.total = self.total - old.weight * old.z
        self.weight -= old.weight

    def arrive(
        self,
        agent: str,
        old: Contribution,
        new: Contribution,
        staleness: Staleness,  # noqa: ARG002
    ) -> None:
        """S += n' z' - n z, N += n' - n."""
        self.leave(agent, old)
        self.join(new)

    def release(self, current: Integers) -> Integers:
        """U = round(S / N), half to even."""
        return divide_half_even(self.total, self.weight) if self.weight else current

    def is_sum_of(self, contributions: Mapping[str, Contribution]) -> bool:
        """Whether S and N are what the members' contributions give."""
        anew = AllMembersMean(self.total.size)
        for contribution in contributions.values():
            anew.join(contribution)
        return anew.weight == self.weight and bool((anew.total == self.total).all())


class ArrivalsMean:
    """P = sum n_i (base + relax*o_i) over the arrivals since the last release; no duals.

    Attributes:
        total: P, int64 (n,).
        weight: sum of the arrivals' n_i.
    """

    counts_members = False
    carries = True

    def __init__(self, size: int) -> None:
        self.total: Integers = np.zeros(size, dtype=np.int64)
        self.weight = 0

    @property
    def fewest_arrivals(self) -> int:
        """Two, or a model would be one machine's own; one where nothing is shared."""
        return 2 if self.total.size else 1

    def counted(self, arrived: Collection[str]) -> int:
        """Every one of them."""
        return len(arrived)

    def has_room(self, old: Contribution, weight: int) -> bool:  # noqa: ARG002
        """Sum of n_i over the arrivals < 2^32."""
        return self.weight + weight < MAX_TOTAL_WEIGHT

    def next_contribution(
        self, old: Contribution, base: Integers, relaxed: Integers, weight: int
    ) -> Contribution:
        """Z' = base + relax*o; the dual stays zero."""
        return Contribution(weight, check_magnitude(base + relaxed), old.dual)

    def join(self, new: Contribution) -> None:
        """A member counts when it answers."""

    def leave(self, agent: str, old: Contribution) -> None:
        """What it has contributed since the last release stays in the mean."""

    def arrive(
        self,
        agent: str,  # noqa: ARG002
        old: Contribution,  # noqa: ARG002
        new: Contribution,
        staleness: Staleness,  # noqa: ARG002
    ) -> None:
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


def consensus_of(algorithm: Algorithm, current: Integers) -> Consensus:
    """The consensus of a federation's mode, with nobody in it.

    Args:
        algorithm: has the mode.
        current: the newest model before it was rounded, int64 (n,).
    """
    match algorithm.mode:
        case "fedapm":
            return AllMembersMean(current.size)
        case "auto":
            return FreshMean(current)
        case "fedbuff":
            return BufferedChanges(algorithm, current)
        case "fedasync":
            return StalenessMixing(algorithm, current)
        case _:
            return ArrivalsMean(current.size)
