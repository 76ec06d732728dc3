"""What the agent works on: fetching, training, and its outstanding update.

    IDLE -> FETCHING         a definition, a dual or a model is wanted
    FETCHING -> IDLE         it is here, or something else is wanted
    IDLE -> TRAINING         a newer model is here, nothing is outstanding, and it is time
    TRAINING -> OUTSTANDING  the round is on disk together with its UPDATE
    OUTSTANDING -> IDLE      its verdict

``advance`` derives from the state what is to be done next, so that nothing has to be remembered
across a restart but :class:`AgentState`.  Training goes on while the link is down.
"""

from enum import StrEnum
from typing import NamedTuple

from plantfed_agent.desk import Desk
from plantfed_agent.events import Publish, Stop, Train
from plantfed_agent.fetching import LONGEST_PATIENCE_S, Fetch, Purpose
from plantfed_agent.local_update import after_head_round, after_round, task_of, update_bytes
from plantfed_agent.membership import Link, Membership
from plantfed_agent.pace import REFRESH_S, THINNEST_LINK_BYTES_PER_S
from plantfed_agent.state import same_structure
from plantfed_agent.training import TrainingOutcome
from plantfed_shared.codec import decode_dense, decode_model
from plantfed_shared.definition import FederationDefinition, content_digest
from plantfed_shared.errors import ConfigError, DataError, PeerError, PlantfedError
from plantfed_shared.lattice import Integers, SaturationError, checksum
from plantfed_shared.messages import Chunk, Code, Content, ModelName, ModelOffer, Need, Offer, Start
from plantfed_shared.topics import Kind
from plantfed_shared.transfer import chunks


class Work(StrEnum):
    """What we are busy with."""

    IDLE = "idle"
    FETCHING = "fetching"
    TRAINING = "training"
    OUTSTANDING = "outstanding"


class _Job(NamedTuple):
    ticket: int
    base: ModelName
    welcomes: int
    head_only: bool


class _Want(NamedTuple):
    purpose: Purpose
    content: Content
    name: ModelName | None


