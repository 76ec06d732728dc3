"""The consensus of mode ``auto``: the duals of all members, the models of those who came last.

With member i's transmitted change o_i, its base u and w_i the running sum of relax*o_i, ADMM's
server step is the mean of p_i + w_i over all members, p_i = u + relax*o_i.  Here the two halves are
kept apart,

    U = round(g W / N) + round(P / P_N),    W = sum n_i w_i over ALL members, N = sum n_i
                                            P = sum n_i p_i over the buffer, P_N = sum n_i there

because an old dual is still a gradient, while an old p_i is only an old model: averaged over all
members it holds back those who have just learnt something.  The buffer is what came since the last
release, at most one p_i of each member, its newest; it empties at each release, and where it is
empty the model moves as far as W / N does.  An arrival changes its dual only where, since the
release that it began from, the fresh ones have been as many as there are members, twice over: that
is the same whether a release has one arrival or many, and where all are slow nobody is stale.

g is 1 but where the duals move the model by much more than those do who came.  The dual of a
machine that is away pulls the same way at each release, and where the loss of the others is flat
their models hardly pull back, so the model drifts.  While |W / N| > max(1, 10 P_N / N)
|P / P_N - U_last|, in sums of magnitudes, the g that makes them equal is what g goes to, by P_N / N
of the way at each release, else it goes to 1: at once it would jump from release to release, and
the model with it, which is sent to all.  It is at least 1/2, so that a model at rest still has
W / N = 0 (or 1 step, half of which rounds to 0).  In a new epoch it is 1 again.

What machines *use* is smoother than what they train on.  The last release is the average of all,
moved at each by the part of the members it was made of.  Before that each averages those that
its updates began from (``plantfed_shared.own_average``), and is told with each when it was made:
after how many turnovers, in which as many have arrived as there are members.

All of it is int64 and exact, so neither the order of arrivals between two releases nor a restart
makes a difference, not to the last bit.
"""

from collections.abc import Collection, Mapping

import numpy as np

from plantfed_coordinator.contribution import Contribution, Staleness
from plantfed_shared.codec import TURNOVER
from plantfed_shared.lattice import (
    MAX_MAGNITUDE,
    MAX_TOTAL_WEIGHT,
    Integers,
    SaturationError,
    divide_half_even,
)

LARGEST = MAX_MAGNITUDE // 2
"""Of a dual and of a p_i: the model is the sum of a mean of each."""
AVERAGE_BITS = 16
"""Fraction bits of the average, or moves of less than a step would be lost."""
SHARE_BITS = 14
"""Of parts: |U - average| < 2^47 times the one by which it moves stays below 2^62."""
ONE = 1 << SHARE_BITS
LARGEST_PULL = 10
"""|W / N| may be so many times P_N / N |P / P_N - U_last|, or once |P / P_N - U_last|: where few of
many come at a time the two balance on the way."""
LEAST_OF_DUALS = ONE // 2
"""The least g, with 14 fraction bits."""
FRESH_FOR = 2 * TURNOVER + 1
"""In 1/256 turnovers; the one more is for shares, which are rounded up."""


