"""Who is listened to, what is refused, and what that costs the sender: pure.

A refusal is counted, told to the log (a line a minute for each member) and to the audit log.  An
*offence* is what no sound agent sends, whatever the network does to it: a message whose checksum
fits and whose content does not.  Damage, duplicates and what is only late are none.  An agent with
more offences than are put up with is quarantined until the operator releases it.

Memory: a few numbers for each member, and for the last ``STRANGERS_KNOWN`` others; anybody can make
up ids, so in the logs all others are one.
"""

from dataclasses import dataclass
from math import inf

from plantfed_coordinator.allowance import Allowance
from plantfed_coordinator.desk import Desk
from plantfed_coordinator.events import Audit, Deed, Quarantine
from plantfed_coordinator.limits import Limits
from plantfed_shared.messages import Code, Verdict
from plantfed_shared.throttle import Throttle

STRANGERS = ""
"""All senders that are no members, as one."""
STRANGERS_KNOWN = 1024
LOG_LINE_EVERY_S = 60.0
"""Of a flood of garbage one log line a minute and member is enough."""
AUDIT_BURST = 64
AUDIT_ENTRY_EVERY_S = 600.0
"""Then one entry in ten minutes says how many there were."""
FLOOD_OFFENCE_EVERY_S = 10.0
"""A flood is so often an offence, not with every message."""
FREE_FROM_BYTES = 4096
"""A shorter piece of what was asked for is work for less than it brings."""
WORK_BURST_S = 4.0
JOINS, JOIN_EVERY_S = 20, 30.0
EPOCHS, EPOCH_EVERY_S = 2, 600.0
"""Each ends the round of every member.  Sound agents agree after the first of them."""


@dataclass(slots=True)
class _Held:
    """Entries that were not written: how many, and the last of them."""

    count: int
    deed: Deed
    text: str


class _Record:
    """What is remembered of one sender."""

    def __init__(self, limits: Limits, now: float) -> None:
        self.messages = Allowance(limits.burst_messages, 1 / limits.messages_per_s, now)
        burst = WORK_BURST_S * limits.numbers_per_s
        self.work = Allowance(burst, 1 / limits.numbers_per_s, now)
        self.offences = Allowance(limits.offences, limits.forgive_one_after_s, now)
        self.entries = Allowance(AUDIT_BURST, AUDIT_ENTRY_EVERY_S, now)
        self.joins = Allowance(JOINS, JOIN_EVERY_S, now)
        self.epochs = Allowance(EPOCHS, EPOCH_EVERY_S, now)
        self.floods = Allowance(1, FLOOD_OFFENCE_EVERY_S, now)
        self.dropped = 0
        self.held: _Held | None = None

    def is_blank(self, now: float) -> bool:
        """Whether it says nothing."""
        allowances = self.messages, self.work, self.offences, self.entries, self.joins, self.epochs
        return self.held is None and all(a.is_full(now) for a in allowances)