class Rounds:
    """The agent's side of START, NEED, CHUNK and UPDATE, and its training.

    Args:
        desk: of the agent.
        membership: how it stands with the coordinator.
        report_score: whether updates carry the score of the machine's own model.
    """

    def __init__(self, desk: Desk, membership: Membership, *, report_score: bool) -> None:
        self.invitation: Start | None = None
        self._desk = desk
        self._membership = membership
        self._report_score = report_score
        self._fetch: Fetch | None = None
        self._job: _Job | None = None
        self._begun: bytes | None = None
        self._head_trained_on: ModelName | None = None
        self._tickets = 0
        self._proven = False
        self._rows_unusable = False

    @property
    def work(self) -> Work:
        """What the agent is busy with."""
        if self._job is not None:
            return Work.TRAINING
        if self._desk.state.outstanding is not None:
            return Work.OUTSTANDING
        return Work.FETCHING if self._fetch is not None else Work.IDLE

    @property
    def resting(self) -> bool:
        """Whether nothing is to be learnt until rows or settings change."""
        limit = self._desk.pace.max_rounds_without_new_rows
        worn_out = self._desk.state.rounds_on_these_rows >= limit
        final = self._desk.offer is not None and self._desk.offer.final
        return worn_out or final or self._rows_unusable

    def next_timer(self) -> float | None:
        """When something is due by time alone."""
        resend = self._desk.pace.resend.due
        due = [] if resend is None else [resend]
        if self._membership.link is not Link.OFFLINE and self._fetch is not None:
            due.append(self._fetch.due)
        if self._desk.link.refused:
            due.append(self._desk.link.next_change_at())
        elif self._membership.link is Link.JOINED and self.work is Work.IDLE:
            if self.resting and self._can_refresh():
                due.append(self._desk.pace.next_refresh_at)
            elif self._can_train():
                due.append(self._desk.pace.next_round_at)
        return min(due, default=None)

    def take_timers(self, now: float) -> None:
        """Send again what has not been answered."""
        pace, outstanding = self._desk.pace, self._desk.state.outstanding
        if pace.resend.is_due(now) and outstanding is not None:
            pace.resend.again(now)
            self._publish(outstanding)
        fetch = self._fetch
        if fetch is not None and self._membership.link is not Link.OFFLINE and now >= fetch.due:
            if fetch.asked:
                fetch.lose_patience()
            self._ask(fetch, now)

    def connected(self, now: float) -> None:
        """What was asked for on the connection before will not come any more."""
        if self._fetch is not None:
            self._fetch.due = now

    def take_verdict(self, code: Code) -> None:
        """A late answer waits for the next invitation, which may be to the same model."""
        if code is Code.LATE:
            self.invitation = None

    # ------------------------------------------------------------------ what to do next

    def advance(self, now: float) -> None:
        """Derive from the state what is to be done, and do it."""
        if self._membership.link is Link.OFFLINE or self._membership.leaving:
            return
        self._choose_fetch(now)
        if self._membership.link is not Link.JOINED or self._job is not None:
            return
        state, offer = self._desk.state, self._desk.offer
        if state.outstanding is not None:
            if not self._desk.link.may_send(self._still_to_send(state.outstanding)):
                self._desk.pace.resend.stop()
            elif self._desk.pace.resend.due is None:
                self._send_outstanding(state.outstanding, now)
        elif offer is not None and state.model_name == offer.name and self._may_train(now):
            self._train()

    def _choose_fetch(self, now: float) -> None:
        if self._membership.link is Link.JOINING and self._membership.welcome is None:
            return  # what is half here is kept for after the join
        want = self._want(now)
        current = self._fetch
        if want is None:
            self._fetch = None
            return
        if current is not None and current.purpose is want.purpose:
            same = current.content == want.content
            # a model that is on its way is finished, also when a newer one is announced
            if same or want.purpose is Purpose.MODEL:
                return
        self._fetch = Fetch(want.purpose, want.content, want.name, now)
        self._ask(self._fetch, now)

    def _ask(self, fetch: Fetch, now: float) -> None:
        """Ask for what is missing, as much of it as the link allows now."""
        pull = self._desk.link.pull(fetch.missing_bytes, now)
        if pull.window_bytes:
            self._desk.send(fetch.need(now, pull.window_bytes, pull.range_bytes))
            return
        fetch.wait(pull.not_before)
        if fetch.purpose is Purpose.DUAL:
            # another hello before it is here would be given yet another incarnation
            self._membership.wait_for_dual(pull.not_before)

    def _want(self, now: float) -> _Want | None:
        offer, welcome = self._desk.offer, self._membership.welcome
        if offer is None:
            return None
        if not self._desk.has_definition():
            return _Want(Purpose.DEFINITION, offer.definition, None)
        if welcome is not None:
            return _Want(Purpose.DUAL, welcome.dual, None) if welcome.dual else None
        missing = self._desk.state.model_name != offer.name
        wanted = missing and (self._may_train(now) or self._may_refresh(now))
        if wanted and (self._is_fetching() or self._desk.link.may_fetch(offer.content.size)):
            return _Want(Purpose.MODEL, offer.content, offer.name)
        return None

    def _is_fetching(self) -> bool:
        """Whether a model is on its way: it is finished, when the link allows."""
        return self._fetch is not None and self._fetch.purpose is Purpose.MODEL

    def _can_train(self) -> bool:
        """Everything but the time is right for a round."""
        state, offer, terms = self._desk.state, self._desk.offer, self._desk.terms
        if self._membership.link is not Link.JOINED or offer is None or terms is None:
            return False
        if self._job is not None or state.outstanding is not None or self.resting:
            return False
        if terms.definition.schedule.kind == "sync" and (
            self.invitation is None or self.invitation.model != offer.name
        ):
            return False
        return offer.name != state.trained_on

    def _may_train(self, now: float) -> bool:
        return self._can_train() and now >= self._desk.pace.next_round_at

    def _can_refresh(self) -> bool:
        offer = self._desk.offer
        return offer is not None and offer.name != self._desk.state.model_name

    def _may_refresh(self, now: float) -> bool:
        """At rest the machine still gets a newer model to serve, now and then."""
        busy = self._job is not None or self._desk.state.outstanding is not None
        if busy or not self.resting or not self._can_refresh():
            return False
        final = self._desk.offer is not None and self._desk.offer.final
        return final or now >= self._desk.pace.next_refresh_at

    # ------------------------------------------------------------------ fetching

    def content_may_be_gone(self, offer: ModelOffer, *, was_joined: bool) -> None:
        """A STATE with an offer answers a NEED that can't be served any more.

        While joining it answers the HELLO, and says nothing of a model that is half here: on a link
        that is cut now and then, beginning anew at every reconnect would never end.
        """
        fetch = self._fetch
        if fetch is None or fetch.name is None or fetch.content == offer.content:
            return
        if was_joined or fetch.name.epoch != offer.name.epoch:
            self._fetch = None

    def take_chunk(self, chunk: Chunk, piece: memoryview, now: float) -> None:
        """A piece of what is fetched.

        Raises:
            PeerError: it doesn't fit, or the whole is not what was promised.
        """
        fetch = self._fetch
        if fetch is None or fetch.content.digest != chunk.digest:
            return
        window_complete = fetch.accept(chunk, piece, now)
        if fetch.purpose is Purpose.DUAL and self._membership.welcome is not None:
            self._membership.wait_for_dual(now)
        whole = fetch.finished()
        if whole is None:
            if window_complete:
                self._ask(fetch, now)
            return
        self._fetch = None
        try:
            self._take_content(fetch, whole, now)
        except PeerError:
            # it is what was promised, so that it may never be right: not at network speed
            due = now + LONGEST_PATIENCE_S
            self._fetch = Fetch(fetch.purpose, fetch.content, fetch.name, due)
            raise

    def _take_content(self, fetch: Fetch, whole: bytes, now: float) -> None:
        welcome = self._membership.welcome
        if fetch.purpose is Purpose.DEFINITION:
            self._take_definition(whole)
        elif fetch.purpose is Purpose.DUAL and welcome is not None:
            self._membership.finish_welcome(welcome, self._dual_in(whole, welcome.dual_checksum))
        elif fetch.name is not None:
            model = decode_model(whole, fetch.name, self._desk.lattice().size)
            self._take_model(fetch.name, model, now)

    def _take_definition(self, encoded: bytes) -> None:
        try:
            definition = FederationDefinition.from_bytes(encoded)
        except ValueError as error:
            raise PeerError(f"the federation's definition is not valid: {error}") from None
        if not same_structure(self._desk.state.definition, definition):
            self._desk.ask(Stop(_other_structure(definition)))
            return
        self._desk.change(definition=encoded, memory=None, rounds_on_these_rows=0)

    def _take_model(self, name: ModelName, model: Integers, now: float) -> None:
        self._desk.change(model_name=name, model=model)
        self._desk.pace.next_refresh_at = now + REFRESH_S
        # trained on at once, although a newer one may have been announced meanwhile: on a thin
        # link there is always a newer one
        invited = self.invitation is None or self.invitation.model == name
        if self._may_train(now) and name != self._desk.state.trained_on and invited:
            self._train()

    def _dual_in(self, encoded: bytes, wanted: int) -> Integers:
        dual = decode_dense(encoded, self._desk.lattice().size)
        if checksum(dual) != wanted:
            raise PeerError("the fetched dual does not have the checksum in the WELCOME")
        return dual

    # ------------------------------------------------------------------ training

    def _train(self) -> None:
        state, terms = self._desk.state, self._desk.terms
        if terms is None or state.model is None or state.model_name is None:
            return
        head_only = not self._desk.link.affords_update(update_bytes(state))
        if head_only:
            if not terms.has_head or self._head_trained_on == state.model_name:
                return
            self._head_trained_on = state.model_name
        self._tickets += 1
        self._job = _Job(self._tickets, state.model_name, self._membership.welcomes, head_only)
        task = task_of(self._desk.agent, state, terms, head_only=head_only)
        self._desk.ask(Train(self._tickets, task))

    def take_outcome(self, ticket: int, outcome: TrainingOutcome, now: float) -> None:
        """A round is finished: its head and its update are persisted together."""
        job, terms = self._job, self._desk.terms
        if job is None or job.ticket != ticket or terms is None:
            return
        self._job, self._proven = None, True
        void = job.welcomes != self._membership.welcomes
        if void or job.base.epoch != self._desk.state.epoch:
            self._desk.note("a finished round is dropped: the federation has begun anew meanwhile")
            return
        self._desk.pace.round_finished(now)
        if job.head_only:
            self._desk.state = after_head_round(self._desk.state, outcome)
            return
        try:
            self._desk.state = after_round(
                self._desk.state, terms, outcome, report_score=self._report_score
            )
        except SaturationError as error:
            self._desk.pace.round_failed(now)
            self._desk.note(f"a round is dropped: {error}; lower the learning rate", warning=True)

    def take_failure(self, ticket: int, error: PlantfedError, now: float) -> None:
        """A round could not be done."""
        if self._job is None or self._job.ticket != ticket:
            return
        self._job = None
        if not isinstance(error, DataError | ConfigError):
            self._desk.pace.round_failed(now)
            self._desk.note(f"a round failed: {error}", warning=True)
        elif self._proven:
            self._rows_unusable = True
            self._desk.note(f"resting until the files change: {error}", warning=True)
        else:
            self._desk.ask(Stop(error))

    def take_rows(self, fingerprint: str) -> None:
        """The files with the rows have changed: there is something to learn again."""
        before = self._desk.state.data_fingerprint
        if (before and fingerprint != before) or self._rows_unusable:
            self._desk.note("the files with the rows have changed")
            self._rows_unusable = False
            self._desk.change(data_fingerprint=fingerprint, rounds_on_these_rows=0)

    # ------------------------------------------------------------------ the outstanding update

    def _send_outstanding(self, outstanding: bytes, now: float) -> None:
        bytes_per_s = self._desk.link.limits.bytes_per_s or THINNEST_LINK_BYTES_PER_S
        crossing_s = len(outstanding) / min(bytes_per_s, THINNEST_LINK_BYTES_PER_S)
        self._desk.pace.resend.start(now, at_least_s=2 * crossing_s)
        self._publish(outstanding)

    def _still_to_send(self, outstanding: bytes) -> int:
        """An update that has been offered goes on as long as there is any budget."""
        whole = len(outstanding) <= self._desk.max_payload_bytes
        return len(outstanding) if whole or self._begun is not outstanding else 1

    def _publish(self, outstanding: bytes) -> None:
        self._begun = outstanding
        if len(outstanding) <= self._desk.max_payload_bytes:
            self._desk.ask(
                Publish(self._desk.topics.up(self._desk.agent, Kind.UPDATE), outstanding)
            )
        else:
            content = Content(content_digest(outstanding), len(outstanding))
            self._desk.send(Offer(content=content))

    def serve(self, need: Need) -> None:
        """The coordinator asks for pieces of the update it was offered."""
        outstanding = self._desk.state.outstanding
        if outstanding is None or content_digest(outstanding) != need.digest:
            return
        asked_bytes = 0
        for chunk, piece in chunks(outstanding, need.digest, need, self._desk.max_payload_bytes):
            asked_bytes += len(piece)
            if not self._desk.link.may_go_on(asked_bytes):
                return
            self._desk.send(chunk, piece)


def _other_structure(definition: FederationDefinition) -> ConfigError:
    return ConfigError(
        f"federation {definition.federation!r} now has another model, loss, inputs or outputs "
        "than the head on this machine was trained for",
        hint="Give it another state_dir to begin anew, or ask who changed the federation",
    )
