"""What the parts of the federation machine work on together: the state, and what they ask for."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from plantfed_coordinator.contents import Contents
from plantfed_coordinator.events import Action, Audit, Note, Persist, Publish, Quarantine
from plantfed_coordinator.liveness import LiveCount
from plantfed_coordinator.records import EpochStarted, Joined, Left, Record
from plantfed_coordinator.state import FederationState
from plantfed_shared import wire
from plantfed_shared.bus.port import MAX_MESSAGE_BYTES
from plantfed_shared.messages import (
    KIND_OF_MESSAGE,
    Epoch,
    Manifest,
    Message,
    State,
    Verdict,
)
from plantfed_shared.topics import Topics


@dataclass(slots=True)
class Presence:
    """What is known of an agent's connection; not part of the journal.

    Attributes:
        last_seen: monotonic seconds of its last message.
        live_at: the same, of the last that shows that it may still answer.
        has_come: it has connected, and not said HELLO since.
        online: as its retained status or its last message says, whichever came later.
        software: its version.
        rejected: messages that did not fit the protocol or were rejected.
    """

    last_seen: float
    live_at: float
    has_come: bool = False
    online: bool = True
    software: str = ""
    rejected: int = 0


class Desk:
    """One federation's state and outbox.

    Args:
        state: replayed from the journal.
        topics: of the federation.
        new_bits: draws 64 random bits for a new epoch.
        now: monotonic seconds.

    Attributes:
        presence: of every agent heard of since the start.
        contents: what agents can fetch.
        quarantined: agents that are not listened to, and why.
        max_payload_bytes: what the broker grants.
        new_bits: draws 64 random bits.
    """

    def __init__(
        self, state: FederationState, topics: Topics, new_bits: Callable[[], int], now: float
    ) -> None:
        self.state = state
        self.topics = topics
        self.presence: dict[str, Presence] = {}
        self.contents = Contents()
        self.quarantined: dict[str, str] = {}
        self.max_payload_bytes = MAX_MESSAGE_BYTES
        self._live_count = LiveCount()
        self.new_bits = new_bits
        self._started = now
        self._actions: list[Action] = []

    def take_actions(self) -> list[Action]:
        """All that was asked for since the last time, in order."""
        actions, self._actions = self._actions, []
        return actions

    def ask(self, action: Audit | Quarantine) -> None:
        """Ask the shell for something that is no part of the federation's state."""
        self._actions.append(action)

    def record(self, record: Record) -> None:
        """Change the state by a record that is persisted."""
        self.state.apply(record)
        if isinstance(record, Joined | Left | EpochStarted):
            self._live_count.forget()
        self._actions.append(Persist(record))

    def renew(self, reason: str, seen: Epoch, definition: bytes | None = None) -> None:
        """Begin a new epoch, later than any seen, with this definition or the one in force."""
        counter = max(self.state.epoch.counter, seen.counter) + 1
        self.record(
            EpochStarted(
                epoch=Epoch(counter, self.new_bits()),
                k=self.state.k + 1,
                definition=definition or self.state.terms.encoded,
                reason=reason,
            )
        )
        self.note(f"epoch {counter} begins: {reason}", warning=True)
        self.announce()

    def announce(self) -> None:
        """Publish the manifest of the newest model."""
        payload = wire.encode(Manifest(offer=self.contents.offer(self.state)))
        self._actions.append(Publish(self.topics.manifest, payload, retain=True))

    def reply(self, agent: str, verdict: Verdict | None, *, offer: bool = False) -> None:
        """Send STATE to an agent."""
        member = self.state.members.get(agent)
        self.send(
            agent,
            State(
                epoch=self.state.epoch,
                incarnation=member.incarnation if member else 0,
                last_seq=member.last_seq if member else 0,
                last_digest=member.last_digest if member else None,
                dual_checksum=member.contribution.dual_checksum if member else 0,
                verdict=verdict,
                offer=self.contents.offer(self.state) if offer else None,
            ),
        )

    def send(self, agent: str, message: Message, tail: bytes = b"") -> None:
        """Send a message to an agent."""
        self.publish(self.topics.down(agent, KIND_OF_MESSAGE[type(message)]), message, tail)

    def publish(
        self, topic: str, message: Message, tail: bytes = b"", heard_by: Iterable[str] = ()
    ) -> None:
        """Send a message to all who listen to a topic."""
        payload = wire.encode(message, tail)
        self._actions.append(Publish(topic, payload, heard_by=tuple(sorted(heard_by))))

    def note(self, text: str, agent: str | None = None, *, warning: bool = False) -> None:
        """Tell the reader of the log."""
        self._actions.append(Note(text, agent, warning))

    def presence_of(self, agent: str, now: float) -> Presence:
        """What is known of an agent; begins now where it was not heard of."""
        known = self.presence.get(agent)
        if known is None:
            self._live_count.forget()
            known = self.presence[agent] = Presence(now, live_at=now)
        return known

    def hear_of(self, agent: str, now: float, *, greets: bool = False) -> Presence:
        """A member has said something.

        HELLO is a sign of life after STATUS only: a machine at rest says nothing else for days,
        and nobody is to wait for its update.
        """
        presence = self.presence_of(agent, now)
        presence.online, presence.last_seen = True, now
        if not greets or presence.has_come:
            if now - presence.live_at > self._live_within_s:
                self._live_count.forget()
            presence.live_at = now
        if greets:
            presence.has_come = False
        return presence

    def live_members(self, now: float) -> int:
        """Members heard of lately; those not heard of since the start count from there."""
        live_at = (self._live_at(agent) for agent in self.state.members)
        return self._live_count.count(live_at, self._live_within_s, now)

    def reachable_members(self, now: float) -> list[str]:
        """Live members that are listened to and, as far as is known, connected."""
        return [
            agent
            for agent in self.state.members
            if now - self._live_at(agent) <= self._live_within_s
            and agent not in self.quarantined
            and (agent not in self.presence or self.presence[agent].online)
        ]

    @property
    def _live_within_s(self) -> float:
        return self.state.terms.definition.schedule.live_within_s

    def _live_at(self, agent: str) -> float:
        known = self.presence.get(agent)
        return known.live_at if known else self._started
