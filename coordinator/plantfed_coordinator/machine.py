"""The federation machine: what arrives becomes journal records and answers.

Pure: time comes in as ``now`` (monotonic seconds), randomness as ``new_bits``, and everything it
wants done goes out as actions, in the order persist, publish.  State changes only through
``FederationState.apply`` of a record that is persisted with it.

What each kind of message leads to:

    hello    unknown -> Joined, WELCOME; agrees -> STATE; else -> IncarnationRaised, WELCOME
    update   judged in the order of ``admission.judge_update``; Applied -> STATE, perhaps Released
    offer    an update too long for one message: NEED until it is complete, then as update
    need     CHUNKs of a kept model (which pins it), the definition or the member's own dual
    bye      Left -> STATE(left)
    model    retained: our own, or one that shows a newer past -> EpochStarted
"""

from collections.abc import Callable
from dataclasses import dataclass

from plantfed_coordinator.admission import (
    Reconciliation,
    judge_update,
    newer_past_of_hello,
    newer_past_of_model,
    newer_past_of_update,
    reconcile,
)
from plantfed_coordinator.contents import Contents
from plantfed_coordinator.events import (
    Action,
    BusConnected,
    Event,
    MessageArrived,
    Note,
    OperatorOrder,
    Order,
    Persist,
    Publish,
    TimerDue,
)
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
from plantfed_coordinator.releases import (
    Selector,
    arrivals_wanted,
    draw_participants,
    release_is_allowed,
    round_can_open,
    round_is_answered,
)
from plantfed_coordinator.state import FederationState
from plantfed_shared import wire
from plantfed_shared.bus.port import MAX_MESSAGE_BYTES
from plantfed_shared.errors import PeerError
from plantfed_shared.lattice import checksum
from plantfed_shared.messages import (
    KIND_OF_MESSAGE,
    Bye,
    Chunk,
    Code,
    Content,
    Epoch,
    Hello,
    Manifest,
    Message,
    ModelName,
    Need,
    Offer,
    Start,
    State,
    Status,
    Update,
    Verdict,
    Welcome,
)
from plantfed_shared.topics import Address, Kind, Topics
from plantfed_shared.transfer import Assembly, chunks

INVITE_AGAIN_S = 30.0
UPDATE_ENVELOPE_BYTES = 256
"""More than any UPDATE has besides its change."""


@dataclass(slots=True)
class Presence:
    """What is known of an agent's connection; not part of the journal.

    Attributes:
        last_seen: monotonic seconds of its last message.
        online: as its retained status says.
        software: its version.
        rejected: messages that did not fit the protocol or were rejected.
    """

    last_seen: float
    online: bool = True
    software: str = ""
    rejected: int = 0


