"""When the next model is released, and whom a synchronous round invites."""

from collections.abc import Callable, Sequence

import numpy as np

from plantfed_coordinator.desk import Desk
from plantfed_coordinator.records import Released, RoundOpened
from plantfed_coordinator.state import FederationState, Round
from plantfed_shared.definition import Schedule
from plantfed_shared.messages import Start

INVITE_AGAIN_S = 30.0
INVITE_LONGEST_S = 600.0
ANNOUNCE_AT_MOST_EVERY_S = 10.0
"""Who waits for a model has asked for it: the manifest is for those that come or come back."""
ANNOUNCE_AGAIN_S = 30.0
ANNOUNCE_LONGEST_S = 3600.0

Selector = Callable[[int, int, int, Sequence[str], float], tuple[str, ...]]
"""(seed, k, attempt, sorted members, participation) -> members of the round."""


def draw_participants(
    seed: int, k: int, attempt: int, members: Sequence[str], participation: float
) -> tuple[str, ...]:
    """``int(participation * m)`` members, at least one, from a stream frozen by NEP 19."""
    rng = np.random.RandomState([seed, k, attempt])
    count = max(int(participation * len(members)), 1)
    return tuple(members[i] for i in rng.choice(len(members), count, replace=False))


def arrivals_wanted(wanted: int, live: int, fewest: int) -> int:
    """Distinct arrivals after which an asynchronous release is made.

    Args:
        wanted: as configured; 0 is an eighth of the live members, but at least ``fewest``.
        live: members heard of lately.
        fewest: that make a model of more than themselves.
    """
    return max(1, min(wanted or max(fewest, live // 8), live))


class Releases:
    """Makes releases and opens synchronous rounds when they are due.

    Args:
        desk: of the federation.
        select: draws the participants of synchronous rounds.
        now: monotonic seconds.
    """

    def __init__(self, desk: Desk, select: Selector, now: float) -> None:
        self._desk = desk
        self._select = select
        self._changed_since = now if desk.state.changed else None
        self._round_since = now
        self._invited_at = now
        self._invite_again_s = INVITE_AGAIN_S
        self._announced_at = now
        self._announce_again_s = ANNOUNCE_AGAIN_S
        self._announced: int | None = None

    def announce(self, now: float) -> None:
        """Publish the manifest.

        It is published again in growing intervals until the next release: a broker may have
        acknowledged and dropped it, and then every agent would wait for every other.
        """
        self._announced_at, self._announce_again_s = now, ANNOUNCE_AGAIN_S
        self._announced = self._desk.state.k
        self._desk.announce()

    def next_timer(self) -> float:
        """When something is due by time alone."""
        due = self._next_release()
        again = self._next_announcement()
        return again if due is None else min(due, again)

    def _next_announcement(self) -> float:
        if self._announced != self._desk.state.k:
            return self._announced_at + ANNOUNCE_AT_MOST_EVERY_S
        return self._announced_at + self._announce_again_s

    def _next_release(self) -> float | None:
        schedule = self._schedule
        if schedule.kind == "sync":
            if self._desk.state.round is None or not self._desk.state.members:
                return None
            deadline = self._round_since + schedule.deadline_s
            return min(deadline, self._invited_at + self._invite_again_s)
        if self._changed_since is None or not self._is_allowed():
            return None
        return self._changed_since + self._patience_s()

    def settle(self, now: float) -> None:
        """Release what is due and open the round that is due."""
        state = self._desk.state
        if not state.changed:
            self._changed_since = None
        elif self._changed_since is None:
            self._changed_since = now
        if self._is_allowed() and self._is_due(state, now):
            self._desk.record(Released(state.k + 1, state.next_checksum()))
            self._changed_since = None
            if state.final:
                self.announce(now)
        if self._announced != state.k:
            if now >= self._next_announcement():
                self.announce(now)
        elif now >= self._next_announcement():
            self._announced_at = now
            self._announce_again_s = min(2 * self._announce_again_s, ANNOUNCE_LONGEST_S)
            self._desk.announce()
        if self._schedule.kind == "sync":
            self._tend_round(state, now)

    def invite_if_drawn(self, agent: str) -> None:
        """Send START to a member whose answer the open round is waiting for."""
        state, opened = self._desk.state, self._desk.state.round
        if opened is None or agent not in opened.drawn or agent in opened.answered:
            return
        offer = self._desk.contents.offer(state)
        self._desk.send(agent, Start(offer=offer, deadline_s=self._schedule.deadline_s))

    @property
    def _schedule(self) -> Schedule:
        return self._desk.state.terms.definition.schedule

    def _is_allowed(self) -> bool:
        state = self._desk.state
        return state.changed and not state.final and self._has_begun(state)

    def _has_begun(self, state: FederationState) -> bool:
        """Once enough members have joined, it goes on although some leave."""
        begun = state.releases > 0 or state.round is not None
        return begun or len(state.members) >= self._schedule.min_members

    def _is_due(self, state: FederationState, now: float) -> bool:
        schedule = self._schedule
        if schedule.kind == "sync":
            opened = state.round
            if opened is None or not state.arrived:
                return False
            # an answer to an earlier attempt on this release counts as well: its agent would not
            # train on the same model again
            late = now >= self._round_since + schedule.deadline_s
            awaited = set(opened.drawn) - self._desk.quarantined.keys()
            return late or (bool(opened.drawn) and opened.answered >= awaited)
        live = self._desk.live_members(now)
        fewest = state.consensus.fewest_arrivals
        if state.consensus.counted(state.arrived) >= arrivals_wanted(
            schedule.arrivals, live, fewest
        ):
            return True
        since = self._changed_since
        return since is not None and now >= since + self._patience_s()

    def _patience_s(self) -> float:
        """How long the first unreleased change waits for others."""
        schedule, state = self._schedule, self._desk.state
        counted = state.consensus.counted(state.arrived)
        if schedule.arrivals or counted >= state.consensus.fewest_arrivals:
            return schedule.release_after_s
        # as long as anybody could still answer who counts as there
        return max(schedule.release_after_s, schedule.live_within_s)

    def _tend_round(self, state: FederationState, now: float) -> None:
        opened = state.round
        if opened is None:
            if self._invitable() and not state.final and self._has_begun(state):
                self._open_round(state, 0, now)
        elif self._is_hopeless(opened, now):
            self._open_round(state, opened.attempt + 1, now)
        elif now >= self._invited_at + self._invite_again_s:
            self._invited_at = now
            self._invite_again_s = min(2 * self._invite_again_s, INVITE_LONGEST_S)
            for agent in opened.drawn:
                self.invite_if_drawn(agent)

    def _is_hopeless(self, opened: Round, now: float) -> bool:
        late = now >= self._round_since + self._schedule.deadline_s
        return bool(self._invitable()) and (late or not opened.drawn)

    def _invitable(self) -> list[str]:
        """Members that are listened to, in order."""
        return sorted(self._desk.state.members.keys() - self._desk.quarantined.keys())

    def _open_round(self, state: FederationState, attempt: int, now: float) -> None:
        members = self._invitable()
        seed, participation = self._schedule.seed, self._schedule.participation
        drawn = self._select(seed, state.k, attempt, members, participation)
        self._desk.record(RoundOpened(state.k, attempt, drawn))
        self._round_since = self._invited_at = now
        self._invite_again_s = INVITE_AGAIN_S
        for agent in drawn:
            self.invite_if_drawn(agent)
