"""The state of a federation as a fold over its journal.

``FederationState.apply`` is the only code that changes it, so that replaying the journal gives the
same state, bit for bit.  It trusts its records: they are checked before they are written.
"""

from collections import Counter
from copy import copy
from dataclasses import dataclass, field, replace
from fractions import Fraction
from operator import is_

import numpy as np
from numpy.typing import NDArray

from plantfed_coordinator.consensus import Consensus, consensus_of
from plantfed_coordinator.contribution import Contribution, Staleness
from plantfed_coordinator.fresh_mean import FreshMean
from plantfed_coordinator.records import (
    Admitted,
    Applied,
    EpochStarted,
    IncarnationRaised,
    Joined,
    Left,
    Record,
    Released,
    RoundOpened,
    Served,
)
from plantfed_coordinator.rescaling import Rescaling
from plantfed_shared.codec import LARGEST_TURNOVERS, decode_integers
from plantfed_shared.errors import StorageError
from plantfed_shared.lattice import Integers, checksum
from plantfed_shared.messages import Epoch, ModelName
from plantfed_shared.terms import Terms, terms_of

RESTING_STEPS, MOVING_STEPS = Fraction(12, 5), Fraction(10)
"""Of the move that all members together would make, so much may be the step of a release."""


@dataclass(frozen=True, slots=True)
class Member:
    """What the coordinator holds of one member.

    Attributes:
        incarnation: given to it last.
        last_seq: of its last applied update in this incarnation.
        last_digest: envelope digest of that update.
        contribution: weight, z and dual.
        pinned: the version it was served last, kept for its next update.
        held: the version it had before, kept while it fetches that one as the difference.
        updates: applied in all, over all incarnations.
        staleness: of its last update, in releases.
        staleness_sum: over all its updates.
        score: reported last.
    """

    incarnation: int
    contribution: Contribution
    last_seq: int = 0
    last_digest: int | None = None
    pinned: int | None = None
    held: int | None = None
    updates: int = 0
    staleness: int = 0
    staleness_sum: int = 0
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Round:
    """A synchronous round: drawn members and those among them that have answered."""

    k: int
    attempt: int
    drawn: tuple[str, ...]
    answered: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Judged:
    """What an update would make of its member's contribution."""

    inputs: tuple[Contribution, Integers, Integers, Integers]
    weight: int
    after: Contribution


@dataclass(frozen=True, slots=True)
class _NextRelease:
    """What a release would make of the sums and the model."""

    consensus: Consensus
    unrounded: Integers
    model: Integers
    checksum: int