class FederationMachine:
    """The coordinator's side of the protocol.

    Args:
        state: replayed from the journal.
        topics: of the federation.
        new_bits: draws 64 random bits for a new epoch.
        now: monotonic seconds.
        select: draws the participants of synchronous rounds.
    """

    def __init__(
        self,
        state: FederationState,
        topics: Topics,
        new_bits: Callable[[], int],
        now: float,
        select: Selector = draw_participants,
    ) -> None:
        self.state = state
        self.presence: dict[str, Presence] = {}
        self._topics = topics
        self._new_bits = new_bits
        self._select = select
        self._contents = Contents()
        self._uploads: dict[str, Assembly] = {}
        self._actions: list[Action] = []
        self._max_payload_bytes = MAX_MESSAGE_BYTES
        self._started = now
        self._changed_since = now if state.changed else None
        self._round_since = now
        self._invited_at = now

    # ------------------------------------------------------------------ the port

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take in one event; returns what to do, in order."""
        self._actions = []
        match event:
            case BusConnected(max_payload_bytes):
                self._max_payload_bytes = max_payload_bytes
                self._announce()
            case MessageArrived():
                self._take(event, now)
            case OperatorOrder(order, agent):
                self._obey(order, agent)
            case TimerDue():
                pass
        self._settle(now)
        return self._actions

    def next_timer(self) -> float | None:
        """When ``TimerDue`` is wanted at the latest."""
        schedule = self.state.terms.definition.schedule
        if schedule.kind == "sync":
            if self.state.round is None:
                return None
            deadline = self._round_since + schedule.deadline_s
            return min(deadline, self._invited_at + INVITE_AGAIN_S)
        if self._changed_since is None or not release_is_allowed(self.state):
            return None
        return self._changed_since + schedule.release_after_s

    def seen_at(self, agent: str) -> float:
        """Monotonic seconds; members not heard of since the start count from there."""
        known = self.presence.get(agent)
        return known.last_seen if known else self._started

    # ------------------------------------------------------------------ messages

    def _take(self, event: MessageArrived, now: float) -> None:
        try:
            address = self._topics.parse(event.topic)
        except PeerError as error:
            self._actions.append(Note(str(error), warning=True))
            return
        try:
            envelope = wire.decode(event.payload, address.kind)
            self._dispatch(address, envelope, event, now)
        except PeerError as error:
            self._presence(address.agent, now).rejected += 1
            self._note(f"refused a {address.kind} message: {error}", address.agent, warning=True)

    def _dispatch(
        self, address: Address, envelope: wire.Envelope, event: MessageArrived, now: float
    ) -> None:
        agent, message = address.agent, envelope.message
        if isinstance(message, Manifest):
            self._take_manifest(message, retained=event.retained)
            return
        presence = self._presence(agent, now)
        match message:
            case Status():
                presence.online, presence.software = message.online, message.software
                return
            case Hello():
                self._take_hello(agent, message, envelope.digest)
            case Update():
                self._take_update(agent, message, envelope, now)
            case Offer():
                self._take_offer(agent, message.content)
            case Chunk():
                self._take_chunk(agent, message, envelope.tail, now)
            case Need():
                self._take_need(agent, message, envelope.digest)
            case Bye():
                self._take_bye(agent, message, envelope.digest)
        presence.online, presence.last_seen = True, now

    def _take_manifest(self, manifest: Manifest, *, retained: bool) -> None:
        name = manifest.offer.name
        reason = newer_past_of_model(self.state, name)
        if reason is None:
            return
        if retained:
            self._renew(reason, name.epoch)
        else:
            self._note(f"another coordinator serves this federation: {reason}", warning=True)

    def _take_hello(self, agent: str, hello: Hello, digest: int) -> None:
        reason = newer_past_of_hello(self.state, agent, hello)
        if reason is not None and agent not in self.state.barred and hello.epoch is not None:
            newest = hello.newest.epoch if hello.newest else hello.epoch
            self._renew(reason, max(hello.epoch, newest))
        match reconcile(self.state, agent, hello):
            case Reconciliation.BARRED:
                self._reply(agent, Verdict(digest, Code.REMOVED, "removed by the operator"))
            case Reconciliation.NEW:
                past = max(self.state.retired.get(agent, 0), hello.incarnation)
                self._record(Joined(agent, past + 1))
                self._note("joined", agent)
                self._welcome(agent)
            case Reconciliation.FORKED:
                past = max(self.state.members[agent].incarnation, hello.incarnation)
                self._record(IncarnationRaised(agent, past + 1))
                self._note(f"could not be reconciled, is now incarnation {past + 1}", agent)
                self._welcome(agent)
            case Reconciliation.AGREES:
                self._reply(agent, self._verdict_on_outstanding(agent, hello), offer=True)
                self._invite_if_drawn(agent)

    def _verdict_on_outstanding(self, agent: str, hello: Hello) -> Verdict | None:
        outstanding = hello.outstanding
        if outstanding is None or outstanding != self.state.members[agent].last_digest:
            return None
        return Verdict(outstanding, Code.APPLIED, "")

    def _take_update(self, agent: str, update: Update, envelope: wire.Envelope, now: float) -> None:
        reason = newer_past_of_update(self.state, agent, update)
        if reason is not None and agent in self.state.members:
            self._renew(reason, update.base.epoch)
        code, why = judge_update(self.state, agent, update, envelope.digest, envelope.tail)
        member = self.state.members.get(agent)
        if code is Code.APPLIED and member is not None and member.last_digest != envelope.digest:
            self._record(
                Applied(
                    agent=agent,
                    incarnation=update.incarnation,
                    seq=update.seq,
                    digest=envelope.digest,
                    base_k=update.base.k,
                    weight=update.weight,
                    score=update.score,
                    change=bytes(envelope.tail),
                )
            )
        elif code is Code.REJECTED:
            self._presence(agent, now).rejected += 1
            self._note(f"update {update.seq} rejected: {why}", agent, warning=True)
        self._reply(agent, Verdict(envelope.digest, code, why[:300]) if code else None)

    def _take_offer(self, agent: str, content: Content) -> None:
        if agent not in self.state.members:
            self._reply(agent, Verdict(0, Code.UNKNOWN_MEMBER, "say hello"))
            return
        limit = UPDATE_ENVELOPE_BYTES + 1 + 4 * self.state.terms.lattice.size
        if content.size > limit:
            raise PeerError(f"offers {content.size} bytes, an update has at most {limit}")
        upload = self._uploads.get(agent)
        if upload is None or upload.content != content:
            upload = self._uploads[agent] = Assembly(content)
        self._send(agent, upload.next_need())

    def _take_chunk(self, agent: str, chunk: Chunk, piece: memoryview, now: float) -> None:
        upload = self._uploads.get(agent)
        if upload is None or upload.content.digest != chunk.digest:
            return
        window_complete = upload.accept(chunk.offset, piece)
        whole = upload.finished()
        if whole is not None:
            del self._uploads[agent]
            envelope = wire.decode(whole, Kind.UPDATE)
            if isinstance(envelope.message, Update):
                self._take_update(agent, envelope.message, envelope, now)
        elif window_complete:
            self._send(agent, upload.next_need())

    def _take_need(self, agent: str, need: Need, digest: int) -> None:
        member = self.state.members.get(agent)
        if member is None:
            self._reply(agent, Verdict(digest, Code.UNKNOWN_MEMBER, "say hello"))
            return
        found = self._contents.model(self.state, need.digest)
        if found is not None:
            k, content = found
            if member.pinned is None or k > member.pinned:
                self._record(Served(agent, k))
        else:
            other = self._contents.other(self.state, agent, need.digest)
            if other is None:
                self._reply(agent, None, offer=True)
                return
            content = other
        for chunk, piece in chunks(content, need.digest, need, self._max_payload_bytes):
            self._send(agent, chunk, piece)

    def _take_bye(self, agent: str, bye: Bye, digest: int) -> None:
        member = self.state.members.get(agent)
        if member is not None and bye.incarnation != member.incarnation:
            self._reply(agent, Verdict(digest, Code.OLD_INCARNATION, "say hello"))
            return
        if member is not None:
            self._record(Left(agent, barred=False))
            self._note("left", agent)
        self._reply(agent, Verdict(digest, Code.LEFT, ""))

    # ------------------------------------------------------------------ the operator

    def _obey(self, order: Order, agent: str) -> None:
        if order is Order.ADMIT:
            self._record(Admitted(agent))
            self._note("may join again", agent)
            return
        self._record(Left(agent, barred=True))
        self._uploads.pop(agent, None)
        self._note("removed by the operator", agent)
        self._reply(agent, Verdict(0, Code.REMOVED, "removed by the operator"))

    def start_epoch(self, definition: bytes, reason: str, now: float) -> list[Action]:
        """Put edited settings in force; the caller has checked that the structure is the same."""
        self._actions = []
        self._renew(reason, self.state.epoch, definition)
        self._settle(now)
        return self._actions

    # ------------------------------------------------------------------ releases

    def _settle(self, now: float) -> None:
        """Release what is due and open the round that is due."""
        if self.state.changed and self._changed_since is None:
            self._changed_since = now
        if self._release_is_due(now):
            model = self.state.next_model()
            self._record(Released(self.state.k + 1, checksum(model)))
            self._changed_since = None
            self._announce()
        if round_can_open(self.state):
            self._open_round(0, now)
        elif self.state.round is not None and self.state.terms.definition.schedule.kind == "sync":
            self._tend_round(now)

    def _release_is_due(self, now: float) -> bool:
        state, schedule = self.state, self.state.terms.definition.schedule
        if not release_is_allowed(state):
            return False
        if schedule.kind == "sync":
            late = now >= self._round_since + schedule.deadline_s
            opened = state.round
            return round_is_answered(state) or (
                late and opened is not None and bool(opened.answered)
            )
        live = sum(now - self.seen_at(a) <= schedule.live_within_s for a in state.members)
        if len(state.arrived) >= arrivals_wanted(state, live):
            return True
        since = self._changed_since
        return since is not None and now >= since + schedule.release_after_s

    def _open_round(self, attempt: int, now: float) -> None:
        schedule = self.state.terms.definition.schedule
        members = sorted(self.state.members)
        drawn = self._select(schedule.seed, self.state.k, attempt, members, schedule.participation)
        self._record(RoundOpened(self.state.k, attempt, drawn))
        self._round_since = self._invited_at = now
        for agent in drawn:
            self._invite_if_drawn(agent)

    def _tend_round(self, now: float) -> None:
        opened, schedule = self.state.round, self.state.terms.definition.schedule
        if opened is None:
            return
        nobody_left = not opened.drawn and bool(self.state.members)
        if nobody_left or now >= self._round_since + schedule.deadline_s:
            self._open_round(opened.attempt + 1, now)
        elif now >= self._invited_at + INVITE_AGAIN_S:
            self._invited_at = now
            for agent in opened.drawn:
                self._invite_if_drawn(agent)

    def _invite_if_drawn(self, agent: str) -> None:
        opened = self.state.round
        if opened is None or agent not in opened.drawn or agent in opened.answered:
            return
        name = ModelName(self.state.epoch, self.state.k, checksum(self.state.model))
        deadline_s = self.state.terms.definition.schedule.deadline_s
        self._send(agent, Start(model=name, deadline_s=deadline_s))

    # ------------------------------------------------------------------ small tools

    def _renew(self, reason: str, seen: Epoch, definition: bytes | None = None) -> None:
        counter = max(self.state.epoch.counter, seen.counter) + 1
        self._record(
            EpochStarted(
                epoch=Epoch(counter, self._new_bits()),
                k=self.state.k + 1,
                definition=definition or self.state.terms.encoded,
                reason=reason,
            )
        )
        self._changed_since = None
        self._uploads.clear()
        self._note(f"epoch {counter} begins: {reason}", warning=True)
        self._announce()

    def _record(self, record: Record) -> None:
        self.state.apply(record)
        self._actions.append(Persist(record))

    def _announce(self) -> None:
        payload = wire.encode(Manifest(offer=self._contents.offer(self.state)))
        self._actions.append(Publish(self._topics.manifest, payload, retain=True))

    def _welcome(self, agent: str) -> None:
        member = self.state.members[agent]
        self._send(
            agent,
            Welcome(
                epoch=self.state.epoch,
                incarnation=member.incarnation,
                dual_checksum=checksum(member.contribution.dual),
                dual=self._contents.dual(self.state, agent),
                offer=self._contents.offer(self.state),
            ),
        )
        self._invite_if_drawn(agent)

    def _reply(self, agent: str, verdict: Verdict | None, *, offer: bool = False) -> None:
        member = self.state.members.get(agent)
        self._send(
            agent,
            State(
                epoch=self.state.epoch,
                incarnation=member.incarnation if member else 0,
                last_seq=member.last_seq if member else 0,
                last_digest=member.last_digest if member else None,
                dual_checksum=checksum(member.contribution.dual) if member else 0,
                verdict=verdict,
                offer=self._contents.offer(self.state) if offer else None,
            ),
        )

    def _send(self, agent: str, message: Message, tail: bytes = b"") -> None:
        topic = self._topics.down(agent, KIND_OF_MESSAGE[type(message)])
        self._actions.append(Publish(topic, wire.encode(message, tail)))

    def _presence(self, agent: str, now: float) -> Presence:
        return self.presence.setdefault(agent, Presence(now))

    def _note(self, text: str, agent: str | None = None, *, warning: bool = False) -> None:
        self._actions.append(Note(text, agent, warning))
