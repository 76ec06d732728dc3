"""Bugs planted in the product's own code, each a mistake that is easily made.

Each takes effect while its context is open, and is undone after it.  A bug the seeds don't catch
means that a fault or a question of the oracle is missing.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from tests.faults.world import run_seed

from plantfed_agent import agreement, fetching, membership, state
from plantfed_agent import desk as agent_desk
from plantfed_agent import downloads as agent_downloads
from plantfed_agent import events as agent_events
from plantfed_agent import upload as agent_upload
from plantfed_coordinator import desk as coordinator_desk
from plantfed_coordinator import effects, machine, releases, snapshot
from plantfed_coordinator import events as coordinator_events
from plantfed_coordinator import membership as coordinator_membership
from plantfed_coordinator import state as coordinator_state
from plantfed_coordinator.records import IncarnationRaised, Left, Record
from plantfed_coordinator.state import FederationState, Member
from plantfed_shared import wire
from plantfed_shared.errors import PlantfedError
from plantfed_shared.messages import Code

OUR_MISTAKES = (TypeError, AttributeError, NameError, ImportError)
"""Of the patch itself: a bug that is caught by one of these was never planted."""
Plant = Callable[[], AbstractContextManager[object]]
PLANTED: dict[str, Plant] = {}


def planted(plant: Callable[[], Iterator[object]]) -> Callable[[], Iterator[object]]:
    """Enter a bug under its name."""
    PLANTED[plant.__name__.replace("_", "-")] = contextmanager(plant)
    return plant


def catches(name: str, seed: int) -> bool:
    """Whether a seed ends otherwise than it should with a bug in the product."""
    with PLANTED[name]():
        try:
            run_seed(seed)
        except OUR_MISTAKES:
            raise
        except (AssertionError, PlantfedError, RuntimeError, ValueError, KeyError):
            return True
    return False


def _late(take: Callable[[Any], list[Any]], persist: type) -> Callable[[Any], list[Any]]:
    """Writes come with the next event's actions instead of before their own."""
    kept: dict[int, list[Any]] = {}

    def take_actions(self: Any) -> list[Any]:
        actions = take(self)
        writes = kept.pop(id(self), [])
        kept[id(self)] = [a for a in actions if isinstance(a, persist)]
        return [*writes, *(a for a in actions if not isinstance(a, persist))]

    return take_actions


@planted
def ack_before_commit() -> Iterator[object]:
    """The coordinator answers its agents, and the broker, before it commits."""
    with patch.object(effects, "in_order", wrong_order("ack before commit")):
        yield


def wrong_order(name: str) -> Callable[..., list[effects.Effect]]:
    """The effects of the coordinator in an order they must never have."""
    rank = WRONG_ORDERS[name]
    in_order = effects.in_order

    def out_of_order(*asked: Any) -> list[effects.Effect]:
        return sorted(in_order(*asked), key=lambda effect: rank.index(type(effect)))

    return out_of_order


_SAID = (coordinator_events.Note, coordinator_events.Publish)
WRONG_ORDERS: dict[str, tuple[type, ...]] = {
    "ack before commit": (*_SAID, effects.Acknowledge, effects.Commit, effects.PutDown),
    "publish before commit": (*_SAID, effects.Commit, effects.PutDown, effects.Acknowledge),
    "puback before commit": (effects.Acknowledge, effects.Commit, effects.PutDown, *_SAID),
    "puback before publish": (effects.Commit, effects.PutDown, effects.Acknowledge, *_SAID),
    "publish before audit": (effects.Commit, *_SAID, effects.PutDown, effects.Acknowledge),
}


@planted
def publish_before_persist() -> Iterator[object]:
    late = _late(agent_desk.Desk.take_actions, agent_events.Persist)
    with patch.object(agent_desk.Desk, "take_actions", late):
        yield


def _not_persisted(*names: str) -> AbstractContextManager[object]:
    changed = state.changed_fields

    def some(before: Any, after: Any) -> frozenset[str]:
        return changed(before, after) - set(names)

    return patch.object(agent_desk, "changed_fields", some)


@planted
def agents_sequence_in_memory_only() -> Iterator[object]:
    with _not_persisted("applied_seq"):
        yield


@planted
def outbox_in_memory_only() -> Iterator[object]:
    with _not_persisted("outstanding"):
        yield


@planted
def agents_dual_in_memory_only() -> Iterator[object]:
    with _not_persisted("dual"):
        yield


