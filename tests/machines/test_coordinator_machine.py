"""The federation machine, message by message."""

from typing import Any

import numpy as np
import pytest
from tests.federation_world import small_definition
from tests.machines.coordinator_desk import TOPICS, Desk, code_of

from plantfed_coordinator.events import (
    Audit,
    BusConnected,
    MessageArrived,
    Note,
    OperatorOrder,
    Order,
    Persist,
    Publish,
    TimerDue,
)
from plantfed_coordinator.records import Applied, Left
from plantfed_shared import wire
from plantfed_shared.digest import content_digest
from plantfed_shared.lattice import checksum, upper_half
from plantfed_shared.messages import (
    Bye,
    Chunk,
    Code,
    Content,
    Epoch,
    ModelName,
    Need,
    Offer,
    Range,
    State,
    Verdict,
    Welcome,
)
from plantfed_shared.topics import Kind


def ones(desk: Desk) -> np.ndarray:
    return np.ones(desk.size, dtype=np.int64)


def test_a_new_agent_is_welcomed_with_the_model_as_it_is() -> None:
    desk = Desk()
    welcome = desk.hello("a")
    assert isinstance(welcome, Welcome)
    assert (welcome.incarnation, welcome.dual) == (1, None)
    assert welcome.offer.name == ModelName(Epoch(1, 5), 0, checksum(desk.state.model))
    assert desk.state.members["a"].contribution.z is desk.state.model


def test_the_same_hello_again_gives_a_higher_incarnation() -> None:
    desk = Desk()
    desk.hello("a")
    welcome = desk.hello("a")
    assert isinstance(welcome, Welcome)
    assert welcome.incarnation == 2


def test_an_agent_that_agrees_gets_state_with_the_newest_model() -> None:
    desk = Desk()
    desk.hello("a")
    state = desk.hello("a", epoch=Epoch(1, 5), incarnation=1)
    assert isinstance(state, State)
    assert state.offer is not None
    assert (state.incarnation, state.last_seq, state.verdict) == (1, 0, None)


def test_an_agent_that_missed_a_verdict_is_told_and_one_with_another_update_is_welcomed() -> None:
    desk = Desk()
    desk.hello("a")
    update = desk.update("a")
    sent = wire.encode(update, desk.encode(np.ones(desk.size, dtype=np.int64)))
    desk.answer("a", update)
    digest = wire.envelope_digest(sent)
    claims: dict[str, Any] = {"epoch": Epoch(1, 5), "incarnation": 1}
    state = desk.hello("a", **claims, outstanding=digest)
    assert isinstance(state, State)
    assert state.verdict == Verdict(digest, Code.APPLIED, "")
    assert state.last_digest == digest
    for outstanding in (digest ^ 1, None):
        other = Desk()
        other.hello("a")
        other.answer("a", other.update("a"))
        welcome = other.hello("a", **claims, outstanding=outstanding)
        assert isinstance(welcome, Welcome)
        assert welcome.incarnation == 2
        assert welcome.dual is not None


def test_an_update_is_persisted_before_it_is_answered() -> None:
    desk = Desk()
    desk.hello("a")
    update = desk.update("a")
    actions = desk.machine.handle(
        MessageArrived(
            TOPICS.up("a", Kind.UPDATE),
            wire.encode(update, desk.encode(np.ones(desk.size, dtype=np.int64))),
        ),
        0.0,
    )
    kinds = [type(a.record) if isinstance(a, Persist) else type(a) for a in actions]
    assert kinds.index(Applied) < kinds.index(Publish)


def test_a_duplicate_changes_nothing_and_is_answered_again() -> None:
    desk = Desk()
    desk.hello("a")
    update = desk.update("a")
    first = desk.answer("a", update)
    records, total = len(desk.records), desk.state.consensus.total.copy()
    second = desk.answer("a", update)
    assert code_of(first) is code_of(second) is Code.APPLIED
    assert len(desk.records) == records
    assert (desk.state.consensus.total == total).all()


def test_an_older_duplicate_gets_no_verdict() -> None:
    desk = Desk()
    desk.hello("a")
    old = desk.update("a")
    desk.answer("a", old)
    desk.answer("a", desk.update("a"))
    assert desk.answer("a", old).verdict is None


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"weight": 2}, Code.REJECTED),
        ({"definition": b"anothers"}, Code.REJECTED),
        ({"dual_check": 1}, Code.REJECTED),
        ({"base": ModelName(Epoch(1, 5), 0, 1)}, None),
        ({"base": ModelName(Epoch(0, 5), 0, 1)}, Code.BASE_GONE),
    ],
)
def test_an_update_that_does_not_fit_changes_nothing(
    fields: dict[str, Any], code: Code | None
) -> None:
    desk = Desk()
    desk.hello("a")
    answer = desk.answer("a", desk.update("a", **fields))
    assert code_of(answer) is (code or Code.BASE_GONE)
    assert not any(isinstance(r, Applied) for r in desk.records)


