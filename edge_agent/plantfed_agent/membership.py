"""How the agent stands with the coordinator: joining, agreeing, leaving.

OFFLINE -> JOINING   bus connected: HELLO is sent, and again until it is answered
JOINING -> JOINED    a STATE that agrees with what is on disk, or a WELCOME
JOINED  -> JOINING   a new epoch, a model that goes back in time, a sign of disagreement
JOINED  -> JOINED    HELLO, rarely, where nothing is heard: the coordinator may not know us any more
any     -> OFFLINE   bus disconnected
"""

from enum import StrEnum
from math import inf

from plantfed_agent.agreement import (
    Agreement,
    Standing,
    accepts_welcome,
    agreement,
    dual_after_outstanding,
    standing_of_epoch,
    standing_of_model,
)
from plantfed_agent.desk import Desk
from plantfed_agent.events import Stop
from plantfed_agent.pace import HELLO_LONGEST_S, HELLO_WHEN_REMOVED_S
from plantfed_agent.serving_model import between_epochs
from plantfed_agent.state import without_outstanding
from plantfed_shared import wire
from plantfed_shared.codec import largest_encoding_bytes
from plantfed_shared.errors import BrokerRefused, PeerError
from plantfed_shared.lattice import Integers
from plantfed_shared.messages import (
    Bye,
    Code,
    Hello,
    Message,
    ModelOffer,
    State,
    Status,
    Verdict,
    Welcome,
)

MAX_DISAGREEMENTS = 3
"""Answers to HELLO that don't fit the state on disk before the agent begins anew."""


MAX_ECHOES = 4
"""Answers that are expected after the first, where HELLO was said again: some may be lost."""


_NOT_WANTED = {
    Code.REMOVED: "the operator has removed this agent from the federation",
    Code.QUARANTINED: "the coordinator does not listen to this agent",
}


_DISOWNED = (Code.GAP, Code.OLD_INCARNATION, Code.UNKNOWN_MEMBER, Code.LEFT)
"""What the coordinator says to who is no member of it, or not the one it knows; LEFT answers a BYE
from before a restart that was on its way for long."""


class Link(StrEnum):
    """How we stand with the coordinator."""

    OFFLINE = "offline"
    JOINING = "joining"
    JOINED = "joined"