@planted
def coordinators_sequence_in_memory_only() -> Iterator[object]:
    """After a restart it has forgotten what it has applied before."""
    judge = machine.judge_update
    seen: set[tuple[int, str, int]] = set()
    alive: list[FederationState] = []  # so that no id is given twice

    def forgetful(state: FederationState, agent: str, update: Any, *rest: Any) -> Any:
        member = state.members.get(agent)
        known = (id(state), agent, update.seq) in seen
        if member is not None and update.seq <= member.last_seq and not known:
            state.members[agent] = replace(member, last_seq=update.seq - 1, last_digest=None)
        judgement = judge(state, agent, update, *rest)
        if judgement.is_new:
            alive.append(state)
            seen.add((id(state), agent, update.seq))
        elif member is not None:
            state.members[agent] = member
        return judgement

    with patch.object(machine, "judge_update", forgetful):
        yield


@planted
def no_deduplication() -> Iterator[object]:
    judge = machine.judge_update

    def eager(state: FederationState, agent: str, update: Any, *rest: Any) -> Any:
        member = state.members.get(agent)
        if member is None:
            return judge(state, agent, update, *rest)
        state.members[agent] = replace(member, last_seq=update.seq - 1, last_digest=None)
        judgement = judge(state, agent, update, *rest)
        if not judgement.is_new:
            state.members[agent] = member
        return judgement

    with patch.object(machine, "judge_update", eager):
        yield


@planted
def wrong_base_at_the_coordinator() -> Iterator[object]:
    """What is applied is relative to the newest release, whatever the agent had."""
    after = FederationState.contribution_after

    def newest(self: FederationState, agent: str, _base_k: int, *rest: Any) -> Any:
        return after(self, agent, self.k, *rest)

    with patch.object(FederationState, "contribution_after", newest):
        yield


def _any_step() -> AbstractContextManager[object]:
    """The two bugs about models have two guards to get past: this is the first."""
    return patch.object(fetching.ModelFetch, "_is_wanted", lambda _self, step: step is not None)


@planted
def wrong_base_at_the_agent() -> Iterator[object]:
    """A difference is added to whatever model is there, and its checksum is not looked at."""
    downloads = agent_downloads.Downloads

    def careless(self: Any, whole: bytes) -> Any:
        found = agent_downloads.decode_model(whole, self._desk.lattice())
        if found.name.epoch != self._desk.state.epoch:
            return None
        base = self._desk.state.model if found.step.base_k is not None else None
        model = found.integers if base is None else base + found.integers
        return agent_downloads.FetchedModel(found.name, model, found.turnovers)

    with patch.object(downloads, "_model_in", careless), _any_step():
        yield


@planted
def a_model_goes_back_in_time() -> Iterator[object]:
    """Whatever model comes is taken, also an older one."""

    def any_model(self: Any, whole: bytes) -> Any:
        here = self._desk.state
        found = agent_downloads.decode_model(whole, self._desk.lattice())
        known = here.model_name
        if found.name.epoch != here.epoch:
            return None
        same = known is not None and (known.epoch, known.k) == (here.epoch, found.step.base_k)
        model = found.model(here.model if same else None)
        return agent_downloads.FetchedModel(found.name, model, found.turnovers)

    with patch.object(agent_downloads.Downloads, "_model_in", any_model), _any_step():
        yield


@planted
def no_checksum() -> Iterator[object]:
    decode = wire._decode

    def trusting(payload: bytes, kind: Any, **_: Any) -> Any:
        return decode(payload, kind, check_digest=False)

    with patch.object(wire, "_decode", trusting):
        wire._decode_short.cache_clear()
        yield
    wire._decode_short.cache_clear()


@planted
def ring_too_short() -> Iterator[object]:
    """Only the newest release is kept, and those who have older ones are told to begin anew."""

    def none(_member: Member) -> tuple[int, ...]:
        return ()

    with patch.object(coordinator_state, "_kept_for", none):
        yield


@planted
def epoch_ignored_by_agents() -> Iterator[object]:
    """Whatever epoch is named is the one to be in."""

    def newer(state: Any, epoch: Any) -> agreement.Standing:
        same = state.epoch == epoch
        return agreement.Standing.SAME if same else agreement.Standing.NEWER

    with (
        patch.object(agreement, "standing_of_epoch", newer),
        patch.object(membership, "standing_of_epoch", newer),
    ):
        yield


