"""The agent machine: one agent's side of the protocol, pure.

Two states side by side, because training goes on while the link is down:

    link    OFFLINE -> JOINING   bus connected: HELLO is sent, and again until it is answered
            JOINING -> JOINED    a STATE that agrees with what is on disk, or a WELCOME
            JOINED  -> JOINING   a new epoch, a verdict that shows disagreement
            any     -> OFFLINE   bus disconnected

    work    IDLE -> FETCHING     a definition, a dual or a model is wanted
            FETCHING -> IDLE     it is here, or something else is wanted
            IDLE -> TRAINING     a newer model is here, nothing is outstanding, and it is time
            TRAINING -> OUTSTANDING  the round is on disk together with its UPDATE
            OUTSTANDING -> IDLE  its verdict

``_advance`` derives from the state what is to be done next, so that nothing has to be remembered
across a restart but :class:`AgentState`.
"""

from dataclasses import replace
from enum import StrEnum

import numpy as np

from plantfed_agent.agreement import (
    Agreement,
    Standing,
    accepts_welcome,
    agreement,
    dual_after_outstanding,
    standing_of_epoch,
    standing_of_model,
)
from plantfed_agent.events import (
    Action,
    BusConnected,
    BusDisconnected,
    Event,
    LeaveRequested,
    MessageArrived,
    Note,
    Persist,
    Publish,
    RoundDone,
    RoundFailed,
    RowsChanged,
    Stop,
    TimerDue,
    Train,
)
from plantfed_agent.fetching import Fetch, Purpose
from plantfed_agent.pace import (
    HELLO_LONGEST_S,
    HELLO_WHEN_REMOVED_S,
    REFRESH_S,
    THINNEST_LINK_BYTES_PER_S,
    Pace,
)
from plantfed_agent.state import (
    AgentState,
    changed_fields,
    same_structure,
    transmission,
    without_outstanding,
)
from plantfed_agent.training import TrainingOutcome, TrainingTask
from plantfed_shared import wire
from plantfed_shared.codec import decode_dense, encode_dense
from plantfed_shared.definition import FederationDefinition, content_digest
from plantfed_shared.errors import ConfigError, DataError, PeerError, PlantfedError
from plantfed_shared.lattice import (
    Floats,
    Integers,
    Lattice,
    SaturationError,
    check_magnitude,
    checksum,
)
from plantfed_shared.messages import (
    KIND_OF_MESSAGE,
    Bye,
    Chunk,
    Code,
    Content,
    Hello,
    Manifest,
    Message,
    ModelName,
    ModelOffer,
    Need,
    Offer,
    Start,
    State,
    Status,
    Update,
    Verdict,
    Welcome,
)
from plantfed_shared.topics import EVERYBODY, Kind, Topics
from plantfed_shared.transfer import chunks

MAX_DISAGREEMENTS = 3


class Link(StrEnum):
    """How we stand with the coordinator."""

    OFFLINE = "offline"
    JOINING = "joining"
    JOINED = "joined"


class Work(StrEnum):
    """What we are busy with."""

    IDLE = "idle"
    FETCHING = "fetching"
    TRAINING = "training"
    OUTSTANDING = "outstanding"