@pytest.mark.parametrize(
    "tail", [b"", b"\x01", b"\x03" + bytes(200), b"\x04" + b"\xff\xff\xff\x7f" * 22]
)
def test_a_change_that_cannot_be_read_is_rejected_and_counted(tail: bytes) -> None:
    desk = Desk()
    desk.hello("a")
    assert code_of(desk.answer("a", desk.update("a"), tail)) is Code.REJECTED
    assert desk.machine.presence["a"].rejected == 1


def test_a_change_that_would_leave_the_lattice_is_rejected_not_wrapped() -> None:
    desk = Desk()
    desk.hello("a")
    change = np.full(desk.size, 2**30 - 1, dtype=np.int64)
    update = desk.update("a", change)
    assert code_of(desk.answer("a", update, desk.encode(change))) is Code.REJECTED


def test_a_base_counts_only_with_the_name_of_a_kept_version() -> None:
    desk = Desk()
    for agent in ("a", "b", "c"):
        desk.hello(agent)
    pinned = desk.update("c").base
    desk.answer("a", desk.update("a"))
    desk.answer("b", desk.update("b"))
    assert (pinned.k, desk.state.k, sorted(desk.state.versions)) == (0, 1, [0, 1])
    for other in (
        pinned._replace(checksum=pinned.checksum ^ 1),
        pinned._replace(epoch=Epoch(0, 5)),
        pinned._replace(k=1),
    ):
        assert code_of(desk.answer("c", desk.update("c", base=other))) is Code.BASE_GONE
    assert desk.state.members["c"].last_seq == 0


def test_the_sum_of_all_weights_stays_within_the_lattice() -> None:
    algorithm = {**small_definition().algorithm.model_dump(), "weighting": "rows"}
    desk = Desk(algorithm=algorithm)
    desk.hello("a")
    desk.hello("b")
    assert code_of(desk.answer("a", desk.update("a", weight=2**32 - 1))) is Code.REJECTED
    assert code_of(desk.answer("a", desk.update("a", weight=2**32 - 2))) is Code.APPLIED
    assert code_of(desk.answer("b", desk.update("b", weight=2))) is Code.REJECTED
    assert code_of(desk.answer("a", desk.update("a", weight=2**32 - 2))) is Code.APPLIED
    assert desk.state.consensus.weight == 2**32 - 1


def test_a_change_longer_than_allowed_is_rejected() -> None:
    algorithm = {**small_definition().algorithm.model_dump(), "max_norm": 1e-5}
    desk = Desk(algorithm=algorithm)
    desk.hello("a")
    assert code_of(desk.answer("a", desk.update("a"))) is Code.REJECTED


def test_the_length_is_measured_in_parameter_units_whatever_the_relaxation() -> None:
    algorithm = {**small_definition().algorithm.model_dump(), "relaxation": 1.5}
    for limit, code in ((0.0001, Code.APPLIED), (0.00005, Code.REJECTED)):
        desk = Desk(algorithm={**algorithm, "max_norm": limit})
        desk.hello("a")
        length = 2**-16 * desk.size**0.5
        assert 0.00005 < length < 0.0001
        ones = np.ones(desk.size, dtype=np.int64)
        dual = desk.state.terms.lattice.relaxed(ones)
        update = desk.update("a", dual_check=upper_half(checksum(dual)))
        assert code_of(desk.answer("a", update)) is code


def test_equal_weights_come_back_with_the_settings() -> None:
    algorithm = {**small_definition().algorithm.model_dump(), "weighting": "rows"}
    desk = Desk(algorithm=algorithm)
    desk.hello("a")
    desk.answer("a", desk.update("a", weight=5000))
    assert desk.state.consensus.weight == 5000
    desk.machine.start_epoch(small_definition().to_bytes(), "settings were edited")
    assert desk.state.consensus.weight == 1


def test_a_stranger_is_asked_to_say_hello() -> None:
    desk = Desk()
    desk.hello("a")
    update = desk.update("a")
    assert code_of(desk.answer("b", update)) is Code.UNKNOWN_MEMBER


