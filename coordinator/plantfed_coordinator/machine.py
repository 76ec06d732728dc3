"""The federation machine: what arrives becomes journal records and answers.

Pure: time comes in as ``now`` (monotonic seconds), randomness as ``new_bits``, and everything it
wants done goes out as actions, in the order persist, publish.  State changes only through
``FederationState.apply`` of a record that is persisted with it.

What each kind of message leads to:

    hello    unknown -> Joined, WELCOME; agrees -> STATE; else -> IncarnationRaised, WELCOME
    update   judged in the order of ``admission.judge_update``; Applied -> STATE, perhaps Released
    offer    an update too long for one message: NEED until it is complete, then as update
    want     CHUNKs of the newest model, or standing until there is a newer one
    need     CHUNKs of a kept model, the definition or the member's own dual
    part     CHUNKs of a kept model on a lane, for all who listen to it
    bye      Left -> STATE(left)
    model    retained: our own, or one that shows a newer past -> EpochStarted

Before any of that a message passes rate, quarantine, size, envelope and structure; what does not is
the affair of :mod:`guard`.
"""

from collections.abc import Callable, Mapping

from plantfed_coordinator.admission import (
    judge_update,
    newer_past_of_model,
    newer_past_of_update,
)
from plantfed_coordinator.desk import Desk, Presence
from plantfed_coordinator.events import (
    Action,
    BusConnected,
    Event,
    MessageArrived,
    OperatorOrder,
    TimerDue,
)
from plantfed_coordinator.guard import STRANGERS, Guard
from plantfed_coordinator.limits import Limits
from plantfed_coordinator.membership import Membership
from plantfed_coordinator.records import Applied
from plantfed_coordinator.releases import Releases, Selector, draw_participants
from plantfed_coordinator.serving import Serving
from plantfed_coordinator.state import FederationState
from plantfed_coordinator.uploads import Uploads
from plantfed_shared import wire
from plantfed_shared.bus.port import MAX_MESSAGE_BYTES
from plantfed_shared.codec import largest_encoding_bytes
from plantfed_shared.errors import DamagedError, PeerError
from plantfed_shared.messages import (
    Bye,
    Chunk,
    Code,
    Content,
    Hello,
    Manifest,
    Need,
    Offer,
    Part,
    Status,
    Update,
    Verdict,
    Want,
)
from plantfed_shared.topics import EVERYBODY, Address, Kind, Topics
from plantfed_shared.transfer import Blob

UPDATE_ENVELOPE_BYTES = 256
"""More than any UPDATE has besides its change."""


_LANE = (EVERYBODY, Kind.CHUNK)