@dataclass(slots=True)
class FederationState:
    """A federation at one point of its journal.

    Attributes:
        terms: the definition in force.
        epoch: the current one.
        k: number of the newest release.
        versions: the newest release and those a member has or fetches, lattice units.
        members: by agent id.
        retired: last incarnation of agents that are no members any more.
        barred: agents that may not join.
        consensus: the sums.
        remainders: what was taken away from a kept version when it was made one that may be
            released, int32 (n,), lattice units; of those that had something taken away.
        turnovers: of kept versions in mode auto, in 1/256: how often all members had arrived when
            they were released.  Those that are to be used as they are have none.
        arrived: members with an update since the last release.
        changed: something happened since the last release that it would show.
        round: the open synchronous round.
        releases: made in all epochs.
        updates: applied in all epochs, those of former members too.
    """

    terms: Terms
    epoch: Epoch
    k: int
    versions: dict[int, Integers]
    consensus: Consensus
    remainders: dict[int, NDArray[np.int32]] = field(default_factory=dict)
    turnovers: dict[int, int] = field(default_factory=dict)
    members: dict[str, Member] = field(default_factory=dict)
    retired: dict[str, int] = field(default_factory=dict)
    barred: set[str] = field(default_factory=set)
    arrived: set[str] = field(default_factory=set)
    changed: bool = False
    round: Round | None = None
    releases: int = 0
    updates: int = 0
    _pins: Counter[int] = field(init=False)
    _names: dict[int, tuple[Integers, ModelName]] = field(init=False, default_factory=dict)
    # both are asked for before a record is written, and again when it is applied
    _judged: _Judged | None = field(init=False, default=None)
    _next: _NextRelease | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._count_pins()

    @classmethod
    def begin(cls, record: EpochStarted) -> "FederationState":
        """The state after the first record of a journal."""
        terms = terms_of(record.definition)
        if record.initial:
            model = decode_integers(record.initial, terms.lattice)
            model.flags.writeable = False
        else:
            model = terms.initial_model
        consensus = consensus_of(terms.definition.algorithm, model)
        return cls(terms, record.epoch, record.k, {record.k: model}, consensus)

    @property
    def model(self) -> Integers:
        """U_k, lattice units."""
        return self.versions[self.k]

    @property
    def unrounded(self) -> Integers:
        """U_k before it was made one that may be released, lattice units."""
        return self._unrounded(self.k)

    def _unrounded(self, k: int) -> Integers:
        model, remainder = self.versions[k], self.remainders.get(k)
        return model if remainder is None else model + remainder

    def name(self, k: int) -> ModelName:
        """The name of a kept version."""
        model = self.versions[k]
        known = self._names.get(k)
        if known is None or known[0] is not model:
            known = self._names[k] = model, ModelName(self.epoch, k, checksum(model))
        return known[1]

    @property
    def final(self) -> bool:
        """Whether the last planned release is made."""
        limit = self.terms.definition.schedule.max_releases
        return limit is not None and self.releases >= limit

    def contribution_after(
        self, agent: str, base_k: int, change: Integers, weight: int
    ) -> Contribution:
        """What an update would make of a member's contribution.

        Its change is one of what was released.  Where the consensus carries, it is added to what
        that was before it was rounded: what rounding takes away waits, and is never lost.

        Raises:
            SaturationError: a result is not below 2^30 in magnitude.
        """
        old, base = self.members[agent].contribution, self.versions[base_k]
        # all that the result depends on; none of these is ever changed in place
        inputs = old, base, change, self.consensus.total
        known = self._judged
        if known is None or known.weight != weight or not all(map(is_, known.inputs, inputs)):
            relaxed = self.terms.lattice.relaxed(change)
            start = self._unrounded(base_k) if self.consensus.carries else base
            after = self.consensus.next_contribution(old, start, relaxed, weight)
            known = self._judged = _Judged(inputs, weight, after)
        return known.after

    def next_model(self) -> Integers:
        """What a release would be now, int64 (n,); changes nothing."""
        return self._next_release().model

    def next_checksum(self) -> int:
        """The checksum of :meth:`next_model`."""
        return self._next_release().checksum

    def _next_release(self) -> _NextRelease:
        if self._next is None:
            consensus = copy(self.consensus)
            unrounded = consensus.release(self.unrounded)
            model = self._released(consensus, unrounded)
            self._next = _NextRelease(consensus, unrounded, model, checksum(model))
        return self._next

    def _released(self, consensus: Consensus, unrounded: Integers) -> Integers:
        """As coarse as may be; the last one as fine as it may be.

        What is rounded away moves those who train on it, by a quarter of a step on average.  Where
        the model is a mean of all, that moves it by their part of it, and a step of 2.4 times the
        move that all of them together would make is out of what such moves can keep up: it comes to
        rest.  Made of some of them, it goes to and fro anyway.
        """
        lattice, limit = self.terms.lattice, self.terms.definition.schedule.max_releases
        if limit is None or self.releases + 1 < limit:
            members = len(self.members)
            arrived = self.consensus.counted(self.arrived) or max(1, members)
            rests = arrived >= members or not consensus.carries
            steps = int((RESTING_STEPS if rests else MOVING_STEPS) * members / arrived)
            return lattice.released(unrounded, self.unrounded, max(2, steps))
        if isinstance(consensus, FreshMean):
            # nobody will train on it: it is what machines use
            return lattice.released(consensus.served())
        return lattice.released(unrounded)

    def apply(self, record: Record) -> None:
        """Take in the next record of the journal."""
        match record:
            case EpochStarted():
                self._start_epoch(record)
            case Joined(agent, incarnation):
                contribution = Contribution.neutral(self.unrounded)
                self._pin(agent, Member(incarnation, contribution, pinned=self.k))
                self.consensus.join(self.members[agent].contribution)
                self.retired.pop(agent, None)
            case IncarnationRaised(agent, incarnation):
                raised = replace(
                    self.members[agent],
                    incarnation=incarnation,
                    last_seq=0,
                    last_digest=None,
                    # it is offered this version and may have it already
                    pinned=self.k,
                    held=None,
                )
                self._pin(agent, raised)
            case Left(agent, barred):
                self._leave(agent, barred=barred)
            case Admitted(agent):
                self.barred.discard(agent)
            case Served(agent, k, held):
                self._pin(agent, replace(self.members[agent], pinned=k, held=held))
            case Applied():
                self._apply_update(record)
            case Released():
                self._release(record)
            case RoundOpened(k, attempt, agents):
                self.round = Round(k, attempt, agents)
        self._next = None

    def _apply_update(self, record: Applied) -> None:
        old = self.members[record.agent]
        change = decode_integers(record.change, self.terms.lattice)
        new = self.contribution_after(record.agent, record.base_k, change, record.weight)
        staleness = self._staleness(record.base_k)
        self.consensus.arrive(record.agent, old.contribution, new, staleness)
        self.updates += 1
        updated = replace(
            old,
            contribution=new,
            # it has this one, whatever else it was served before
            held=record.base_k if old.pinned != record.base_k else None,
            last_seq=record.seq,
            last_digest=record.digest,
            updates=old.updates + 1,
            staleness=staleness.releases,
            staleness_sum=old.staleness_sum + staleness.releases,
            score=record.score,
        )
        self._pin(record.agent, updated)
        self.arrived.add(record.agent)
        self.changed = True
        drawn = self.round is not None and record.agent in self.round.drawn
        if self.round is not None and drawn and record.base_k == self.round.k:
            self.round = replace(self.round, answered=self.round.answered | {record.agent})

    def _staleness(self, base_k: int) -> Staleness:
        passed = 0
        if isinstance(self.consensus, FreshMean):
            # the first release of an epoch has none: it was made when they begin
            passed = self.consensus.passed + 1 - self.turnovers.get(base_k, 1)
        return Staleness(self.k - base_k, passed % LARGEST_TURNOVERS)

    def _leave(self, agent: str, *, barred: bool) -> None:
        if barred:
            self.barred.add(agent)
        member = self.members.pop(agent, None)
        if member is None:
            return
        self.consensus.leave(agent, member.contribution)
        if isinstance(self.consensus, FreshMean) and not self.members:
            self.consensus.begin_at(self.unrounded)
        self.retired[agent] = member.incarnation
        self.arrived.discard(agent)
        self.changed |= self.consensus.counts_members
        if self.round is not None:
            rest = tuple(a for a in self.round.drawn if a != agent)
            self.round = replace(self.round, drawn=rest, answered=self.round.answered - {agent})
        self._unpin(member)

    def _release(self, record: Released) -> None:
        made = self._next_release()
        if made.checksum != record.checksum:
            raise StorageError(
                f"release {record.k} replays to another model than was announced",
                hint="The journal is damaged; restore a backup",
            )
        before, self.k, self.consensus = self.k, record.k, made.consensus
        self._keep(made.model, made.unrounded)
        self.releases += 1
        self.arrived.clear()
        self.changed = False
        self.round = None
        if isinstance(self.consensus, FreshMean) and not self.final:
            self.turnovers[self.k] = 1 + self.consensus.passed % LARGEST_TURNOVERS
        self._forget_if_unused(before)

    def _keep(self, model: Integers, unrounded: Integers) -> None:
        """As the newest version."""
        self.versions[self.k] = model
        if unrounded is not model and (unrounded != model).any():
            self.remainders[self.k] = (unrounded - model).astype(np.int32)

    def _start_epoch(self, record: EpochStarted) -> None:
        terms = terms_of(record.definition)
        rescaling = Rescaling.between(self.terms, terms)
        before = self.consensus
        z_has_dual = not isinstance(before, FreshMean)
        same_mode = terms.definition.algorithm.mode == self.terms.definition.algorithm.mode
        # what was applied and not yet released is in it: it would be lost where arrivals are
        # forgotten, and its agents were told that it counts
        model = rescaling.model(copy(before).release(self.unrounded))
        members: dict[str, Member] = {}
        consensus = consensus_of(terms.definition.algorithm, model)
        for agent, member in self.members.items():
            # z and w of one mode mean nothing in another: everybody agrees with the model again
            contribution = Contribution.neutral(model)
            if same_mode:
                contribution = rescaling.contribution(member.contribution, z_has_dual=z_has_dual)
            if terms.definition.algorithm.weighting == "equal":
                contribution = replace(contribution, weight=1)
            consensus.join(contribution)
            members[agent] = replace(member, contribution=contribution, pinned=None, held=None)
        if isinstance(consensus, FreshMean):
            consensus.begin_at(model)
        self.terms, self.epoch, self.k = terms, record.epoch, record.k
        self.versions, self.remainders, self.turnovers, self._names = {}, {}, {}, {}
        used = model
        if isinstance(before, FreshMean) and isinstance(consensus, FreshMean) and self.final:
            # nobody will train on it any more: it stays what machines use
            used = rescaling.model(before.served())
            consensus.begin_average_at(used)
        self._keep(terms.lattice.released(used), model)
        self.members, self.consensus = members, consensus
        self.arrived, self.changed, self.round = set(), False, None
        self._count_pins()

    def _count_pins(self) -> None:
        self._pins = Counter(k for member in self.members.values() for k in _kept_for(member))

    def _pin(self, agent: str, member: Member) -> None:
        """Put a new row in a member's place; the versions only it had use for are let go."""
        old = self.members.get(agent)
        self.members[agent] = member
        self._pins.update(_kept_for(member))
        if old is not None:
            self._unpin(old)

    def _unpin(self, member: Member) -> None:
        for k in _kept_for(member):
            self._pins[k] -= 1
            self._forget_if_unused(k)

    def _forget_if_unused(self, k: int) -> None:
        if k != self.k and self._pins[k] <= 0:
            self.versions.pop(k, None)
            self.remainders.pop(k, None)
            self.turnovers.pop(k, None)
            self._names.pop(k, None)
            del self._pins[k]


def _kept_for(member: Member) -> tuple[int, ...]:
    return tuple(k for k in (member.pinned, member.held) if k is not None)