class FreshMean:
    """W and N over all members, P and P_N over the buffer, and the average of the releases.

    Args:
        current: the model in force, int64 (n,), lattice units.

    Attributes:
        total: W, int64 (n,).
        weight: N.
        fresh: agents whose newest arrival is in the buffer.
        buffer: P, int64 (n,).
        buffer_weight: P_N.
        primal: of the last release that had a fresh arrival, what it is beside round(W / N):
            round(P / P_N), less what was held of the duals; int64 (n,).
        average: of the releases, int64 (n,), lattice units with 16 fraction bits more.
        averaged: releases in it.
        turnovers: in this epoch, with 14 fraction bits.
        dual_share: g, with 28 fraction bits.
    """

    counts_members = True
    fewest_arrivals = 1
    carries = True

    def __init__(self, current: Integers) -> None:
        self.total: Integers = np.zeros_like(current)
        self.weight = 0
        self.fresh: frozenset[str] = frozenset()
        self.buffer: Integers = np.zeros_like(current)
        self.buffer_weight = 0
        self.primal: Integers = current
        self.average: Integers = current << AVERAGE_BITS
        self.averaged = 0
        self.turnovers = 0
        self.dual_share = ONE << SHARE_BITS

    @property
    def passed(self) -> int:
        """The turnovers in 1/256."""
        return self.turnovers * TURNOVER >> SHARE_BITS

    def counted(self, arrived: Collection[str]) -> int:
        """How many of those that have arrived are in the buffer."""
        return len(self.fresh & set(arrived))

    def has_room(self, old: Contribution, weight: int) -> bool:
        """N - n + n' < 2^32; P_N is never larger than N."""
        return self.weight - old.weight + weight < MAX_TOTAL_WEIGHT

    def next_contribution(
        self, old: Contribution, base: Integers, relaxed: Integers, weight: int
    ) -> Contribution:
        """W' = w + relax*o and z' = p' = base + relax*o."""
        return Contribution(weight, _checked(base + relaxed), _checked(old.dual + relaxed))

    def join(self, new: Contribution) -> None:
        """W += n w, N += n; it comes into the buffer when it answers."""
        self.total = self.total + new.weight * new.dual
        self.weight += new.weight

    def leave(self, agent: str, old: Contribution) -> None:
        """W -= n w, N -= n, and its entry goes from the buffer."""
        self._unbuffer(agent, old)
        self.total = self.total - old.weight * old.dual
        self.weight -= old.weight

    def arrive(
        self, agent: str, old: Contribution, new: Contribution, staleness: Staleness
    ) -> None:
        """W += n' w' - n w; its p' takes the place of the one it has in the buffer, if fresh."""
        self._unbuffer(agent, old)
        self.total = self.total + new.weight * new.dual - old.weight * old.dual
        self.weight += new.weight - old.weight
        if staleness.turnovers <= FRESH_FOR:
            self.fresh |= {agent}
            self.buffer = self.buffer + new.weight * new.z
            self.buffer_weight += new.weight

    def release(self, current: Integers) -> Integers:
        """U = round(g W / N) + round(P / P_N), half to even; the buffer begins anew."""
        if not self.weight:
            return current
        dual = divide_half_even(self.total, self.weight)
        if not self.buffer_weight:
            return _clipped(dual + self.primal)
        primal = divide_half_even(self.buffer, self.buffer_weight)
        part = self._fresh_part()
        self._move_dual_share(bearable_share(dual, primal - current, part), part)
        # 2^14 steps of g: times a dual below 2^30 that is far from 2^63
        share = self.dual_share + ONE // 2 >> SHARE_BITS
        model = _clipped(divide_half_even(share * dual, ONE) + primal)
        self.primal = model - dual
        self._move_average(model, part)
        self.fresh, self.buffer_weight = frozenset(), 0
        self.buffer = np.zeros_like(self.buffer)
        return model

    def begin_at(self, model: Integers) -> None:
        """In a new epoch, or with nobody left: the next model is this one until somebody arrives.

        Args:
            model: int64 (n,), lattice units of the epoch that begins or goes on.
        """
        self.primal = model
        if self.weight:
            self.primal = model - divide_half_even(self.total, self.weight)

    def begin_average_at(self, average: Integers) -> None:
        """Where an epoch begins with what machines use.

        Args:
            average: int64 (n,), lattice units.
        """
        self.average = average << AVERAGE_BITS

    def served(self) -> Integers:
        """The average as machines can use it, int64 (n,), lattice units."""
        return divide_half_even(self.average, 1 << AVERAGE_BITS)

    def is_sum_of(self, contributions: Mapping[str, Contribution]) -> bool:
        """Whether W, N, P and P_N are what the members' contributions give."""
        anew = FreshMean(self.primal)
        for agent, contribution in contributions.items():
            anew.join(contribution)
            if agent in self.fresh:
                anew.buffer = anew.buffer + contribution.weight * contribution.z
                anew.buffer_weight += contribution.weight
        return (
            self.fresh <= contributions.keys()
            and (anew.weight, anew.buffer_weight) == (self.weight, self.buffer_weight)
            and bool((anew.total == self.total).all())
            and bool((anew.buffer == self.buffer).all())
        )

    def _unbuffer(self, agent: str, old: Contribution) -> None:
        if agent in self.fresh:
            self.fresh -= {agent}
            self.buffer = self.buffer - old.weight * old.z
            self.buffer_weight -= old.weight

    def _fresh_part(self) -> int:
        """P_N / N with 14 fraction bits, rounded up."""
        return -(-ONE * self.buffer_weight // self.weight)

    def _move_dual_share(self, bearable: int, part: int) -> None:
        """By P_N / N of the way; with bits enough that what is used comes back to 1 - 2^-14."""
        way = (bearable << SHARE_BITS) - self.dual_share
        self.dual_share += part * way >> SHARE_BITS

    def _move_average(self, model: Integers, part: int) -> None:
        """By P_N / N of the way, or by 1 / releases in it if that is more."""
        self.averaged += 1
        self.turnovers += part
        share = min(ONE, max(part, ONE // self.averaged))
        step = share * ((model << AVERAGE_BITS) - self.average)
        self.average = self.average + divide_half_even(step, ONE)


def bearable_share(dual: Integers, move: Integers, part: int) -> int:
    """What g goes to, from 1/2 to 1, with 14 fraction bits.

    Args:
        dual: W / N, int64 (n,), below 2^30 in magnitude.
        move: P / P_N - U_last, int64 (n,), below 2^31.
        part: P_N / N, with 14 fraction bits.
    """
    pulled, moved = (int(np.abs(each).sum()) for each in (dual, move))
    allowed = max(ONE, LARGEST_PULL * part) * moved
    if pulled * ONE <= allowed:
        return ONE
    return max(LEAST_OF_DUALS, allowed // pulled)


def _checked(integers: Integers) -> Integers:
    if integers.size and int(np.abs(integers).max()) >= LARGEST:
        raise SaturationError("a value is too large for the lattice")
    return integers


def _clipped(model: Integers) -> Integers:
    """A leave can move W / N further than any arrival may; nobody could be sent 2^30."""
    clipped: Integers = np.clip(model, 1 - MAX_MAGNITUDE, MAX_MAGNITUDE - 1)
    return clipped
