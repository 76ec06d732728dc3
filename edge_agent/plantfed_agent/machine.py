"""The agent machine: one agent's side of the protocol, pure.

Time comes in as ``now`` (monotonic seconds), and everything it wants done goes out as actions, in
the order persist, publish.  Its two halves run side by side: :class:`Membership` is how it stands
with the coordinator, :class:`Rounds` what it works on; both write to one :class:`Desk`.
"""

from plantfed_agent.budget import LinkBudget, LinkLimits
from plantfed_agent.desk import Desk
from plantfed_agent.downloads import Downloads
from plantfed_agent.events import (
    Action,
    BusConnected,
    BusDisconnected,
    Event,
    HalfFetched,
    LaneAnswered,
    LeaveRequested,
    LinkRead,
    MessageArrived,
    RoundDone,
    RoundFailed,
    RowsChanged,
    TimerDue,
)
from plantfed_agent.membership import Link, Membership
from plantfed_agent.pace import Pace
from plantfed_agent.rounds import Rounds, Work
from plantfed_agent.state import AgentState
from plantfed_agent.upload import Upload
from plantfed_shared import wire
from plantfed_shared.bus.port import MAX_MESSAGE_BYTES
from plantfed_shared.errors import PeerError
from plantfed_shared.messages import Chunk, Group, Manifest, Need, Start, State, Welcome
from plantfed_shared.throttle import Throttle
from plantfed_shared.topics import EVERYBODY, Topics

IGNORED_LINE_EVERY_S = 10.0
"""Of a flood of garbage some log lines are enough."""


class AgentMachine:
    """The agent's side of the protocol.

    Args:
        agent: its id.
        topics: of the federation.
        state: read from disk.
        pace: timers and limits.
        software: version, told to the coordinator.
        report_score: whether updates carry the score of the machine's own model.
        limits: of its link.
        half: fetched before the start.
        artefacts: digests of the compiled models that are on disk.
    """

    def __init__(
        self,
        agent: str,
        topics: Topics,
        state: AgentState,
        pace: Pace,
        software: str,
        *,
        report_score: bool = True,
        limits: LinkLimits | None = None,
        half: HalfFetched | None = None,
        artefacts: frozenset[bytes] = frozenset(),
    ) -> None:
        self._desk = Desk(agent, topics, state, pace, limits)
        self._desk.artefacts = artefacts
        self._membership = Membership(self._desk, software)
        downloads = Downloads(self._desk, self._membership, half)
        self._ignored = Throttle(IGNORED_LINE_EVERY_S)
        self._upload = Upload(self._desk, downloads)
        self._rounds = Rounds(
            self._desk, self._membership, downloads, self._upload, report_score=report_score
        )

    @property
    def state(self) -> AgentState:
        """The durable state as it is now."""
        return self._desk.state

    @property
    def link(self) -> Link:
        """How we stand with the coordinator."""
        return self._membership.link

    @property
    def budget(self) -> LinkBudget:
        """What may be done with the link now."""
        return self._desk.link

    @property
    def work(self) -> Work:
        """What we are busy with."""
        return self._rounds.work

    @property
    def resting(self) -> bool:
        """Whether nothing is to be learnt until rows or settings change."""
        return self._rounds.resting

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take in one event; returns what to do: persist first, everything else after it."""
        self._desk.link.refused = False
        match event:
            case BusConnected(max_payload_bytes):
                self._desk.max_payload_bytes = self._desk.link.largest_payload(max_payload_bytes)
                self._membership.connected(now)
                self._rounds.connected(now)
            case BusDisconnected():
                self._membership.disconnected()
            case MessageArrived():
                self._take(event, now)
            case LaneAnswered(topic, allowed):
                self._rounds.take_lane(topic, now, allowed=allowed)
            case RoundDone(ticket, outcome):
                self._rounds.take_outcome(ticket, outcome, now)
            case RoundFailed(ticket, error):
                self._rounds.take_failure(ticket, error, now)
            case RowsChanged(fingerprint):
                self._rounds.take_rows(fingerprint)
            case LinkRead():
                self._desk.link.take(event, now)
            case LeaveRequested():
                self._membership.leave(now)
            case TimerDue():
                self._membership.take_timers(now, waits=self._rounds.waits)
                self._rounds.take_timers(now)
        self._rounds.advance(now)
        self._rounds.tidy()
        return self._desk.take_actions()

    def next_timer(self) -> float | None:
        """When ``TimerDue`` is wanted at the latest."""
        hello = self._membership.next_timer(waits=self._rounds.waits)
        rounds = self._rounds.next_timer()
        if hello is None or rounds is None:
            return rounds if hello is None else hello
        return min(hello, rounds)

    def _take(self, event: MessageArrived, now: float) -> None:
        try:
            address = self._desk.topics.parse(event.topic)
            is_ours = address.agent == self._desk.agent and address.direction == "down"
            if not is_ours and address.agent != EVERYBODY:
                raise PeerError("not for this agent", where=event.topic[:200])
            if len(event.payload) > MAX_MESSAGE_BYTES:
                raise PeerError(f"{len(event.payload)} bytes are too many for a message")
            envelope = wire.decode(event.payload, address.kind)
            if self._membership.link is not Link.OFFLINE:
                self._dispatch(envelope, now, retained=event.retained)
        except PeerError as error:
            left_out = self._ignored.left_out("", now)
            if left_out is not None:
                more = f" (and {left_out} more before it)" if left_out else ""
                self._desk.note(f"ignored a message: {error}{more}", warning=True)

    def _dispatch(self, envelope: wire.Envelope, now: float, *, retained: bool) -> None:
        match envelope.message:
            case Manifest(offer=offer):
                self._membership.take_manifest(offer, now, retained=retained)
            case State() as message:
                was_joined = self._membership.link is Link.JOINED
                outstanding = self._desk.state.outstanding
                self._membership.take_state(message, now)
                bare = message.offer is not None and message.verdict is None
                if bare and was_joined and not self._membership.expects_another_answer():
                    self._rounds.content_may_be_gone(now)
                if message.verdict is not None and self._desk.state.outstanding is not outstanding:
                    self._rounds.take_verdict(message.verdict.code)
            case Welcome() as message:
                self._membership.take_welcome(message, now)
            case Start() as message:
                self._rounds.take_invitation(message, now)
            case Group() as message:
                self._rounds.take_group(message, now)
            case Chunk() as message:
                self._rounds.take_chunk(message, envelope.tail, now)
            case Need() as message:
                self._upload.serve(message, envelope.digest, now)
        if not isinstance(envelope.message, Manifest):
            self._membership.heard(envelope.message, now)
