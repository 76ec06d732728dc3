"""Who is a member: HELLO and BYE, what the operator orders, and new epochs; pure."""

from plantfed_coordinator.admission import (
    Reconciliation,
    newer_past_of_hello,
    next_incarnation,
    reconcile,
)
from plantfed_coordinator.desk import Desk
from plantfed_coordinator.events import Order
from plantfed_coordinator.freshness import Freshness
from plantfed_coordinator.guard import Guard
from plantfed_coordinator.records import Admitted, IncarnationRaised, Joined, Left
from plantfed_coordinator.releases import Releases
from plantfed_coordinator.serving import Serving
from plantfed_coordinator.state import Member
from plantfed_coordinator.uploads import Uploads
from plantfed_shared.messages import Bye, Code, Epoch, Hello, Verdict, Welcome


class Membership:
    """Who belongs to the federation.

    Args:
        desk: of the federation.
        guard: says what an agent may cause, and is told what it has.
        releases: told who has come back.
        serving: told who begins anew or is gone.
        uploads: the same.
    """

    def __init__(
        self, desk: Desk, guard: Guard, releases: Releases, serving: Serving, uploads: Uploads
    ) -> None:
        self._desk = desk
        self._guard = guard
        self._releases = releases
        self._serving = serving
        self._uploads = uploads
        self._freshness = Freshness(desk.new_bits)

    def take_hello(self, agent: str, hello: Hello, digest: int, now: float) -> None:
        """Reconcile what an agent has with what is here."""
        seen = newer_past_of_hello(self._desk.state, agent, hello)
        is_barred = agent in self._desk.state.barred
        if seen is not None and not is_barred and self._guard.may_begin_epoch(agent, now):
            self.renew(*seen)
        self._serving.begins_anew(agent)
        given = next_incarnation(self._desk.state, agent, hello.incarnation)
        match reconcile(self._desk.state, agent, hello):
            case Reconciliation.BARRED:
                self._guard.set_aside(agent, "hello of one who was removed", now)
                self._desk.reply(agent, Verdict(digest, Code.REMOVED, "removed by the operator"))
            case Reconciliation.NEW:
                if self._is_fresh(agent, hello, now) and self._guard.may_join(agent, now):
                    self._desk.record(Joined(agent, given))
                    self._desk.note("joined", agent)
                    self._welcome(agent)
            case Reconciliation.FORKED:
                before = self._desk.state.members[agent]
                if self._is_fresh(agent, hello, now) and self._guard.may_join(agent, now):
                    self._desk.record(IncarnationRaised(agent, given))
                    lost = _lost_updates(before, hello)
                    what = f"could not be reconciled, is now incarnation {given}{lost}"
                    self._desk.note(what, agent, warning=bool(lost))
                    self._welcome(agent)
            case Reconciliation.AGREES:
                self._desk.reply(agent, self._verdict_on_outstanding(agent, hello), offer=True)
                self._releases.invite_if_drawn(agent)

    def _is_fresh(self, agent: str, hello: Hello, now: float) -> bool:
        """Whether a HELLO may have consequences; else its sender is asked to say it again."""
        member = self._desk.state.members.get(agent)
        ours = member.incarnation if member else self._desk.state.retired.get(agent)
        if ours is None:
            return True  # a newcomer has nothing to lose
        number = self._freshness.number(agent, ours)
        if hello.proof == number:
            return True
        self._guard.set_aside(agent, "hello that doesn't agree, and may be a replay", now)
        self._desk.reply(agent, Verdict(number, Code.UNPROVEN, "say hello with this number"))
        return False

    def _verdict_on_outstanding(self, agent: str, hello: Hello) -> Verdict | None:
        outstanding = hello.outstanding
        if outstanding is None or outstanding != self._desk.state.members[agent].last_digest:
            return None
        return Verdict(outstanding, Code.APPLIED, "")

    def take_bye(self, agent: str, bye: Bye, digest: int, now: float) -> None:
        """An agent leaves for good."""
        member = self._desk.state.members.get(agent)
        if member is not None and bye.incarnation != member.incarnation:
            self._guard.set_aside(agent, "bye of an incarnation that is over", now)
            self._desk.reply(agent, Verdict(digest, Code.OLD_INCARNATION, "say hello"))
            return
        if member is not None:
            self._desk.record(Left(agent, barred=False))
            self._forget(agent)
            self._desk.note("left", agent)
        self._desk.reply(agent, Verdict(digest, Code.LEFT, ""))

    def obey(self, order: Order, agent: str) -> None:
        """Carry out what the operator wants."""
        if order is Order.RELEASE:
            self._guard.release(agent)
            self._desk.note("released from quarantine", agent)
            self._desk.reply(agent, Verdict(0, Code.UNKNOWN_MEMBER, "say hello"))
            return
        if order is Order.ADMIT:
            self._desk.record(Admitted(agent))
            self._desk.note("may join again", agent)
            self._desk.reply(agent, Verdict(0, Code.UNKNOWN_MEMBER, "say hello"))
            return
        self._desk.record(Left(agent, barred=True))
        self._forget(agent)
        self._desk.note("removed by the operator", agent)
        self._desk.reply(agent, Verdict(0, Code.REMOVED, "removed by the operator"))

    def renew(self, reason: str, seen: Epoch, definition: bytes | None = None) -> None:
        """Begin a new epoch, later than any seen; see :meth:`Desk.renew`."""
        self._desk.renew(reason, seen, definition)
        self._uploads.forget()
        self._serving.forget()

    def _forget(self, agent: str) -> None:
        self._uploads.forget(agent)
        self._serving.forget(agent)

    def _welcome(self, agent: str) -> None:
        state = self._desk.state
        member = state.members[agent]
        dual = self._desk.contents.dual(state, agent)
        self._desk.send(
            agent,
            Welcome(
                epoch=state.epoch,
                incarnation=member.incarnation,
                dual_checksum=member.contribution.dual_checksum,
                dual=None if dual is None else dual.content,
                offer=self._desk.contents.offer(state),
            ),
        )
        self._releases.invite_if_drawn(agent)


def _lost_updates(member: Member, hello: Hello) -> str:
    """What an agent knows to be applied and the coordinator doesn't, after a restore."""
    if hello.incarnation < member.incarnation:
        return ""
    known = member.last_seq if hello.incarnation == member.incarnation else 0
    if hello.applied_seq <= known:
        return ""
    first, last = known + 1, hello.applied_seq
    if first == last:
        return f"; its update {last} is lost"
    return f"; its updates {first} to {last} are lost"
