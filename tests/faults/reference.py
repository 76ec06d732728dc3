"""The consensus a second time, as simply as it can be written: fractions, and no sums kept.

From the journal and from the updates *as the agents made them*, so that a coordinator that applies
an update to another base, twice, or with another weight than its agent meant is found out, although
its journal replays to the same mistake.  It shares with the product only the decoding of integers.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np

from plantfed_coordinator.records import (
    Applied,
    EpochStarted,
    Joined,
    Left,
    Record,
    Released,
)
from plantfed_shared import wire
from plantfed_shared.codec import decode_integers
from plantfed_shared.definition import FederationDefinition
from plantfed_shared.lattice import Integers, checksum
from plantfed_shared.messages import Epoch, ModelName, Update
from plantfed_shared.terms import terms_of
from plantfed_shared.topics import Kind

MEANS = ("fedapm", "fedalt", "fedsim", "fedavg", "fedprox", "local", "auto")


def covers(definition: FederationDefinition) -> bool:
    """Whether the reference knows this mode: means of exact models."""
    lattice = definition.lattice()
    exact = not lattice.release_shift and not lattice.coarsest_release_shift
    return definition.algorithm.mode in MEANS and exact


class Reference:
    """A federation recomputed.

    Args:
        definition: in force from the beginning; later epochs may differ in what agents do only.
        made: updates as their agents persisted them, by envelope digest.

    Attributes:
        models: every release by its name.
        duals: w_i of the members.
    """

    def __init__(self, definition: FederationDefinition, made: Mapping[int, bytes]) -> None:
        self.models: dict[ModelName, Integers] = {}
        self.duals: dict[str, Integers] = {}
        self._made = made
        self._has_duals = definition.algorithm.has_duals
        self._is_auto = definition.algorithm.mode == "auto"
        self._schedule = definition.schedule
        self._fresh: set[str] = set()
        self._relaxation = definition.relaxation
        self._z: dict[str, tuple[int, Integers]] = {}
        self._arrived: list[tuple[int, Integers]] = []
        self._epoch: Epoch | None = None
        self._k = 0

    @property
    def model(self) -> Integers:
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
                        self._primal = model
                    self._epoch, self._versions = epoch, {}
                    self._release(k, model)
                case Joined(agent):
                    self._z[agent] = 1, self.model
                    self.duals[agent] = np.zeros_like(self.model)
                case Left(agent):
                    self._z.pop(agent, None)
                    self.duals.pop(agent, None)
                    self._fresh.discard(agent)
                    if not self._z:
                        self._primal = self.model
                case Applied():
                    self._apply(record)
                case Released(k, announced):
                    self._release(k, self._next())
                    assert checksum(self.model) == announced, f"release {k} is another model"

    def _apply(self, record: Applied) -> None:
        encoded = self._made.get(record.digest)
        assert encoded is not None, f"{record.agent} never made update {record.seq}"
        envelope = wire.decode(encoded, Kind.UPDATE)
        update = envelope.message
        assert isinstance(update, Update)
        assert (update.seq, update.incarnation) == (record.seq, record.incarnation)
        name = ModelName(self._epoch, record.base_k, checksum(self._versions[record.base_k]))
        assert update.base == name, "applied to another base than it was made on"
        change = decode_integers(envelope.tail, self._lattice)
        step = change * self._relaxation.numerator
        moved = self._versions[record.base_k] + step
        if self._has_duals:
            self.duals[record.agent] = self.duals[record.agent] + step
            if not self._is_auto:
                moved = moved + self.duals[record.agent]
        self._fresh.discard(record.agent)
        if self._k - record.base_k <= 2 * self._turnover():
            self._fresh.add(record.agent)
        self._z[record.agent] = update.weight, moved
        self._arrived.append(self._z[record.agent])

    def _turnover(self) -> int:
        """Releases within which about every member arrives once."""
        members, schedule = len(self._z), self._schedule
        if schedule.kind == "sync":
            per_release = int(schedule.participation * members)
        else:
            per_release = schedule.arrivals or members // 8
        return max(1, members // max(1, per_release))

    def _next(self) -> Integers:
        if not self._is_auto:
            return self._mean_of(list(self._z.values()) if self._has_duals else self._arrived)
        if not self._z:
            return self.model
        if self._fresh:
            self._primal = self._mean_of([self._z[agent] for agent in self._fresh])
        duals = [(weight, self.duals[agent]) for agent, (weight, _) in self._z.items()]
        return self._primal + self._mean_of(duals)

    def _mean_of(self, parts: Sequence[tuple[int, Integers]]) -> Integers:
        weight = sum(n for n, _ in parts)
        if not weight:
            return self.model
        sums = [sum(n * int(z[i]) for n, z in parts) for i in range(self.model.size)]
        return np.array([round(Fraction(s, weight)) for s in sums], dtype=np.int64)

    def _release(self, k: int, model: Integers) -> None:
        self._k, self._versions[k], self._arrived = k, model, []
        self._fresh.clear()
        assert self._epoch is not None
        self.models[ModelName(self._epoch, k, checksum(model))] = model
