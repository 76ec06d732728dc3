"""What agents fetch: the newest model as a step from the one they have, definition and dual.

A WANT is answered at once, or stands until there is a newer model than its sender has and others
have sent as much as it wants to wait for.  A model that is served is kept for that member
(``Served``) until it asks for another one or sends an update that started from it, and so is the
one it has: a slow agent is late, never excluded.  A long model that others may want at once is
served together with them (:mod:`groups`).
"""

from plantfed_coordinator.contents import can_step
from plantfed_coordinator.desk import Desk
from plantfed_coordinator.groups import Groups
from plantfed_coordinator.records import Served
from plantfed_coordinator.standing import StandingWants
from plantfed_coordinator.state import Member
from plantfed_shared.messages import Code, ModelName, ModelStep, Need, Part, Range, Verdict, Want
from plantfed_shared.patience import Answered
from plantfed_shared.transfer import Blob, chunks


class Serving:
    """The coordinator's side of WANT, NEED and PART.

    Args:
        desk: of the federation.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._groups = Groups(desk)
        self._standing = StandingWants()
        self._answered = Answered()
        self._wanted = Answered()
        self._settled_at: ModelName | None = None

    def take_want(self, agent: str, want: Want, digest: int, now: float) -> None:
        """Serve the newest model when this event is settled, or when it is this member's turn."""
        if self._member(agent, digest) is None:
            return
        if self._wanted.is_copy(agent, digest, now):
            return
        patience_s = self._desk.state.terms.definition.schedule.release_after_s
        self._standing.put(agent, want, self._desk.state.updates, now, patience_s)

    def updated(self, agent: str, now: float, *, goes_on: bool) -> None:
        """An update of a member was applied: it is one of those whom others let go first.

        Args:
            agent: whose.
            now: monotonic seconds.
            goes_on: whether it asks for the model after it.
        """
        self._standing.updated(agent, self._desk.state.updates, now, goes_on=goes_on)

    def is_away(self) -> None:
        """A member is not connected: it is waited for no more."""
        self._standing.look_again()

    def take_need(self, agent: str, need: Need, digest: int, now: float) -> None:
        """Serve some ranges of a content; a STATE says which model there is where it's gone."""
        if self._member(agent, digest) is None or self._answered.is_copy(agent, digest, now):
            return
        state, contents = self._desk.state, self._desk.contents
        found = contents.step_with(state, need.digest, need.step)
        if found is not None:
            step, blob = found
            self._keep_for(agent, step)
            self._send(agent, blob, need.ranges)
            return
        other = contents.other(state, agent, need.digest)
        if other is None:
            self._wanted.forget(agent)  # it begins anew at once
            self._desk.reply(agent, None, offer=True)
        else:
            self._send(agent, other, need.ranges)

    def take_part(self, agent: str, part: Part, digest: int, now: float) -> None:
        """Serve a part of a content together with others; as with a NEED, a STATE where it's gone.

        Raises:
            PeerError: the content has no such part.
        """
        if self._member(agent, digest) is None or self._answered.is_copy(agent, digest, now):
            return
        found = self._desk.contents.for_many(self._desk.state, part.digest, part.step)
        if found is None:
            self._wanted.forget(agent)
            self._desk.reply(agent, None, offer=True)
            return
        step, blob = found
        if step is not None:
            self._keep_for(agent, step)
        self._groups.take_part(agent, part, blob, now)

    def settle(self, now: float) -> None:
        """Serve all who wait and can be served."""
        self._serve_standing(now)
        self._groups.settle(now)

    def next_timer(self) -> float:
        """When something is due by time alone; infinite for never."""
        return min(self._groups.next_timer(), self._standing.next_at)

    def _serve_standing(self, now: float) -> None:
        state = self._desk.state
        newest = state.name(state.k)
        turn_may_have_come = self._standing.a_turn_may_have_come(state.updates, now)
        if newest == self._settled_at and not turn_may_have_come:
            return
        self._settled_at = newest
        for agent in self._standing.whose_turn_it_is(self._going_on(now), now):
            self._serve(agent, now)

    def _going_on(self, now: float) -> int:
        """How many members will send more updates; 0 where nobody has to know."""
        if self._desk.state.final or not self._standing.let_others_go_first:
            return 0
        return self._standing.going_on(self._desk.reachable_members(now))

    def connected(self) -> None:
        """What was sent on the connection before may be lost."""
        self._answered.forget()
        self._wanted.forget()

    def forget(self, agent: str | None = None) -> None:
        """It has left, or, without a name, a new epoch has begun."""
        self._answered.forget(agent)
        self._wanted.forget(agent)
        self._groups.forget(agent)
        self._standing.forget(agent)

    def begins_anew(self, agent: str) -> None:
        """What was sent to it before its HELLO may be lost."""
        self._answered.forget(agent)
        self._wanted.forget(agent)
        self._groups.forget(agent)

    def _member(self, agent: str, digest: int) -> Member | None:
        member = self._desk.state.members.get(agent)
        if member is None:
            self._desk.reply(agent, Verdict(digest, Code.UNKNOWN_MEMBER, "say hello"))
        return member

    def _serve(self, agent: str, now: float) -> None:
        state, want = self._desk.state, self._standing.get(agent).want
        if want.have is not None and want.have == state.name(state.k):
            return
        self._standing.discard(agent)
        step = ModelStep(state.k, self._base_of(want.have))
        blob = self._desk.contents.step(state, step)
        self._keep_for(agent, step)
        if not self._groups.gather(agent, blob, want.window, now):
            self._send(agent, blob, [Range(0, want.window)])

    def _base_of(self, have: ModelName | None) -> int | None:
        """The model an agent has, where it is kept and really the same."""
        state = self._desk.state
        if have is None or have.k not in state.versions:
            return None
        return have.k if have == state.name(have.k) else None

    def _keep_for(self, agent: str, step: ModelStep) -> None:
        member = self._desk.state.members[agent]
        if (member.pinned, member.held) != step and can_step(self._desk.state, step):
            self._desk.record(Served(agent, step.k, step.base_k))

    def _send(self, agent: str, blob: Blob, ranges: list[Range] | tuple[Range, ...]) -> None:
        for chunk, piece in chunks(blob, ranges, self._desk.max_payload_bytes):
            self._desk.send(agent, chunk, piece)