def test_an_old_incarnation_is_refused() -> None:
    desk = Desk()
    desk.hello("a")
    update = desk.update("a")
    desk.hello("a")
    assert code_of(desk.answer("a", update)) is Code.OLD_INCARNATION


def test_strangers_leave_no_trace() -> None:
    desk = Desk()
    for number in range(50):
        topic = TOPICS.up(f"made-up-{number}", Kind.HELLO)
        desk.machine.handle(MessageArrived(topic, b"garbage"), 0.0)
    assert not desk.machine.presence


def test_bye_erases_and_a_later_hello_joins_anew() -> None:
    desk = Desk()
    desk.hello("a")
    desk.answer("a", desk.update("a"))
    (state,) = [m for m in desk.say("a", Bye(incarnation=1)) if isinstance(m, State)]
    assert code_of(state) is Code.LEFT
    assert not desk.state.members
    assert desk.state.consensus.weight == 0
    welcome = desk.hello("a", epoch=Epoch(1, 5), incarnation=1, applied_seq=1)
    assert isinstance(welcome, Welcome)
    assert welcome.incarnation == 2


@pytest.mark.parametrize(("left", "claimed", "given"), [(3, 0, 4), (3, 1, 4), (0, 4, 5), (3, 6, 7)])
def test_an_incarnation_is_higher_than_any_before(left: int, claimed: int, given: int) -> None:
    """Also than those of an earlier membership, and those only the agent still knows of."""
    desk = Desk()
    for _ in range(left):
        desk.hello("a")
    desk.say("a", Bye(incarnation=left))
    assert not desk.state.members
    welcome = desk.hello("a", incarnation=claimed)
    assert isinstance(welcome, Welcome)
    assert welcome.incarnation == given
    again = desk.hello("a", incarnation=given + 2)
    assert isinstance(again, Welcome)
    assert again.incarnation == given + 3


def test_the_operator_keeps_an_agent_out_until_it_is_admitted() -> None:
    desk = Desk()
    desk.hello("a")
    desk.handle(OperatorOrder(Order.REMOVE, "a"))
    assert Left("a", barred=True) in desk.records
    refusal = desk.hello("a")
    assert isinstance(refusal, State)
    assert code_of(refusal) is Code.REMOVED
    desk.handle(OperatorOrder(Order.ADMIT, "a"))
    assert isinstance(desk.hello("a"), Welcome)


def test_an_update_too_long_for_one_message_is_pulled_and_survives_a_lost_piece() -> None:
    desk = Desk()
    desk.hello("a")
    encoded = wire.encode(desk.update("a"), desk.encode(np.ones(desk.size, dtype=np.int64)))
    content = Content(content_digest(encoded), len(encoded))
    (need,) = desk.say("a", Offer(content=content))
    whole = (Range(0, len(encoded)),)
    assert need == Need(digest=content.digest, ranges=whole, step=None)
    desk.say("a", Chunk(content=content, offset=0, step=None), encoded[:50])
    (again,) = desk.say("a", Offer(content=content))
    rest = (Range(50, len(encoded)),)
    assert again == Need(digest=content.digest, ranges=rest, step=None)
    (state,) = [
        m
        for m in desk.say("a", Chunk(content=content, offset=50, step=None), encoded[50:])
        if isinstance(m, State)
    ]
    assert code_of(state) is Code.APPLIED
    assert state.verdict is not None
    assert state.verdict.digest == wire.envelope_digest(encoded)


def test_an_offer_longer_than_any_update_is_refused() -> None:
    desk = Desk()
    desk.hello("a")
    (state,) = desk.say("a", Offer(content=Content(bytes(16), 10**6)))
    assert isinstance(state, State)
    assert code_of(state) is Code.REJECTED
    assert desk.machine.presence["a"].rejected == 1


def test_one_bad_message_changes_nothing_and_leaves_one_note_and_one_audit_entry() -> None:
    desk = Desk()
    before = desk.state.model
    actions = desk.machine.handle(MessageArrived(TOPICS.up("a", Kind.HELLO), b"\x00garbage"), 0.0)
    assert [type(action) for action in actions] == [Audit, Note]
    assert desk.state.model is before
    actions = Desk().machine.handle(MessageArrived("somewhere/else", b""), 0.0)
    assert [type(action) for action in actions] == [Audit, Note]


def test_the_manifest_is_published_at_every_connect_and_again_while_nothing_happens() -> None:
    desk = Desk()
    assert len(desk.handle(BusConnected(48 * 1024))) == 1
    desk.now = desk.machine.next_timer()
    assert len(desk.handle(TimerDue())) == 1
    assert desk.machine.next_timer() > desk.now + 30