class Membership:
    """The agent's side of HELLO, WELCOME, STATE and BYE.

    Args:
        desk: of the agent.
        software: version, told to the coordinator.

    Attributes:
        link: how we stand with the coordinator.
        welcome: accepted, while its dual is still being fetched.
        leaving: for good.
        welcomes: accepted since the start; what was trained under an earlier one is void.
    """

    def __init__(self, desk: Desk, software: str) -> None:
        self.link = Link.OFFLINE
        self.welcome: Welcome | None = None
        self.leaving = False
        self.welcomes = 0
        self._desk = desk
        self._software = software
        self._disagreements = 0
        self._removed = False
        self._hellos = 0
        self._hellos_since_welcome = 0
        self._proof: int | None = None
        self._asks = False
        self._given_since: int | None = None

    def connected(self, now: float) -> None:
        """The bus is connected."""
        self._desk.send(Status(online=True, software=self._software))
        self._join(now)

    def disconnected(self) -> None:
        """The bus is no longer connected."""
        self.link = Link.OFFLINE
        for timer in (self._desk.pace.hello, self._desk.pace.silence, self._desk.pace.resend):
            timer.stop()

    def leave(self, now: float) -> None:
        """Leave the federation for good."""
        self.leaving = True
        if self.link is not Link.OFFLINE:
            self._join(now)

    def take_timers(self, now: float, *, waits: bool) -> None:
        """Say hello again if it is time.

        Args:
            now: monotonic seconds.
            waits: nothing else will be said before the coordinator says something.
        """
        pace = self._desk.pace
        if self.link is Link.JOINING and pace.hello.is_due(now):
            pace.hello.again(now)
            self._say_hello()
        elif self.link is Link.JOINED and waits and pace.silence.is_due(now):
            pace.silence.again(now)
            self._asks = True
            self._hellos = max(self._hellos, 1)  # the first of all was answered by the join
            self._say_hello()

    def next_timer(self, *, waits: bool) -> float | None:
        """When a hello is due by time alone; as for :meth:`take_timers`."""
        if self.link is Link.JOINED:
            return self._desk.pace.silence.due if waits else None
        return self._desk.pace.hello.due

    def heard(self, message: Message, now: float) -> None:
        """The coordinator has said something to us alone, and it was dealt with.

        Its answer to a hello is no reason to ask sooner again: at rest nothing else comes.
        """
        if self.link is not Link.JOINED:
            return
        self._asks = False
        is_answer = isinstance(message, State) and message.verdict is None
        if not is_answer or self._desk.pace.silence.due is None:
            self._desk.pace.silence.start(now)

    def take_manifest(self, offer: ModelOffer, now: float, *, retained: bool) -> None:
        """A model is announced to all, now or, where it is retained, some time ago."""
        self.take_offer(offer, now)
        if not retained and self.link is Link.JOINING and self.welcome is None:
            # a coordinator that has just come back did not hear our hello
            self._hurry_hello(now)

    def take_offer(self, offer: ModelOffer, now: float) -> None:
        """A model is announced, in a manifest or by a STATE."""
        if self.welcome is not None and offer.name.epoch != self.welcome.epoch:
            if offer.name.epoch.counter > self.welcome.epoch.counter:
                self._join(now)  # what we were welcomed to is over
            return
        if standing_of_epoch(self._desk.state, offer.name.epoch) is Standing.NEWER:
            self._desk.offer = offer
            self._rejoin(now)
            if self.link is Link.JOINING and self.welcome is None:
                # a coordinator that has just come up did not hear our hello
                self._hurry_hello(now)
            return
        match standing_of_model(self._desk.state, offer.name):
            case Standing.SAME | Standing.NEWER:
                self._desk.offer = offer
                if offer.name != self._desk.state.newest:
                    self._desk.change(newest=offer.name)
            case Standing.OLDER | Standing.TWIN:
                # our hello tells the coordinator that it has lost its past, if it has
                self._rejoin(now)

    def take_state(self, message: State, now: float) -> None:
        """The coordinator says what it holds of us."""
        self._doubt_welcome(message)
        code = message.verdict.code if message.verdict else None
        if self.leaving:
            self._take_answer_to_bye(message, code, now)
        elif code in _NOT_WANTED and self.link is Link.JOINED:
            self._join(now)  # it may be an old one: only the answer to a hello counts
        elif message.verdict is not None and code in _NOT_WANTED:
            self._removed = True
            self._desk.pace.hello.start(now, at_least_s=HELLO_WHEN_REMOVED_S)
            why = f"{_NOT_WANTED[code]} ({message.verdict.reason})"
            self._desk.note(why, warning=True)
        elif standing_of_epoch(self._desk.state, message.epoch) in (Standing.OLDER, Standing.TWIN):
            self._rejoin(now)
        elif message.verdict is not None and code is Code.UNPROVEN:
            self._take_doubt(message.verdict.digest, now)
        else:
            meaning = agreement(self._desk.state, message)
            if meaning is Agreement.DISAGREES:
                self._take_disagreement(message, code, now)
            else:
                self._take_agreement(message, meaning, now)

    def _doubt_welcome(self, message: State) -> None:
        """Give up a welcome of which the coordinator knows nothing when it is asked again.

        The one that gave it may be gone for good, and its journal with it: a second coordinator
        that was stopped.  A STATE from before the WELCOME may be late, so that only what comes
        after another HELLO counts.
        """
        if self.welcome is None or not self._hellos_since_welcome:
            return
        given = self.welcome.epoch, self.welcome.incarnation
        if (message.epoch, message.incarnation) != given:
            self.welcome = None

    def _take_doubt(self, number: int, now: float) -> None:
        """Our hello could be an old one: say it again with the coordinator's number, at once."""
        if self.link is Link.JOINED and self._asks:
            self._join(now, proof=number)
        elif self.link is Link.JOINING and self.welcome is None and number != self._proof:
            self._proof = number
            self._say_hello()

    def expects_another_answer(self) -> bool:
        """Whether a STATE after the join may answer a HELLO that was said again; call it for each.

        On a slow link, or after the coordinator's absence, every HELLO gets its answer in the end.
        """
        self._hellos = min(self._hellos, MAX_ECHOES + 1) - 1
        return self._hellos > 0

    def take_welcome(self, welcome: Welcome, now: float) -> None:
        """The coordinator gives us a new incarnation; its dual may have to be fetched first.

        Raises:
            PeerError: its dual is longer than any.
        """
        if self.leaving or not accepts_welcome(self._desk.state, welcome):
            return
        if welcome.dual is not None and self._desk.terms is not None:
            limit = largest_encoding_bytes(self._desk.terms.lattice)
            if welcome.dual.size > limit:
                raise PeerError(f"a dual of {welcome.dual.size} bytes; it has at most {limit}")
        self.link = Link.JOINING
        self.welcome = welcome
        self.welcomes += 1
        self._hellos_since_welcome = 0
        if not self._knows_newer(welcome.offer):
            self._desk.offer = welcome.offer
        self._desk.pace.resend.stop()
        self.wait_for_dual(now)
        if welcome.dual is None and welcome.dual_checksum == 0:
            self.finish_welcome(welcome, None)

    def wait_for_dual(self, now: float) -> None:
        """Another hello now would be given yet another incarnation."""
        self._desk.pace.hello.start(now, at_least_s=HELLO_LONGEST_S)

    def finish_welcome(self, welcome: Welcome, dual: Integers | None) -> None:
        """Begin the new incarnation with the coordinator's dual."""
        self.welcome = None
        self._desk.state = without_outstanding(self._desk.state)
        if welcome.epoch != self._desk.state.epoch:
            self._desk.state = between_epochs(self._desk.state, None)
        self._desk.change(
            epoch=welcome.epoch,
            incarnation=welcome.incarnation,
            applied_seq=0,
            dual=dual,
            earlier=None,
            newest=self._desk.offer.name if self._desk.offer else None,
            trained_on=None,
        )
        # a machine at rest has no average any more: the newest release is better than an old one
        self._desk.pace.next_refresh_at = -inf
        self._desk.note(f"welcomed as incarnation {welcome.incarnation}")
        self._joined()

    def _knows_newer(self, offer: ModelOffer) -> bool:
        """A manifest may overtake the WELCOME that was sent before it."""
        known = self._desk.offer
        if known is None or known.name.epoch != offer.name.epoch:
            return False
        return known.name.k > offer.name.k

    # ------------------------------------------------------------------ joining

    def _rejoin(self, now: float) -> None:
        if self.link is Link.JOINED:
            self._join(now)

    def _join(self, now: float, disagreements: int = 0, proof: int | None = None) -> None:
        self.link = Link.JOINING
        self.welcome = None
        self._disagreements = disagreements
        self._removed = False
        self._hellos = 0
        self._proof = proof
        self._asks = False
        self._desk.pace.silence.stop()
        self._desk.pace.resend.stop()
        self._desk.pace.hello.start(now)
        self._say_hello()

    def _hurry_hello(self, now: float) -> None:
        if not self._removed:  # else it was heard, and answered for ten minutes
            self._desk.pace.hello.hurry(now)

    def _joined(self) -> None:
        if self.link is Link.JOINING and self.welcome is None:
            self.link = Link.JOINED
            self._desk.pace.hello.stop()

    @property
    def _leaving_as(self) -> int:
        return self._given_since or self._desk.state.incarnation

    def _say_hello(self) -> None:
        state = self._desk.state
        if self.leaving:
            self._desk.send(Bye(incarnation=self._leaving_as))
            return
        # an agent whose own disk can't be brought to agree begins anew, with the coordinator's dual
        lost = self._disagreements >= MAX_DISAGREEMENTS
        outstanding = state.outstanding
        self._hellos += 1
        self._hellos_since_welcome += 1
        self._desk.send(
            Hello(
                epoch=state.epoch,
                incarnation=0 if lost else state.incarnation,
                applied_seq=state.applied_seq,
                outstanding=wire.envelope_digest(outstanding) if outstanding else None,
                dual_checksum=state.dual_checksum,
                newest=state.newest,
                software=self._software,
                proof=self._proof,
            )
        )

    # ------------------------------------------------------------------ agreeing

    def _take_agreement(self, message: State, meaning: Agreement, now: float) -> None:
        if meaning is Agreement.APPLIED and not self._settle_applied(now):
            return
        if meaning is Agreement.AGREES and message.verdict is not None:
            self._take_verdict(message.verdict, now)
        if standing_of_epoch(self._desk.state, message.epoch) is Standing.NEWER:
            if self.link is Link.JOINED:
                self._join(now)
                return
            if message.offer is None:
                return
            self._desk.change(epoch=message.epoch, newest=None)
        if message.offer is not None:
            self.take_offer(message.offer, now)
        offer = self._desk.offer
        if offer is not None and offer.name.epoch == self._desk.state.epoch == message.epoch:
            self._joined()

    def _take_disagreement(self, message: State, code: Code | None, now: float) -> None:
        """A STATE may be late: only one that is ahead of us, or refuses us, shows disagreement."""
        if self.link is Link.JOINING:
            self._disagreements += message.offer is not None
            if code is Code.UNKNOWN_MEMBER:
                self._desk.pace.hello.hurry(now)
            return
        state = self._desk.state
        ours = state.incarnation, state.applied_seq
        ahead = (message.incarnation, message.last_seq) > ours
        if ahead or code in _DISOWNED:
            self._join(now)

    def _settle_applied(self, now: float) -> bool:
        try:
            self._desk.state = dual_after_outstanding(self._desk.state)
        except ValueError as error:
            self._desk.note(f"{error}; asking for the coordinator's", warning=True)
            self._join(now, MAX_DISAGREEMENTS)
            return False
        self._desk.pace.resend.stop()
        return True

    def _take_verdict(self, verdict: Verdict, now: float) -> None:
        outstanding = self._desk.state.outstanding
        if outstanding is None or wire.envelope_digest(outstanding) != verdict.digest:
            return
        if verdict.code not in (Code.BASE_GONE, Code.REJECTED, Code.LATE):
            return
        self._desk.note(f"update not applied ({verdict.code}): {verdict.reason}", warning=True)
        self._desk.state = without_outstanding(self._desk.state)
        self._desk.pace.resend.stop()
        self._desk.change(trained_on=None)
        if verdict.code is Code.REJECTED:
            self._desk.pace.round_failed(now)

    def _take_answer_to_bye(self, message: State, code: Code | None, now: float) -> None:
        if code in (Code.LEFT, Code.REMOVED):
            self._desk.ask(Stop(None))
        elif message.verdict is not None and code is Code.QUARANTINED:
            hint = "The coordinator's operator has to release or remove it first"
            why = f"{_NOT_WANTED[code]} ({message.verdict.reason}): it has not left"
            self._desk.ask(Stop(BrokerRefused(why, hint=hint)))
        elif code is Code.OLD_INCARNATION and message.incarnation != self._leaving_as:
            # what is on the disk was never of that one, and would prove a past that never was
            self._given_since = message.incarnation
            self._join(now)