class AgentMachine:
    """The agent's side of the protocol.

    Args:
        agent: its id.
        topics: of the federation.
        state: read from disk.
        pace: timers and limits.
        software: version, told to the coordinator.
        report_score: whether updates carry the score of the machine's own model.
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
    ) -> None:
        self.agent = agent
        self.state = state
        self.link = Link.OFFLINE
        self.offer: ModelOffer | None = None
        self._topics = topics
        self._pace = pace
        self._software = software
        self._report_score = report_score
        self._max_payload_bytes = 0
        self._fetch: Fetch | None = None
        self._welcome: Welcome | None = None
        self._invitation: Start | None = None
        self._ticket = 0
        self._base: ModelName | None = None
        self._training = False
        self._proven = False
        self._rows_unusable = False
        self._disagreements = 0
        self._leaving = False
        self._actions: list[Action] = []
        self._persisted = state
        self._definition = _parsed(state.definition)

    # ------------------------------------------------------------------ the port

    @property
    def work(self) -> Work:
        """What the agent is busy with."""
        if self._training:
            return Work.TRAINING
        if self.state.outstanding is not None:
            return Work.OUTSTANDING
        return Work.FETCHING if self._fetch is not None else Work.IDLE

    @property
    def resting(self) -> bool:
        """Whether nothing is to be learnt until rows or settings change."""
        worn_out = self.state.rounds_on_these_rows >= self._pace.max_rounds_without_new_rows
        final = self.offer is not None and self.offer.final
        return worn_out or final or self._rows_unusable

    @property
    def definition(self) -> FederationDefinition | None:
        """The definition in force, once it is known."""
        return self._definition

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take in one event; returns what to do: persist first, everything else after it."""
        self._actions = []
        match event:
            case BusConnected(max_payload_bytes):
                self._max_payload_bytes = max_payload_bytes
                self._send(Status(online=True, software=self._software))
                self._join(now)
            case BusDisconnected():
                self.link = Link.OFFLINE
                self._pace.hello.stop()
                self._pace.resend.stop()
            case MessageArrived():
                self._take(event, now)
            case RoundDone(ticket, outcome):
                self._take_outcome(ticket, outcome, now)
            case RoundFailed(ticket, error):
                self._take_failure(ticket, error, now)
            case RowsChanged(fingerprint):
                self._take_rows(fingerprint)
            case LeaveRequested():
                self._leaving = True
                if self.link is not Link.OFFLINE:
                    self._join(now)
            case TimerDue():
                self._take_timers(now)
        self._advance(now)
        return [*self._persist(), *self._actions]

    def next_timer(self) -> float | None:
        """When ``TimerDue`` is wanted at the latest."""
        due = [self._pace.hello.due, self._pace.resend.due]
        if self.link is not Link.OFFLINE and self._fetch is not None:
            due.append(self._fetch.due)
        if self.link is Link.JOINED and self.work is Work.IDLE:
            if self.resting and self._can_refresh():
                due.append(self._pace.next_refresh_at)
            elif self._can_train():
                due.append(self._pace.next_round_at)
        return min((d for d in due if d is not None), default=None)

    def _persist(self) -> list[Persist]:
        changed = changed_fields(self._persisted, self.state)
        # the newest name only guards against a model that goes back in time: not worth a write
        if not changed - {"newest"}:
            return []
        self._persisted = self.state
        return [Persist(self.state, changed)]

    # ------------------------------------------------------------------ messages

    def _take(self, event: MessageArrived, now: float) -> None:
        try:
            address = self._topics.parse(event.topic)
            envelope = wire.decode(event.payload, address.kind)
            if address.agent not in (self.agent, EVERYBODY):
                raise PeerError("not for this agent", where=event.topic)
            self._dispatch(envelope, now)
        except PeerError as error:
            self._note(f"ignored a message: {error}", warning=True)

    def _dispatch(self, envelope: wire.Envelope, now: float) -> None:
        if self.link is Link.OFFLINE:
            return
        match envelope.message:
            case Manifest(offer=offer):
                self._take_offer(offer, now)
            case State() as message:
                self._take_state(message, now)
            case Welcome() as message:
                self._take_welcome(message, now)
            case Start() as message:
                self._invitation = message
            case Chunk() as message:
                self._take_chunk(message, envelope.tail, now)
            case Need() as message:
                self._serve_outstanding(message)

    def _take_offer(self, offer: ModelOffer, now: float) -> None:
        match standing_of_model(self.state, offer.name):
            case Standing.NEWER if (
                standing_of_epoch(self.state, offer.name.epoch) is Standing.NEWER
            ):
                self.offer = offer
                self._rejoin(now)
            case Standing.SAME | Standing.NEWER:
                self.offer = offer
                self.state = replace(self.state, newest=offer.name)
            case Standing.OLDER | Standing.TWIN:
                # our hello tells the coordinator that it has lost its past, if it has
                self._rejoin(now)

    # ------------------------------------------------------------------ joining

    def _rejoin(self, now: float) -> None:
        if self.link is Link.JOINED:
            self._join(now)

    def _join(self, now: float) -> None:
        self.link = Link.JOINING
        self._disagreements = 0
        self._welcome = None
        self._pace.resend.stop()
        self._pace.hello.start(now)
        self._say_hello()

    def _say_hello(self) -> None:
        state = self.state
        if self._leaving:
            self._send(Bye(incarnation=state.incarnation))
            return
        # an agent whose own disk can't be brought to agree begins anew, with the coordinator's dual
        lost = self._disagreements >= MAX_DISAGREEMENTS
        outstanding = state.outstanding
        self._send(
            Hello(
                epoch=state.epoch,
                incarnation=0 if lost else state.incarnation,
                applied_seq=state.applied_seq,
                outstanding=wire.envelope_digest(outstanding) if outstanding else None,
                dual_checksum=state.dual_checksum,
                newest=state.newest,
                software=self._software,
            )
        )

    def _take_state(self, message: State, now: float) -> None:
        code = message.verdict.code if message.verdict else None
        if self._leaving:
            self._take_answer_to_bye(message, code, now)
        elif code is Code.REMOVED:
            self.link = Link.JOINING
            self._pace.resend.stop()
            self._pace.hello.start(now, at_least_s=HELLO_WHEN_REMOVED_S)
            self._note("the operator has removed this agent from the federation", warning=True)
        elif standing_of_epoch(self.state, message.epoch) in (Standing.OLDER, Standing.TWIN):
            self._rejoin(now)
        else:
            meaning = agreement(self.state, message)
            if meaning is Agreement.DISAGREES:
                self._take_disagreement(message, code, now)
            else:
                self._take_agreement(message, meaning, now)

    def _take_agreement(self, message: State, meaning: Agreement, now: float) -> None:
        if meaning is Agreement.APPLIED and not self._settle_applied(now):
            return
        if meaning is Agreement.AGREES and message.verdict is not None:
            self._take_verdict(message.verdict, now)
        if standing_of_epoch(self.state, message.epoch) is Standing.NEWER:
            if self.link is Link.JOINED:
                self._join(now)
                return
            if message.offer is not None:
                self.state = replace(self.state, epoch=message.epoch, newest=None)
        if message.offer is not None:
            if self._fetch is not None and self._fetch.content != message.offer.content:
                self._fetch = None  # the answer to a NEED that can't be served any more
            self._take_offer(message.offer, now)
        if self.offer is not None and self.offer.name.epoch == self.state.epoch == message.epoch:
            self._joined()

    def _take_disagreement(self, message: State, code: Code | None, now: float) -> None:
        """A STATE may be late: only one that is ahead of us, or refuses us, shows disagreement."""
        if self.link is Link.JOINING:
            self._disagreements += message.offer is not None
            return
        ahead = (message.incarnation, message.last_seq) > (
            self.state.incarnation,
            self.state.applied_seq,
        )
        if ahead or code in (Code.GAP, Code.OLD_INCARNATION, Code.UNKNOWN_MEMBER):
            self._join(now)

    def _take_answer_to_bye(self, message: State, code: Code | None, now: float) -> None:
        if code in (Code.LEFT, Code.REMOVED):
            self._actions.append(Stop(None))
        elif code is Code.OLD_INCARNATION and message.incarnation != self.state.incarnation:
            self.state = replace(self.state, incarnation=message.incarnation)
            self._join(now)

    def _take_welcome(self, welcome: Welcome, now: float) -> None:
        if self._leaving or not accepts_welcome(self.state, welcome):
            return
        self.link = Link.JOINING
        self._welcome = welcome
        self.offer = welcome.offer
        self._ticket += 1  # what is being trained now belongs to the incarnation before
        self._pace.resend.stop()
        self._pace.hello.start(now, at_least_s=HELLO_LONGEST_S)
        if welcome.dual is None and welcome.dual_checksum == 0:
            self._finish_welcome(welcome, None)

    def _finish_welcome(self, welcome: Welcome, dual: Integers | None) -> None:
        self._welcome = None
        self.state = replace(
            without_outstanding(self.state),
            epoch=welcome.epoch,
            incarnation=welcome.incarnation,
            applied_seq=0,
            dual=dual,
            newest=welcome.offer.name,
            trained_on=None,
        )
        self._note(f"welcomed as incarnation {welcome.incarnation}")
        self._joined()

    def _joined(self) -> None:
        if self.link is Link.JOINING and self._welcome is None:
            self.link = Link.JOINED
            self._pace.hello.stop()

    # ------------------------------------------------------------------ verdicts

    def _settle_applied(self, now: float) -> bool:
        try:
            self.state = dual_after_outstanding(self.state)
        except ValueError as error:
            self._note(f"{error}; asking for the coordinator's", warning=True)
            self._disagreements = MAX_DISAGREEMENTS
            self._pace.hello.start(now)
            self.link = Link.JOINING
            self._say_hello()
            return False
        self._pace.resend.stop()
        return True

    def _take_verdict(self, verdict: Verdict, now: float) -> None:
        outstanding = self.state.outstanding
        if outstanding is None or wire.envelope_digest(outstanding) != verdict.digest:
            return
        if verdict.code not in (Code.BASE_GONE, Code.REJECTED, Code.LATE):
            return
        self._note(f"update not applied ({verdict.code}): {verdict.reason}", warning=True)
        self.state = without_outstanding(self.state)
        self._pace.resend.stop()
        if verdict.code is not Code.LATE:
            self.state = replace(self.state, trained_on=None)
        if verdict.code is Code.REJECTED:
            self._pace.round_failed(now)

    # ------------------------------------------------------------------ what to do next

    def _advance(self, now: float) -> None:
        """Derive from the state what is to be done, and do it."""
        if self.link is Link.OFFLINE or self._leaving:
            return
        self._choose_fetch(now)
        if self.link is not Link.JOINED or self._training:
            return
        if self.state.outstanding is not None:
            if self._pace.resend.due is None:
                self._send_outstanding(now)
        elif self._may_train(now) and self.offer and self.state.model_name == self.offer.name:
            self._train()

    def _choose_fetch(self, now: float) -> None:
        wanted = self._wanted(now)
        if wanted is None:
            self._fetch = None
            return
        purpose, content, name = wanted
        current = self._fetch
        if current is not None and current.purpose is purpose:
            same = current.content == content
            # a model that is on its way is finished, also when a newer one is announced
            if same or purpose is Purpose.MODEL:
                return
        self._fetch = Fetch(purpose, content, name, now)
        self._send(self._fetch.need(now))

    def _wanted(self, now: float) -> tuple[Purpose, Content, ModelName | None] | None:
        if self.offer is None or (self.link is Link.JOINING and self._welcome is None):
            # keep what is half here for after the join
            fetch = self._fetch
            return (fetch.purpose, fetch.content, fetch.name) if fetch else None
        if self.offer.definition.digest != content_digest(self.state.definition):
            return Purpose.DEFINITION, self.offer.definition, None
        if self._welcome is not None and self._welcome.dual is not None:
            return Purpose.DUAL, self._welcome.dual, None
        missing = self.state.model_name != self.offer.name
        if missing and (self._may_train(now) or self._may_refresh(now)):
            return Purpose.MODEL, self.offer.content, self.offer.name
        return None

    def _can_train(self) -> bool:
        """Everything but the time is right for a round."""
        if self.link is not Link.JOINED or self.offer is None or self._definition is None:
            return False
        if self._training or self.state.outstanding is not None or self.resting:
            return False
        if self._definition.schedule.kind == "sync":
            invited = self._invitation is not None and self._invitation.model == self.offer.name
            return invited and self.offer.name != self.state.trained_on
        return self.offer.name != self.state.trained_on

    def _may_train(self, now: float) -> bool:
        return self._can_train() and now >= self._pace.next_round_at

    def _can_refresh(self) -> bool:
        return self.offer is not None and self.offer.name != self.state.model_name

    def _may_refresh(self, now: float) -> bool:
        """At rest the machine still gets a newer model to serve, now and then."""
        if self._training or self.state.outstanding is not None or not self.resting:
            return False
        final = self.offer is not None and self.offer.final
        return self._can_refresh() and (final or now >= self._pace.next_refresh_at)

    # ------------------------------------------------------------------ fetching

    def _take_chunk(self, chunk: Chunk, piece: memoryview, now: float) -> None:
        fetch = self._fetch
        if fetch is None or fetch.content.digest != chunk.digest:
            return
        window_complete = fetch.accept(chunk, piece, now)
        whole = fetch.finished()
        if whole is None:
            if window_complete:
                self._send(fetch.need(now))
            return
        self._fetch = None
        match fetch.purpose:
            case Purpose.DEFINITION:
                self._take_definition(whole)
            case Purpose.DUAL if self._welcome is not None:
                self._finish_welcome(self._welcome, self._integers(whole, None))
            case Purpose.MODEL if fetch.name is not None:
                model = self._integers(whole, fetch.name.checksum)
                self.state = replace(self.state, model_name=fetch.name, model=model)
                self._pace.next_refresh_at = now + REFRESH_S
                if self._may_train(now) and fetch.name != self.state.trained_on:
                    self._train()

    def _take_definition(self, encoded: bytes) -> None:
        try:
            definition = FederationDefinition.from_bytes(encoded)
        except ValueError as error:
            raise PeerError(f"the federation's definition is not valid: {error}") from None
        if not same_structure(self.state.definition, definition):
            self._actions.append(Stop(_other_structure(definition)))
            return
        self._definition = definition
        self.state = replace(self.state, definition=encoded, memory=None, rounds_on_these_rows=0)

    def _integers(self, encoded: bytes, wanted: int | None) -> Integers:
        size = self._lattice().size
        integers = decode_dense(encoded, size)
        if wanted is None and self._welcome is not None:
            wanted = self._welcome.dual_checksum
        if checksum(integers) != wanted:
            raise PeerError("the fetched integers do not fit their checksum")
        return integers

    # ------------------------------------------------------------------ training

    def _train(self) -> None:
        state, definition, lattice = self.state, self._definition, self._lattice()
        if definition is None or state.model is None:
            return
        self._ticket += 1
        self._training = True
        dual = state.dual if state.dual is not None else np.zeros_like(state.model)
        task = TrainingTask(
            agent=self.agent,
            seq=state.applied_seq + 1,
            base=lattice.to_floats(state.model),
            dual=lattice.to_floats(dual),
            head=state.head,
            definition=definition,
        )
        self._base = state.model_name
        self._actions.append(Train(self._ticket, task))

    def _take_outcome(self, ticket: int, outcome: TrainingOutcome, now: float) -> None:
        self._training = False
        self._proven = True
        base, model = self._base, self.state.model
        if (
            ticket != self._ticket
            or base is None
            or model is None
            or base.epoch != self.state.epoch
        ):
            self._note("a finished round is dropped: the federation has begun anew meanwhile")
            return
        self._pace.round_finished(now)
        try:
            self._finish_round(outcome, base, self._lattice().to_floats(model))
        except SaturationError as error:
            self._pace.round_failed(now)
            self._note(f"a round is dropped: {error}; lower the learning rate", warning=True)

    def _finish_round(self, outcome: TrainingOutcome, base: ModelName, base_values: Floats) -> None:
        state, definition = self.state, self._definition
        if definition is None:
            return
        lattice, algorithm = definition.lattice(), definition.algorithm
        sent = transmission(lattice, algorithm, state, base_values, outcome.shared)
        dual = state.dual
        if algorithm.has_duals:
            dual = check_magnitude(state.dual_after(lattice, sent.change))
        update = Update(
            base=base,
            incarnation=state.incarnation,
            seq=state.applied_seq + 1,
            weight=outcome.n_samples if algorithm.weighting == "rows" else 1,
            definition=content_digest(state.definition)[:8],
            dual_checksum=0 if dual is None else checksum(dual),
            encoding=0,
            score=outcome.score if self._report_score else None,
        )
        same_rows = outcome.data_fingerprint == state.data_fingerprint
        self.state = replace(
            state,
            head=outcome.head,
            memory=sent.memory,
            outstanding=wire.encode(update, encode_dense(sent.change)),
            trained_on=base,
            rounds=state.rounds + 1,
            rounds_on_these_rows=state.rounds_on_these_rows + 1 if same_rows else 1,
            data_fingerprint=outcome.data_fingerprint,
            loss=outcome.loss,
            score=outcome.score,
            n_samples=outcome.n_samples,
        )

    def _take_failure(self, ticket: int, error: PlantfedError, now: float) -> None:
        self._training = False
        if ticket != self._ticket:
            return
        if not isinstance(error, DataError | ConfigError):
            self._pace.round_failed(now)
            self._note(f"a round failed: {error}", warning=True)
        elif self._proven:
            self._rows_unusable = True
            self._note(f"resting until the files change: {error}", warning=True)
        else:
            self._actions.append(Stop(error))

    def _take_rows(self, fingerprint: str) -> None:
        if fingerprint != self.state.data_fingerprint or self._rows_unusable:
            self._rows_unusable = False
            self.state = replace(self.state, data_fingerprint=fingerprint, rounds_on_these_rows=0)

    # ------------------------------------------------------------------ sending

    def _send_outstanding(self, now: float) -> None:
        outstanding = self.state.outstanding
        if outstanding is None:
            return
        self._pace.resend.start(now, at_least_s=2 * len(outstanding) / THINNEST_LINK_BYTES_PER_S)
        self._publish_outstanding(outstanding)

    def _publish_outstanding(self, outstanding: bytes) -> None:
        if len(outstanding) <= self._max_payload_bytes:
            topic = self._topics.up(self.agent, Kind.UPDATE)
            self._actions.append(Publish(topic, outstanding))
        else:
            self._send(Offer(content=Content(content_digest(outstanding), len(outstanding))))

    def _serve_outstanding(self, need: Need) -> None:
        outstanding = self.state.outstanding
        if outstanding is None or content_digest(outstanding) != need.digest:
            return
        for chunk, piece in chunks(outstanding, need.digest, need, self._max_payload_bytes):
            self._send(chunk, piece)

    def _take_timers(self, now: float) -> None:
        if self._pace.hello.is_due(now) and self.link is Link.JOINING:
            self._pace.hello.again(now)
            self._say_hello()
        if self._pace.resend.is_due(now) and self.state.outstanding is not None:
            self._pace.resend.again(now)
            self._publish_outstanding(self.state.outstanding)
        fetch = self._fetch
        if fetch is not None and self.link is not Link.OFFLINE and now >= fetch.due:
            fetch.lose_patience()
            self._send(fetch.need(now))

    def _send(self, message: Message, tail: bytes = b"") -> None:
        kind = KIND_OF_MESSAGE[type(message)]
        if isinstance(message, Status):
            topic, retain = self._topics.status(self.agent), True
        else:
            topic, retain = self._topics.up(self.agent, kind), False
        self._actions.append(Publish(topic, wire.encode(message, tail), retain))

    def _note(self, text: str, *, warning: bool = False) -> None:
        self._actions.append(Note(text, warning))

    def _lattice(self) -> Lattice:
        if self._definition is None:
            raise PeerError("no definition yet")
        return self._definition.lattice()


def _parsed(encoded: bytes) -> FederationDefinition | None:
    return FederationDefinition.from_bytes(encoded) if encoded else None


def _other_structure(definition: FederationDefinition) -> ConfigError:
    return ConfigError(
        f"federation {definition.federation!r} now has another model, loss, inputs or outputs "
        "than the head on this machine was trained for",
        hint="Give it another state_dir to begin anew, or ask who changed the federation",
    )
