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
from plantfed_agent.downloads import Downloads, FetchedDefinition, FetchedModel
from plantfed_agent.events import Stop, Train
from plantfed_agent.lengths import model_bytes, next_update_bytes
from plantfed_agent.local_update import after_head_round, after_round, task_of
from plantfed_agent.membership import Link, Membership
from plantfed_agent.pace import REFRESH_S, STALE_AFTER_S
from plantfed_agent.serving_model import between_epochs
from plantfed_agent.state import same_structure, with_model
from plantfed_agent.training import TrainingOutcome
from plantfed_agent.upload import Upload
from plantfed_shared.definition import FederationDefinition
from plantfed_shared.errors import (
    ConfigError,
    DataError,
    LostModelError,
    ModelError,
    PeerError,
    PlantfedError,
)
from plantfed_shared.lattice import Integers, SaturationError
from plantfed_shared.messages import Chunk, Code, Group, ModelName, Start
from plantfed_shared.terms import Terms


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


class Rounds:
    """The agent's side of START and CHUNK, and its training.

    Args:
        desk: of the agent.
        membership: how it stands with the coordinator.
        downloads: of the agent.
        upload: of its outstanding update.
        report_score: whether updates carry the score of the machine's own model.
    """

    def __init__(
        self,
        desk: Desk,
        membership: Membership,
        downloads: Downloads,
        upload: Upload,
        *,
        report_score: bool,
    ) -> None:
        self.invitation: Start | None = None
        self._desk = desk
        self._membership = membership
        self._report_score = report_score
        self._downloads = downloads
        self._upload = upload
        self._job: _Job | None = None
        self._head_trained_on: ModelName | None = None
        self._usual_bytes: int | None = None
        self._early: tuple[FetchedModel, Integers | None] | None = None
        self._tickets = 0
        self._proven = False
        self._rows_unusable = False
        self._model_was_lost = False

    @property
    def work(self) -> Work:
        """What the agent is busy with."""
        if self._job is not None:
            return Work.TRAINING
        if self._desk.state.outstanding is not None:
            return Work.OUTSTANDING
        return Work.FETCHING if self._downloads.busy else Work.IDLE

    @property
    def resting(self) -> bool:
        """Whether nothing is to be learnt until rows or settings change."""
        limit = self._desk.pace.max_rounds_without_new_rows
        worn_out = self._desk.state.rounds_on_these_rows >= limit
        final = self._desk.offer is not None and self._desk.offer.final
        return worn_out or final or self._rows_unusable

    @property
    def waits(self) -> bool:
        """Whether nothing more will be said before the coordinator says something."""
        return self._job is None and self.next_timer() is None

    def next_timer(self) -> float | None:
        """When something is due by time alone."""
        resend = self._desk.pace.resend.due
        due = [t for t in (resend, self._downloads.next_timer()) if t is not None]
        link = self._desk.link
        if link.refused:
            due.append(link.next_change_at())
        elif self._membership.link is Link.JOINED and self.work is Work.IDLE:
            if self.resting and self._can_refresh():
                due.append(self._desk.pace.next_refresh_at)
            elif self._can_train():
                due.append(self._desk.pace.next_round_at)
        if not link.leaves_room_to_ask:
            due.append(link.next_change_at())
        return min(due, default=None)

    def take_timers(self, now: float) -> None:
        """Send again what has not been answered."""
        self._upload.take_timers(now)
        self._downloads.take_timers(now)

    def connected(self, now: float) -> None:
        """What was asked for on the connection before will not come any more."""
        self._upload.connected()
        self._downloads.connected(now)

    def content_may_be_gone(self, now: float) -> None:
        """See :meth:`Downloads.content_may_be_gone`."""
        self._downloads.content_may_be_gone(now)

    def take_verdict(self, code: Code) -> None:
        """A late answer waits for the next invitation, which may be to the same model."""
        if code is not Code.APPLIED:
            self._downloads.fall()
        if code is Code.LATE:
            self.invitation = None

    def take_invitation(self, invitation: Start, now: float) -> None:
        """The coordinator waits for an answer to this model; a late copy takes nothing back."""
        if self.invitation is not None and _is_before(invitation, self.invitation):
            return
        self.invitation = invitation
        known, new = self._desk.offer, invitation.offer
        if known is None or _order(new.name) >= _order(known.name):
            self._membership.take_offer(new, now)

    # ------------------------------------------------------------------ what to do next

    def advance(self, now: float) -> None:
        """Derive from the state what is to be done, and do it."""
        if self._membership.link is Link.OFFLINE or self._membership.leaving:
            return
        self._take_early_model(now)
        self._downloads.choose(now, wants_model=self._wants_model(now))
        if self._membership.link is not Link.JOINED or self._job is not None:
            return
        state, offer = self._desk.state, self._desk.offer
        if state.outstanding is not None:
            if not self._desk.link.may_send(self._upload.still_to_send(state.outstanding)):
                self._desk.pace.resend.stop()
            elif self._desk.pace.resend.due is None:
                self._upload.begin(state.outstanding, now)
        elif offer is not None and state.model_name == offer.name and self._may_train(now):
            self._train()

    def _wants_model(self, now: float) -> bool:
        """A newer model is known, and there is use for it."""
        offer = self._desk.offer
        missing = offer is not None and self._desk.state.model_name != offer.name
        if not missing or not (self._may_train(now) or self._may_refresh(now)):
            return False
        begun = self._downloads.model_has_begun
        return begun or self._desk.link.may_fetch(self._next_model_bytes())

    def _can_train(self) -> bool:
        """Everything but the time is right for a round."""
        state, offer, terms = self._desk.state, self._desk.offer, self._desk.terms
        if self._membership.link is not Link.JOINED or offer is None or terms is None:
            return False
        if self._job is not None or state.outstanding is not None or self.resting:
            return False
        if self._desk.missing_artefact() is not None:
            return False
        if terms.definition.schedule.kind == "sync" and (
            self.invitation is None or self.invitation.offer.name != offer.name
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

    # ------------------------------------------------------------------ what was fetched

    def take_chunk(self, chunk: Chunk, piece: memoryview, now: float) -> None:
        """A piece of what is fetched.

        Raises:
            PeerError: it doesn't fit, or the whole is not what was promised.
        """
        match self._downloads.take_chunk(chunk, piece, now):
            case FetchedDefinition(encoded):
                try:
                    self._take_definition(encoded)
                except PeerError:
                    self._downloads.slow_down(now)
                    raise
                self._downloads.take_over()
            case FetchedModel() as fetched:
                self._take_model(fetched, now)

    def take_group(self, group: Group, now: float) -> None:
        """See :meth:`Downloads.take_group`."""
        self._downloads.take_group(group, now)

    def take_lane(self, topic: str, now: float, *, allowed: bool) -> None:
        """See :meth:`Downloads.take_lane`."""
        self._downloads.take_lane(topic, now, allowed=allowed)

    def tidy(self) -> None:
        """See :meth:`Downloads.tidy`."""
        self._downloads.tidy()

    def _take_definition(self, encoded: bytes) -> None:
        try:
            definition = FederationDefinition.from_bytes(encoded)
        except ValueError as error:
            raise PeerError(f"the federation's definition is not valid: {error}") from None
        if not same_structure(self._desk.state.definition, definition):
            self._desk.ask(Stop(_other_structure(definition)))
            return
        self._desk.state = between_epochs(self._desk.state, definition)
        self._desk.change(
            definition=encoded,
            memory=None,
            need=None,
            rounds_on_these_rows=0,
        )
        self._usual_bytes = self._downloads.last_step_bytes = None

    def _take_early_model(self, now: float) -> None:
        """One that has overtaken the verdict on the update before it."""
        state = self._desk.state
        if self._early is None or state.outstanding is not None:
            return
        (fetched, before), self._early = self._early, None
        # another epoch may have begun since, and other units with its definition
        if state.model is before and fetched.name.epoch == state.epoch:
            self._downloads.begin_anew()
            self._take_model(fetched, now)

    def _take_model(self, fetched: FetchedModel, now: float) -> None:
        if self._job is not None:
            return  # its update will name the model that it trains on
        if self._desk.state.outstanding is not None:
            # that began from the model here, which is averaged once it is applied
            if self._early is None or self._early[0].name.k < fetched.name.k:
                self._early = fetched, self._desk.state.model
            return
        name = fetched.name
        self._desk.state = with_model(self._desk.state, name, fetched.integers, fetched.turnovers)
        self._desk.pace.next_refresh_at = now + REFRESH_S
        offer = self._desk.offer
        if offer is not None and name.epoch == offer.name.epoch and name.k > offer.name.k:
            self._membership.take_offer(offer._replace(name=name), now)
        # trained on at once, although a newer one may have been announced meanwhile: on a thin
        # link there is always a newer one
        invited = self.invitation is None or self.invitation.offer.name == name
        if self._may_train(now) and name != self._desk.state.trained_on and invited:
            self._train()

    # ------------------------------------------------------------------ training

    def _train(self) -> None:
        state, terms = self._desk.state, self._desk.terms
        if terms is None or state.model is None or state.model_name is None:
            return
        link = self._desk.link
        n_bytes = next_update_bytes(state, link.kept_factor, self._usual_bytes)
        head_only = not link.affords_update(n_bytes)
        if head_only:
            has_head = terms.has_head or state.own_head is not None
            if not has_head or self._head_trained_on == state.model_name:
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
        self._job, self._proven, self._model_was_lost = None, True, False
        void = job.welcomes != self._membership.welcomes
        # with the definition of a new epoch, what it was trained on is no release any more
        void |= job.base != self._desk.state.model_name
        if void or job.base.epoch != self._desk.state.epoch:
            self._desk.note("a finished round is dropped: the federation has begun anew meanwhile")
            return
        self._desk.pace.round_finished(now)
        self._desk.change(failure="")
        had_one = self._desk.state.own_head is not None
        if job.head_only:
            self._desk.take_round(after_head_round(self._desk.state, terms, outcome))
            self._note_own_head(had_one=had_one)
            return
        try:
            after = after_round(
                self._desk.state,
                terms,
                outcome,
                report_score=self._report_score,
                want=self._window_after_round(terms),
                kept_factor=self._kept_factor,
            )
        except SaturationError as error:
            self._desk.pace.round_failed(now)
            self._say_failed(
                f"a round is dropped: {error}; lower the learning rate or lattice_bits"
            )
        else:
            self._desk.take_round(after)
            self._note_own_head(had_one=had_one)

    def _note_own_head(self, *, had_one: bool) -> None:
        if (self._desk.state.own_head is not None) == had_one:
            return
        self._desk.note(
            "this machine uses the common last layer again"
            if had_one
            else "this machine keeps a last layer of its own from now on: on its rows the common "
            "one has more than twice the error of one fitted to them"
        )

    def _kept_factor(self, usual_bytes: int) -> float:
        self._usual_bytes = usual_bytes
        return self._desk.link.kept_factor(usual_bytes)

    def _next_model_bytes(self) -> int:
        """About so many: as the last difference, or estimated before the first."""
        return self._downloads.last_step_bytes or model_bytes(self._desk.state)

    def _window_after_round(self, terms: Terms) -> int:
        """How much of the model after this update may come by itself; 0 where it has no use."""
        if terms.definition.schedule.kind == "sync" or not terms.lattice.size:
            return 0
        if self._desk.pace.min_interval_s > STALE_AFTER_S or self.resting:
            return 0
        link = self._desk.link
        fits = link.may_fetch(self._next_model_bytes())
        return link.window_that_fits(self._desk.window_bytes) if fits else 0

    def take_failure(self, ticket: int, error: PlantfedError, now: float) -> None:
        """A round could not be done."""
        if self._job is None or self._job.ticket != ticket:
            return
        self._job = None
        if isinstance(error, LostModelError) and not self._model_was_lost:
            # once: where it is damaged again at once, the disk is bad
            self._model_was_lost, self._desk.artefacts = True, frozenset()
            self._say_failed(f"the model is fetched anew: {error}")
        elif not isinstance(error, DataError | ConfigError | ModelError):
            self._desk.pace.round_failed(now)
            self._say_failed(f"a round failed: {error}")
        elif self._proven and not isinstance(error, LostModelError):
            self._rows_unusable = True
            self._say_failed(f"resting until the files change: {error}")
        else:
            self._desk.change(failure=str(error))
            self._desk.ask(Stop(error))

    def _say_failed(self, what: str) -> None:
        self._desk.change(failure=what)
        self._desk.note(what, warning=True)

    def take_rows(self, fingerprint: str) -> None:
        """The files with the rows have changed: there is something to learn again."""
        before = self._desk.state.data_fingerprint
        if (before and fingerprint != before) or self._rows_unusable:
            self._desk.note("the files with the rows have changed")
            self._rows_unusable = False
            self._desk.change(data_fingerprint=fingerprint, need=None, rounds_on_these_rows=0)


def _is_before(one: Start, other: Start) -> bool:
    a, b = one.offer.name, other.offer.name
    return a.epoch == b.epoch and a.k < b.k


def _order(name: ModelName) -> tuple[int, int]:
    return name.epoch.counter, name.k


def _other_structure(definition: FederationDefinition) -> ConfigError:
    return ConfigError(
        f"federation {definition.federation!r} now has another model, loss, inputs or outputs "
        "than the head on this machine was trained for",
        hint="Give it another state_dir to begin anew, or ask who changed the federation",
    )
