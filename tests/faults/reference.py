"""The consensus a second time, as simply as it can be written: fractions, and no sums kept.

From the journal and from the updates *as the agents made them*, so that a coordinator that applies
an update to another base, twice, or with another weight than its agent meant is found out, although
its journal replays to the same mistake.  It shares with the product only the decoding of integers.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from math import floor

import numpy as np

from plantfed_coordinator.records import (
    Applied,
    EpochStarted,
    Joined,
    Left,
    Record,
    Released,
)
from plantfed_shared import own_average, wire
from plantfed_shared.codec import decode_integers
from plantfed_shared.definition import FederationDefinition
from plantfed_shared.lattice import Integers, checksum
from plantfed_shared.messages import Epoch, ModelName, Update
from plantfed_shared.terms import terms_of
from plantfed_shared.topics import Kind

AVERAGE_UNIT, SHARE_UNIT = 2**16, 2**14
TURNOVER, LARGEST_TURNOVERS = 256, 2**32 - 1
LARGEST_PULL = 10
MEANS = ("fedapm", "fedalt", "fedsim", "fedavg", "fedprox", "local", "auto")


def covers(definition: FederationDefinition) -> bool:
    """Whether the reference knows this mode."""
    return definition.algorithm.mode in MEANS


class Reference:
    """A federation recomputed.

    Args:
        definition: in force from the beginning; later epochs may differ in what agents do only.
        made: updates as their agents persisted them, by envelope digest.

    Attributes:
        models: every release by its name, rounded as it was released.
        duals: w_i of the members.
        begun: by agent, epoch and incarnation, the releases that its applied updates began from.
    """

    def __init__(self, definition: FederationDefinition, made: Mapping[int, bytes]) -> None:
        self.models: dict[ModelName, Integers] = {}
        self.duals: dict[str, Integers] = {}
        self.begun: dict[tuple[str, Epoch, int], list[int]] = {}
        self._made_at: dict[tuple[Epoch, int], int] = {}
        self._made = made
        self._has_duals = definition.algorithm.has_duals
        self._is_auto = definition.algorithm.mode == "auto"
        self._carries = definition.algorithm.mode != "fedapm"
        self._schedule = definition.schedule
        self._fresh: set[str] = set()
        self._relaxation = definition.relaxation
        self._z: dict[str, tuple[int, Integers]] = {}
        self._arrived: list[tuple[str, tuple[int, Integers]]] = []
        self._epoch: Epoch | None = None
        self._k = self._releases = self._averaged = self._passed = 0
        self._dual_share = self._next_dual_share = SHARE_UNIT**2

    @property
    def model(self) -> Integers:
        """The newest release before it was rounded."""
        return self._exact[self._k]

    @property
    def newest(self) -> Integers:
        """The newest release."""
        return self._versions[self._k]

    def take(self, records: Sequence[Record]) -> None:
        """Recompute a journal from its beginning.

        Raises:
            AssertionError: it is not what the agents' updates make of it.
        """
        for record in records:
            match record:
                case EpochStarted(epoch, k, definition):
                    model = self._next() if self._epoch else terms_of(definition).initial_model
                    self._lattice = terms_of(definition).lattice
                    if not self._z:
                        self._beside_dual = model
                    self._epoch, self._versions, self._exact = epoch, {}, {}
                    self._average, self._averaged = [int(x) * AVERAGE_UNIT for x in model], 0
                    self._passed, self._dual_share = 0, SHARE_UNIT**2
                    self._release(k, model, self._finest(model))
                case Joined(agent):
                    self._z[agent] = 1, self.model
                    self.duals[agent] = np.zeros_like(self.model)
                case Left(agent):
                    self._z.pop(agent, None)
                    self.duals.pop(agent, None)
                    self._fresh.discard(agent)
                    if not self._z:
                        self._beside_dual = self.model
                case Applied():
                    self._apply(record)
                case Released(k, announced):
                    self._releases += 1
                    released = self._released(self._next())
                    self._release(k, self._next(), released)
                    self._dual_share = self._next_dual_share
                    assert checksum(released) == announced, f"release {k} is another model"

    def used(self, agent: str, name: ModelName, incarnation: int) -> list[int]:
        """What an agent uses while it has a release, from the updates that were applied."""
        begun = self.begun.get((agent, name.epoch, incarnation), [])
        each = [*(k for k in begun if k < name.k), name.k]
        made_at = [self._made_at.get((name.epoch, k), 0) for k in each]
        models = {n.k: [int(x) for x in m] for n, m in self.models.items() if n.epoch == name.epoch}
        if not made_at[-1]:
            return models[name.k]
        begin = _begin_of_average(made_at)
        average = [x * AVERAGE_UNIT for x in models[each[begin]]]
        for i in range(begin + 1, len(each)):
            passed = made_at[i] - made_at[i - 1]
            part = Fraction(passed, TURNOVER + passed)
            here = (x * AVERAGE_UNIT for x in models[each[i]])
            average = [a + round(part * (u - a)) for a, u in zip(average, here, strict=True)]
        return [_half_even(a, AVERAGE_UNIT) for a in average]

    def _apply(self, record: Applied) -> None:
        encoded = self._made.get(record.digest)
        assert encoded is not None, f"{record.agent} never made update {record.seq}"
        envelope = wire.decode(encoded, Kind.UPDATE)
        update = envelope.message
        assert isinstance(update, Update)
        assert (update.seq, update.incarnation) == (record.seq, record.incarnation)
        name = ModelName(self._epoch, record.base_k, checksum(self._versions[record.base_k]))
        assert update.base == name, "applied to another base than it was made on"
        key = record.agent, name.epoch, record.incarnation
        self.begun.setdefault(key, []).append(record.base_k)
        change = decode_integers(envelope.tail, self._lattice)
        step = change * self._relaxation.numerator
        moved = (self._exact if self._carries else self._versions)[record.base_k] + step
        if self._has_duals:
            self.duals[record.agent] = self.duals[record.agent] + step
            if not self._is_auto:
                moved = moved + self.duals[record.agent]
        self._fresh.discard(record.agent)
        since = self._made_at_now() - self._made_at.get((name.epoch, record.base_k), 1)
        if since % LARGEST_TURNOVERS <= 2 * TURNOVER + 1:
            self._fresh.add(record.agent)
        self._z[record.agent] = update.weight, moved
        self._arrived.append((record.agent, self._z[record.agent]))

    def _made_at_now(self) -> int:
        return 1 + self._passed * TURNOVER // SHARE_UNIT % LARGEST_TURNOVERS

    def _next(self) -> Integers:
        if not self._is_auto:
            arrived = [each for _, each in self._arrived]
            return self._mean_of(list(self._z.values()) if self._has_duals else arrived)
        if not self._z:
            return self.model
        dual = self._mean_of([(n, self.duals[agent]) for agent, (n, _) in self._z.items()])
        self._next_dual_share = self._dual_share
        if self._fresh:
            primal = self._mean_of([self._z[agent] for agent in self._fresh])
            self._beside_dual = primal + self._held(dual, primal - self.model) - dual
        return self._beside_dual + dual

    def _held(self, dual: Integers, move: Integers) -> Integers:
        """Where the duals move the model by much more than those do who came, ever less of them."""
        pulled, moved = (sum(abs(int(x)) for x in each) for each in (dual, move))
        part = self._part_of_members()
        most = Fraction(max(SHARE_UNIT, LARGEST_PULL * part) * moved, max(1, pulled))
        bearable = min(SHARE_UNIT, max(SHARE_UNIT // 2, int(most))) if pulled else SHARE_UNIT
        way = Fraction(part * (bearable * SHARE_UNIT - self._dual_share), SHARE_UNIT)
        self._next_dual_share = self._dual_share + floor(way)
        g = floor(Fraction(self._next_dual_share, SHARE_UNIT) + Fraction(1, 2))
        return np.array([_half_even(g * int(x), SHARE_UNIT) for x in dual], dtype=np.int64)

    def _part_of_members(self) -> int:
        weight = sum(n for n, _ in self._z.values())
        return -(-SHARE_UNIT * sum(self._z[agent][0] for agent in self._fresh) // weight)

    def _mean_of(self, parts: Sequence[tuple[int, Integers]]) -> Integers:
        weight = sum(n for n, _ in parts)
        if not weight:
            return self.model
        sums = [sum(n * int(z[i]) for n, z in parts) for i in range(self.model.size)]
        return np.array([round(Fraction(s, weight)) for s in sums], dtype=np.int64)

    def _released(self, model: Integers) -> Integers:
        limit = self._schedule.max_releases
        is_last = limit is not None and self._releases >= limit
        if self._is_auto:
            self._move_average(model)
            if is_last:
                return self._finest([_half_even(x, AVERAGE_UNIT) for x in self._average])
            self._made_at[self._epoch, self._k + 1] = self._made_at_now()
        if is_last:
            return self._finest(model)
        counted = self._fresh if self._is_auto else {agent for agent, _ in self._arrived}
        arrived = len(counted) or max(1, len(self._z))
        is_mean_of_all = arrived >= len(self._z) or not self._carries
        bears = Fraction(12, 5) if is_mean_of_all else Fraction(10)
        steps = max(2, int(bears * len(self._z) / arrived))
        shifts, begin = [], 0
        finest, coarsest = self._lattice.release_shift, self._lattice.coarsest_release_shift
        for size in self._lattice.sizes:
            moves = (model - self.model)[begin : begin + size]
            step = steps * sum(abs(int(x)) for x in moves) // max(1, size)
            coarse = max((n for n in range(60) if 2**n <= step), default=0)
            shifts += [max(finest, min(coarse, coarsest))] * size
            begin += size
        return np.array(
            [_half_even(int(x), 2**n) * 2**n for x, n in zip(model, shifts, strict=True)],
            dtype=np.int64,
        )

    def _finest(self, model: Sequence[int] | Integers) -> Integers:
        unit = 2**self._lattice.release_shift
        return np.array([_half_even(int(x), unit) * unit for x in model], dtype=np.int64)

    def _move_average(self, model: Integers) -> None:
        """By the part of the members that have arrived; a plain mean at first."""
        if not self._fresh:
            return
        self._averaged += 1
        self._passed += self._part_of_members()
        share = max(self._part_of_members(), SHARE_UNIT // self._averaged)
        for i, x in enumerate(model):
            step = min(share, SHARE_UNIT) * (int(x) * AVERAGE_UNIT - self._average[i])
            self._average[i] += _half_even(step, SHARE_UNIT)

    def _release(self, k: int, exact: Integers, released: Integers) -> None:
        self._k, self._exact[k], self._versions[k], self._arrived = k, exact, released, []
        self._fresh.clear()
        assert self._epoch is not None
        self.models[ModelName(self._epoch, k, checksum(released))] = released


def _half_even(x: int, unit: int) -> int:
    return round(Fraction(x, unit))


def _begin_of_average(made_at: Sequence[int]) -> int:
    """The first release in the average that ends with the last one; only one that has a T."""
    begin, next_begin = 0, -1
    for i, (before, at) in enumerate(pairwise(made_at), 1):
        if not before or not 0 <= at - before <= own_average.WINDOW:
            begin, next_begin = i, -1
            continue
        if at // own_average.WINDOW > before // own_average.WINDOW:
            begin, next_begin = (begin if next_begin < 0 else next_begin), i
        if next_begin >= 0 and at % own_average.WINDOW >= own_average.OVERLAP:
            begin, next_begin = next_begin, -1
    return begin