class Guard:
    """The coordinator's memory of how agents behave.

    Args:
        desk: of the federation; who is quarantined stands there.
        limits: what is put up with.
    """

    def __init__(self, desk: Desk, limits: Limits) -> None:
        self._desk = desk
        self._limits = limits
        self._lines = Throttle(LOG_LINE_EVERY_S)
        self._members: dict[str, _Record] = {}
        self._strangers: dict[str, _Record] = {}
        self._due = inf

    # ------------------------------------------------------------------ who is listened to

    def listens_to(self, agent: str, digest: int, now: float) -> bool:
        """Whether a message is to be looked at; who is not listened to is told why.

        Args:
            agent: as the topic says.
            digest: envelope digest of the message.
            now: monotonic seconds.
        """
        record = self._record(agent, now)
        if not record.messages.take(now):
            self._drop(agent, record, now)
            return False
        why = self._desk.quarantined.get(agent)
        if why is not None:
            self._put_down(agent, Deed.REFUSED, "is quarantined", now)
            self._count(agent, now)
            self._desk.reply(agent, Verdict(digest, Code.QUARANTINED, why[:300]))
        return why is None

    def _drop(self, agent: str, record: _Record, now: float) -> None:
        """A message of a flood; now and then the sender is told, and something is put down."""
        record.dropped += 1
        if not record.floods.take(now):
            self._count(agent, now)
            return
        rate = f"more than {self._limits.messages_per_s:g} messages a second"
        self.refuse(agent, f"{rate}, {record.dropped} not looked at", now, is_offence=True)
        self._desk.reply(agent, Verdict(0, Code.REJECTED, rate))
        record.dropped = 0

    def was_asked_for(self, agent: str, n_bytes: int, now: float) -> None:
        """The message that was just let in answers one of ours: it is free, if it says enough."""
        self._record(agent, now).messages.give_back(min(1.0, n_bytes / FREE_FROM_BYTES))

    def may_work(self, agent: str, numbers: int, now: float) -> bool:
        """Whether an update of so many numbers is to be looked into.

        A few bytes can stand for a vector of any length, and each update may be sound: counting
        messages bounds neither.
        """
        record = self._record(agent, now)
        if record.work.has_any(now):
            record.work.spend(numbers, now)
            return True
        why = f"updates of more than {self._limits.numbers_per_s:,.0f} numbers a second"
        self.refuse(agent, why, now, is_offence=False)
        return False

    def may_join(self, agent: str, now: float) -> bool:
        """Whether one more row may be written because an agent says hello."""
        why = "joins too often"
        may = self._may(self._record(agent, now).joins, agent, why, now)
        if not may:
            self._desk.reply(agent, Verdict(0, Code.REJECTED, why))
        return may

    def may_begin_epoch(self, agent: str, now: float) -> bool:
        """Whether a new epoch may begin because of what a member, or any stranger, says."""
        record = self._record(self._key(agent), now)
        return self._may(record.epochs, agent, "begins epochs too often", now)

    # ------------------------------------------------------------------ what is refused

    def refuse(self, agent: str, why: str, now: float, *, is_offence: bool) -> None:
        """A message is not taken.

        Args:
            agent: whose, as its topic says, or ``STRANGERS``.
            why: for the logs.
            now: monotonic seconds.
            is_offence: no sound agent sends such a message.
        """
        self._count(agent, now)
        self._put_down(agent, Deed.OFFENCE if is_offence else Deed.REFUSED, why, now)
        left_out = self._lines.left_out(self._key(agent), now)
        if left_out is not None:
            more = f" (and {left_out} more before it)" if left_out else ""
            self._desk.note(why + more, agent or None, warning=True)
        counts = is_offence and self._is_member(agent) and agent not in self._desk.quarantined
        if counts and not self._record(agent, now).offences.take(now):
            self._quarantine(agent, why)

    def set_aside(self, agent: str, why: str, now: float) -> None:
        """A message is sound, and changes nothing: it is late, doubled or of a stranger."""
        self._put_down(agent, Deed.SET_ASIDE, why, now)

    def release(self, agent: str) -> None:
        """The operator ends an agent's quarantine; what it did is forgotten."""
        self._desk.quarantined.pop(agent, None)
        self._members.pop(agent, None)
        self._desk.ask(Quarantine(agent, None))
        self._desk.ask(Audit(Deed.RELEASED, agent, "by the operator"))

    def _quarantine(self, agent: str, why: str) -> None:
        offences = self._limits.offences + 1
        reason = f"quarantined after {offences} offences, the last: {why}"
        self._desk.quarantined[agent] = reason
        self._desk.ask(Quarantine(agent, reason))
        self._desk.ask(Audit(Deed.QUARANTINED, agent, reason))
        self._desk.note(reason, agent, warning=True)
        self._desk.reply(agent, Verdict(0, Code.QUARANTINED, reason[:300]))

    # ------------------------------------------------------------------ what is held back

    def next_timer(self) -> float:
        """When an entry that was held back is due; infinite for never."""
        return self._due

    def settle(self, now: float) -> None:
        """Write entries that were held back, and forget members that are gone and left nothing."""
        if now < self._due:
            return
        self._due = inf
        for agent, record in self._all():
            if record.held is None:
                continue
            if record.entries.take(now):
                held, record.held = record.held, None
                self._desk.ask(Audit(held.deed, agent or None, held.text, held.count))
            else:
                self._due = min(self._due, record.entries.ready_at(now))
        self._members = {
            agent: record
            for agent, record in self._members.items()
            if self._is_member(agent) or not record.is_blank(now)
        }

    def _put_down(self, agent: str, deed: Deed, text: str, now: float) -> None:
        record = self._record(self._key(agent), now)
        # in the order in which things happened: what is held back goes first
        if record.held is None and record.entries.take(now):
            self._desk.ask(Audit(deed, agent or None, text))
            return
        count = record.held.count + 1 if record.held else 1
        record.held = _Held(count, deed, text)
        self._due = min(self._due, record.entries.ready_at(now))

    # ------------------------------------------------------------------ small tools

    def _may(self, allowance: Allowance, agent: str, why: str, now: float) -> bool:
        if allowance.take(now):
            return True
        self.refuse(agent, why, now, is_offence=False)
        return False

    def _count(self, agent: str, now: float) -> None:
        if self._is_member(agent):
            self._desk.presence_of(agent, now).rejected += 1

    def _is_member(self, agent: str) -> bool:
        return agent in self._desk.state.members

    def _key(self, agent: str) -> str:
        return agent if self._is_member(agent) else STRANGERS

    def _all(self) -> list[tuple[str, _Record]]:
        return [*self._members.items(), *self._strangers.items()]

    def _record(self, agent: str, now: float) -> _Record:
        """A member's, or that of one of the last strangers, who may become members."""
        known = self._members.get(agent)
        if known is not None:
            return known
        record = self._strangers.pop(agent, None) or _Record(self._limits, now)
        if self._is_member(agent):
            self._members[agent] = record
            return record
        self._strangers[agent] = record  # the last that was heard is the last in order
        if len(self._strangers) > STRANGERS_KNOWN:
            oldest = next(a for a in self._strangers if a != STRANGERS)
            del self._strangers[oldest]
        return record