class FederationMachine:
    """The coordinator's side of the protocol.

    Args:
        state: replayed from the journal.
        topics: of the federation.
        new_bits: draws 64 random bits for a new epoch.
        now: monotonic seconds.
        select: draws the participants of synchronous rounds.
        limits: what is put up with of one agent.
        quarantined: agents that are not listened to, and why.
        artefact: of a compiled model, served to who asks for it.
    """

    def __init__(
        self,
        state: FederationState,
        topics: Topics,
        new_bits: Callable[[], int],
        now: float,
        select: Selector = draw_participants,
        limits: Limits | None = None,
        quarantined: Mapping[str, str] | None = None,
        artefact: Blob | None = None,
    ) -> None:
        self._desk = Desk(state, topics, new_bits, now)
        self._desk.contents.artefact = artefact
        self._desk.quarantined.update(quarantined or {})
        self._guard = Guard(self._desk, limits or Limits())
        self._releases = Releases(self._desk, select, now)
        self._serving = Serving(self._desk)
        self._uploads = Uploads(self._desk)
        self._membership = Membership(
            self._desk, self._guard, self._releases, self._serving, self._uploads
        )

    @property
    def state(self) -> FederationState:
        """As it is after all records asked for so far."""
        return self._desk.state

    @property
    def presence(self) -> dict[str, Presence]:
        """Of every agent heard of since the start."""
        return self._desk.presence

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take in one event; returns what to do, in order."""
        match event:
            case BusConnected(max_payload_bytes):
                self._desk.max_payload_bytes = max_payload_bytes
                self._serving.connected()
                self._releases.announce(now)
            case MessageArrived():
                self._take(event, now)
            case OperatorOrder(order, agent):
                self._membership.obey(order, agent)
            case TimerDue():
                pass
        self._uploads.settle(now)
        self._releases.settle(now)
        self._serving.settle(now)
        self._guard.settle(now)
        return self._desk.take_actions()

    def next_timer(self) -> float:
        """When ``TimerDue`` is wanted at the latest."""
        timers = self._releases, self._uploads, self._serving, self._guard
        return min(part.next_timer() for part in timers)

    # ------------------------------------------------------------------ messages

    def _take(self, event: MessageArrived, now: float) -> None:
        try:
            address = self._desk.topics.parse(event.topic)
            if address.direction == "down" or (address.agent, address.kind) == _LANE:
                raise PeerError("not for the coordinator", where=event.topic[:200])
        except PeerError as error:
            self._guard.refuse(STRANGERS, str(error), now, is_offence=False)
            return
        agent, digest = address.agent, wire.envelope_digest(event.payload)
        if agent != EVERYBODY and not self._guard.listens_to(agent, digest, now):
            return
        try:
            if len(event.payload) > MAX_MESSAGE_BYTES:
                raise PeerError(f"{len(event.payload)} bytes are too many for a message")
            self._dispatch(address, wire.decode(event.payload, address.kind), event, now)
        except DamagedError as error:
            self._refuse(address, str(error), now, is_offence=False)
        except PeerError as error:
            self._refuse(address, str(error), now, is_offence=True)
            if address.direction == "up":
                self._desk.reply(agent, Verdict(digest, Code.REJECTED, str(error)[:300]))

    def _refuse(self, address: Address, why: str, now: float, *, is_offence: bool) -> None:
        what = f"refused a message ({address.kind}): {why}"
        self._guard.refuse(address.agent, what, now, is_offence=is_offence)

    def _dispatch(
        self, address: Address, envelope: wire.Envelope, event: MessageArrived, now: float
    ) -> None:
        agent, message = address.agent, envelope.message
        if not isinstance(message, Manifest | Hello | Status) and not self._is_member(agent):
            self._guard.set_aside(agent, f"{address.kind} of no member", now)
        match message:
            case Manifest():
                self._take_manifest(message, now, retained=event.retained)
                return
            case Hello():
                self._membership.take_hello(agent, message, envelope.digest, now)
            case Update():
                self._take_update(agent, message, envelope, now)
            case Offer():
                self._take_offer(agent, message.content, now)
            case Chunk():
                self._take_chunk(agent, message, envelope.tail, now)
            case Want():
                self._serving.take_want(agent, message, envelope.digest, now)
            case Need():
                self._serving.take_need(agent, message, envelope.digest, now)
            case Part():
                self._serving.take_part(agent, message, envelope.digest, now)
            case Bye():
                self._membership.take_bye(agent, message, envelope.digest, now)
        if not self._is_member(agent):
            return  # only members are remembered: anybody can make up ids
        if isinstance(message, Status):
            presence = self._desk.presence_of(agent, now)
            presence.online, presence.software = message.online, message.software
            presence.has_come = message.online
            if not message.online:
                self._serving.is_away()
        else:
            greets = isinstance(message, Hello)
            presence = self._desk.hear_of(agent, now, greets=greets)
            if isinstance(message, Hello):
                presence.software = message.software

    def _is_member(self, agent: str) -> bool:
        return agent in self._desk.state.members

    def _take_manifest(self, manifest: Manifest, now: float, *, retained: bool) -> None:
        seen = newer_past_of_model(self._desk.state, manifest.offer.name)
        if seen is None:
            return
        if not retained:
            what = f"another coordinator serves this federation: {seen.reason}"
            self._guard.refuse(STRANGERS, what, now, is_offence=False)
        elif self._guard.may_begin_epoch(STRANGERS, now):
            self._membership.renew(*seen)

    def _take_update(self, agent: str, update: Update, envelope: wire.Envelope, now: float) -> None:
        seen = newer_past_of_update(self._desk.state, agent, update)
        is_member = self._is_member(agent)
        if seen is not None and is_member and self._guard.may_begin_epoch(agent, now):
            self._membership.renew(*seen)
        size = self._desk.state.terms.lattice.size
        if self._is_next(agent, update) and not self._guard.may_work(agent, size, now):
            return
        change = bytes(envelope.tail)
        judgement = judge_update(self._desk.state, agent, update, envelope.digest, change)
        code, why, is_new, is_offence = judgement
        if is_new:
            self._desk.record(
                Applied(
                    agent=agent,
                    incarnation=update.incarnation,
                    seq=update.seq,
                    digest=envelope.digest,
                    base_k=update.base.k,
                    weight=update.weight,
                    score=update.score,
                    change=change,
                )
            )
            self._serving.updated(agent, now, goes_on=update.want > 0)
        elif code is Code.REJECTED:
            what = f"update {update.seq} rejected: {why}"
            self._guard.refuse(agent, what, now, is_offence=is_offence)
        elif is_member:
            what = f"update {update.seq} changes nothing: {code or 'old'} {why}"
            self._guard.set_aside(agent, what, now)
        verdict = Verdict(envelope.digest, code, why[:300]) if code else None
        # who sends it twice may have missed more than the verdict
        self._desk.reply(agent, verdict, offer=not is_new)
        # and a copy that the broker gives us after an outage may be all that asks for the model
        if update.want and (is_new or code is Code.APPLIED):
            want = Want(have=update.base, window=update.want, others=update.others)
            self._serving.take_want(agent, want, envelope.digest, now)

    def _is_next(self, agent: str, update: Update) -> bool:
        """Whether it has to be looked into; any other is told by its number."""
        member = self._desk.state.members.get(agent)
        return member is not None and update.seq == member.last_seq + 1

    def _take_offer(self, agent: str, content: Content, now: float) -> None:
        if agent not in self._desk.state.members:
            self._desk.reply(agent, Verdict(0, Code.UNKNOWN_MEMBER, "say hello"))
            return
        lattice = self._desk.state.terms.lattice
        limit = UPDATE_ENVELOPE_BYTES + largest_encoding_bytes(lattice)
        if content.size > limit:
            raise PeerError(f"offers {content.size} bytes, an update has at most {limit}")
        again = self._uploads.applied(agent, content)
        if again is None:
            self._uploads.take_offer(agent, content, now)
        elif isinstance(again.message, Update):
            self._take_update(agent, again.message, again, now)

    def _take_chunk(self, agent: str, chunk: Chunk, piece: memoryview, now: float) -> None:
        if not self._uploads.waits_for(agent, chunk, len(piece)):
            if self._is_member(agent):
                self._guard.set_aside(agent, "chunk that nobody waits for", now)
            return
        self._guard.was_asked_for(agent, len(piece), now)
        whole = self._uploads.take_chunk(agent, chunk, piece, now)
        if whole is not None:
            self._take_pulled(agent, chunk.content, whole, now)

    def _take_pulled(self, agent: str, content: Content, whole: bytes, now: float) -> None:
        envelope = wire.decode(whole, Kind.UPDATE)
        if not isinstance(envelope.message, Update):
            return
        self._take_update(agent, envelope.message, envelope, now)
        member = self._desk.state.members.get(agent)
        if member is not None and member.last_digest == envelope.digest:
            self._uploads.was_applied(agent, content, envelope)

    def start_epoch(self, definition: bytes, reason: str) -> list[Action]:
        """Put edited settings in force; the caller has checked that the structure is the same."""
        self._membership.renew(reason, self.state.epoch, definition)
        return self._desk.take_actions()