@planted
def epoch_ignored_by_the_coordinator() -> Iterator[object]:
    """It never sees that its journal is older than what agents know."""
    names = ("newer_past_of_model", "newer_past_of_update")
    with (
        patch.object(coordinator_membership, "newer_past_of_hello", lambda *_: None),
        patch.multiple(machine, **{name: lambda *_: None for name in names}),
    ):
        yield


@planted
def published_is_taken_for_applied() -> Iterator[object]:
    """The broker's PUBACK is believed to be the coordinator's word."""
    publish = agent_upload.Upload._publish

    def trusting(self: Any, outstanding: bytes, now: float) -> None:
        publish(self, outstanding, now)
        self._desk.state = agreement.dual_after_outstanding(self._desk.state)

    with patch.object(agent_upload.Upload, "_publish", trusting):
        yield


@planted
def verdict_of_another_message() -> Iterator[object]:
    """A refusal is taken for the outstanding update, whichever message it is about."""

    def careless(self: Any, verdict: Any, now: float) -> None:
        if self._desk.state.outstanding is None or verdict.code is Code.UNKNOWN_MEMBER:
            return
        self._desk.state = agreement.dual_after_outstanding(self._desk.state)
        self._desk.pace.resend.stop()

    with patch.object(membership.Membership, "_take_verdict", careless):
        yield


@planted
def update_is_never_sent_again() -> Iterator[object]:
    def silent(self: Any, now: float) -> None:
        if self._desk.pace.resend.is_due(now):
            self._desk.pace.resend.again(now)

    with patch.object(agent_upload.Upload, "take_timers", silent):
        yield


@planted
def hello_is_never_said_again() -> Iterator[object]:
    take_timers = membership.Membership.take_timers

    def silent(self: Any, now: float, *, waits: bool) -> None:
        if self.link is not membership.Link.JOINING:
            take_timers(self, now, waits=waits)
        elif self._desk.pace.hello.is_due(now):
            self._desk.pace.hello.again(now)

    with patch.object(membership.Membership, "take_timers", silent):
        yield


@planted
def incarnation_given_twice() -> Iterator[object]:
    """Who can't be reconciled counts from 1 again, in the incarnation it had."""
    record = coordinator_desk.Desk.record

    def same(self: Any, made: Record) -> None:
        if isinstance(made, IncarnationRaised):
            made = replace(made, incarnation=made.incarnation - 1)
        record(self, made)

    with patch.object(coordinator_desk.Desk, "record", same):
        yield


@planted
def former_members_are_forgotten() -> Iterator[object]:
    """Who leaves and comes back is incarnation 1 again, so that old messages fit."""
    apply = FederationState.apply

    def forgetful(self: FederationState, record: Record) -> None:
        apply(self, record)
        if isinstance(record, Left):
            self.retired.pop(record.agent, None)

    with patch.object(FederationState, "apply", forgetful):
        yield


@planted
def welcome_keeps_the_outstanding_update() -> Iterator[object]:
    with patch.object(membership, "without_outstanding", lambda state: state):
        yield


@planted
def snapshot_forgets_who_has_arrived() -> Iterator[object]:
    from_rows = snapshot.from_rows

    def forgetful(rows: Any) -> FederationState:
        loaded = from_rows(rows)
        loaded.arrived.clear()
        return loaded

    with patch("tests.faults.world.from_rows", forgetful):
        yield


@planted
def manifest_is_announced_once() -> Iterator[object]:
    """A manifest that the broker has lost is never said again."""
    with (
        patch.object(releases, "ANNOUNCE_AGAIN_S", 1e9),
        patch.object(releases, "ANNOUNCE_AT_MOST_EVERY_S", 1e9),
    ):
        yield


@planted
def what_rounding_takes_is_lost() -> Iterator[object]:
    """A change is added to what was released, which may have been rounded."""
    with patch.object(FederationState, "_unrounded", lambda self, k: self.versions[k]):
        yield


@planted
def agents_average_in_memory_only() -> Iterator[object]:
    with _not_persisted("earlier"):
        yield


@planted
def average_survives_a_new_incarnation() -> Iterator[object]:
    """It goes on with releases that updates of another incarnation began from."""
    finish = membership.Membership.finish_welcome

    def keeping(self: Any, *args: Any) -> None:
        earlier = self._desk.state.earlier
        finish(self, *args)
        self._desk.state = state.with_changes(self._desk.state, earlier=earlier)

    with patch.object(membership.Membership, "finish_welcome", keeping):
        yield
