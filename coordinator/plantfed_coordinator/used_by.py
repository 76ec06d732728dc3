"""What one member may have had in use, computed anew from the journal.

In mode ``auto`` that is an average of the releases its updates began from, made on its machine (see
:mod:`plantfed_shared.own_average`); in the others each release itself.  What is personal on it, and
what its guard has decided, no journal of a coordinator knows.
"""

from dataclasses import dataclass
from typing import NamedTuple

from plantfed_coordinator.records import (
    Applied,
    EpochStarted,
    IncarnationRaised,
    Joined,
    Left,
    Record,
    Served,
)
from plantfed_coordinator.state import FederationState
from plantfed_shared.errors import ConfigError
from plantfed_shared.lattice import Integers, checksum
from plantfed_shared.own_average import OwnAverage, average_with, begins_anew, goes_back_to

MOST_UNDECIDED = 4
"""Releases that were served and may still be in an average with an update that is on its way; one
as a rule, and each is held in memory."""


@dataclass(frozen=True, slots=True)
class Used:
    """The shared parameters that a member had in use while it had a release.

    Attributes:
        epoch: counter of the epoch.
        incarnation: of the member.
        k: the release; it was offered or served, or an update began from it.
        seq: of the update that began from it and was applied; None where there is none.
        is_average: of that release and of those before it.
        checksum: of the integers.
    """

    epoch: int
    incarnation: int
    k: int
    seq: int | None
    is_average: bool
    checksum: int

    @property
    def name(self) -> str:
        """As the agent calls it."""
        return f"average up to release {self.k}" if self.is_average else f"release {self.k}"


class _Release(NamedTuple):
    k: int
    model: Integers
    turnovers: int


class UsedBy:
    """Follows a journal from its founding, or from a snapshot.

    Args:
        agent: the member.
        begin: the state at that snapshot; None at the founding.

    Attributes:
        unknown: how many releases it had in use in an average that goes back behind the snapshot.
    """

    def __init__(self, agent: str, begin: FederationState | None = None) -> None:
        self.unknown = 0
        self._agent = agent
        self._found: list[Used] = []
        self._average: OwnAverage | None = None
        self._base: _Release | None = None
        self._undecided: list[_Release] = []
        self._left_with: list[_Release] = []
        self._former: tuple[OwnAverage | None, int, int | None] | None = None
        member = None if begin is None else begin.members.get(agent)
        self._was_there = member is not None
        self._epoch = 0 if begin is None else begin.epoch.counter
        self._incarnation = 0 if member is None else member.incarnation
        self._known_since: int | None = None if member is not None and member.last_seq else 0
        if begin is not None and member is not None:
            kept = sorted({k for k in (member.held, member.pinned) if k is not None})
            self._undecided = [_release(begin, k) for k in kept]

    def take(self, record: Record, state: FederationState) -> None:
        """The next record.

        Args:
            record: of the journal.
            state: after it.
        """
        match record:
            case EpochStarted(epoch):
                self._let_go()
                self._epoch = epoch.counter
            case Joined(agent, incarnation) | IncarnationRaised(agent, incarnation) if (
                agent == self._agent
            ):
                former = self._average, self._incarnation, self._known_since
                has = self._let_go()
                self._was_there, self._incarnation = True, incarnation
                # until it has fetched the one it is offered, the one it has, without an average
                offered = _release(state, state.k)
                if isinstance(record, IncarnationRaised):
                    self._former = former
                    self._note_with_former(offered)
                self._undecided = [*(r for r in has if r.k != offered.k), offered]
            case Left(agent) if agent == self._agent:
                self._left_with = self._let_go()
            case Served(agent=agent, k=k, held=held) if agent == self._agent:
                known = [release.k for release in (self._base, *self._undecided) if release]
                # one that was restored has an older one than it was offered
                new = [n for n in (held, k) if n is not None and n not in known]
                self._undecided += [_release(state, n) for n in new]
                self._note_with_former(_release(state, k))
                self._undecided.sort(key=lambda release: release.k)
                self._decide(until=self._undecided[-MOST_UNDECIDED:][0].k)
            case Applied(agent=agent, seq=seq, base_k=base_k) if agent == self._agent:
                self._former = None
                self._decide(until=base_k)
                self._undecided = [r for r in self._undecided if r.k > base_k]
                self._base = _release(state, base_k)
                self._average = self._note(self._base, seq)

    def found(self, state: FederationState) -> tuple[Used, ...]:
        """What it had in use, in order; with the last release only once it has fetched that.

        Args:
            state: after the last record.

        Raises:
            ConfigError: there was no such member.
        """
        self._decide_all()
        if not self._was_there and self._agent not in state.retired:
            raise ConfigError(
                f"--used-by {self._agent!r}: no such member in what is kept of the journal",
                where=state.terms.definition.federation,
                hint="See: plantfed-coordinator members",
            )
        return tuple(self._found)

    def _decide_all(self) -> None:
        for release in self._undecided:
            self._note(release, None)
        self._undecided = []

    def _decide(self, *, until: int) -> None:
        """No update that began from an older release than one of these will come any more."""
        for release in self._undecided:
            if release.k < until:
                self._note(release, None)
        self._undecided = [release for release in self._undecided if release.k >= until]

    def _let_go(self) -> list[_Release]:
        """Its average is no more; what it may have is returned."""
        has = [*([self._base] if self._base else self._left_with), *self._undecided]
        self._decide_all()
        self._average, self._base, self._left_with, self._known_since = None, None, [], 0
        self._former = None
        return has

    def _note_with_former(self, release: _Release) -> None:
        """It may be served this one before it knows of its new incarnation."""
        if self._former is None:
            return
        before, incarnation, since = self._former
        average = average_with(before, release.model, release.turnovers)
        if before is None or average is None or since is None:
            return
        if not since or since < goes_back_to(release.turnovers):
            self._add(release.k, average, incarnation=incarnation)

    def _note(self, release: _Release, seq: int | None) -> OwnAverage | None:
        before, turnovers = self._average, release.turnovers
        average = average_with(before, release.model, turnovers)
        since = self._known_since
        if average is None or (before is not None and begins_anew(before.at, turnovers)):
            since = 0
        elif since is None:
            since = turnovers
        if seq is not None:
            self._known_since = since
        if since and since >= goes_back_to(turnovers):
            self.unknown += 1
            return average
        if average is None or before is None:
            self._add(release.k, release.model, seq)
        else:
            self._add(release.k, average, seq)
        return average

    def _add(
        self,
        k: int,
        used: OwnAverage | Integers,
        seq: int | None = None,
        incarnation: int | None = None,
    ) -> None:
        is_average = isinstance(used, OwnAverage)
        integers = used.usable if isinstance(used, OwnAverage) else used
        incarnation = self._incarnation if incarnation is None else incarnation
        row = Used(self._epoch, incarnation, k, seq, is_average, checksum(integers))
        if row not in self._found[-2 * MOST_UNDECIDED :]:
            self._found.append(row)


def _release(state: FederationState, k: int) -> _Release:
    return _Release(k, state.versions[k], state.turnovers.get(k, 0))
