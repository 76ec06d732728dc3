"""What the federation machine sends to those that want a model."""

import numpy as np
import pytest
from tests.machines.coordinator_desk import TOPICS, Desk

from plantfed_coordinator.events import (
    BusConnected,
    MessageArrived,
    OperatorOrder,
    Order,
    TimerDue,
)
from plantfed_coordinator.records import Applied
from plantfed_shared import wire
from plantfed_shared.codec import decode_model
from plantfed_shared.digest import content_digest
from plantfed_shared.lattice import checksum
from plantfed_shared.messages import (
    Chunk,
    Content,
    ModelName,
    ModelStep,
    Need,
    Range,
    State,
    Status,
    Want,
)
from plantfed_shared.patience import ANSWERED_FOR_S
from plantfed_shared.topics import Kind
from plantfed_shared.transfer import WINDOW_BYTES

WANT = Want(have=None, window=WINDOW_BYTES, others=0)


def ones(desk: Desk) -> np.ndarray:
    return np.ones(desk.size, dtype=np.int64)


def test_a_model_arrives_as_its_name_says() -> None:
    desk = Desk()
    desk.hello("a")
    event = MessageArrived(TOPICS.up("a", Kind.WANT), wire.encode(WANT))
    ((_, chunk, piece),) = desk.handle(event)
    assert isinstance(chunk, Chunk)
    assert chunk.content == Content(content_digest(piece), len(piece))
    found = decode_model(piece, desk.state.terms.lattice)
    assert found.name == ModelName(desk.state.epoch, 0, checksum(desk.state.model))
    assert (found.model(None) == desk.state.model).all()


def test_a_model_comes_as_the_difference_from_the_one_that_is_there_and_by_itself() -> None:
    desk = Desk(compression={"coding": "entropy"})
    for agent in "abc":
        desk.hello(agent)
    base = desk.state.model
    desk.answer("a", desk.update("a", want=WINDOW_BYTES))
    event = MessageArrived(
        TOPICS.up("b", Kind.UPDATE),
        wire.encode(desk.update("b", want=WINDOW_BYTES), desk.encode(ones(desk))),
    )
    sent = [(to, piece) for to, m, piece in desk.handle(event) if isinstance(m, Chunk)]
    assert [to for to, _ in sent] == ["a", "b"]
    assert sent[0][1] == sent[1][1]
    found = decode_model(sent[0][1], desk.state.terms.lattice)
    assert found.step == ModelStep(1, 0)
    assert (found.model(base) == desk.state.model).all()


def test_a_want_stands_until_there_is_a_newer_model() -> None:
    desk = Desk()
    for agent in "abc":
        desk.hello(agent)
    newest = desk.update("a").base
    assert desk.say("c", Want(have=newest, window=WINDOW_BYTES, others=0)) == []
    desk.answer("a", desk.update("a"))
    event = MessageArrived(
        TOPICS.up("b", Kind.UPDATE), wire.encode(desk.update("b"), desk.encode(ones(desk)))
    )
    assert [to for to, m, _ in desk.handle(event) if isinstance(m, Chunk)] == ["c"]
    assert desk.state.members["c"].pinned == 1
    assert desk.state.members["c"].held == 0


def test_a_want_from_a_model_that_is_not_ours_is_served_whole() -> None:
    desk = Desk()
    desk.hello("a")
    twin = desk.update("a").base._replace(checksum=1)
    event = MessageArrived(
        TOPICS.up("a", Kind.WANT), wire.encode(Want(have=twin, window=WINDOW_BYTES, others=0))
    )
    ((_, _, piece),) = desk.handle(event)
    assert decode_model(piece, desk.state.terms.lattice).step == ModelStep(0, None)


def test_no_more_of_a_model_is_sent_than_its_window_and_the_rest_after_a_restart() -> None:
    desk = Desk()
    desk.hello("a")
    (chunk,) = desk.say("a", Want(have=None, window=10, others=0))
    assert isinstance(chunk, Chunk)
    whole = chunk.content
    again = Desk()  # a coordinator that has encoded nothing yet
    again.hello("a")
    need = Need(digest=whole.digest, ranges=(Range(10, whole.size),), step=ModelStep(0, None))
    event = MessageArrived(TOPICS.up("a", Kind.NEED), wire.encode(need))
    ((_, rest, piece),) = again.handle(event)
    assert (rest, len(piece)) == (
        Chunk(content=whole, offset=10, step=ModelStep(0, None)),
        whole.size - 10,
    )
    unknown = again.say("a", need.model_copy(update={"step": ModelStep(7, None)}))
    assert isinstance(unknown[0], Chunk)  # what is encoded is found by its digest
    assert isinstance(Desk().say("a", need)[0], State)


def test_a_need_that_cannot_be_served_is_answered_with_the_newest_model() -> None:
    desk = Desk()
    desk.hello("a")
    (state,) = desk.say("a", Need(digest=bytes(16), ranges=(Range(0, 5),), step=None))
    assert isinstance(state, State)
    assert state.offer is not None


# ---------------------------------------------------------------- who lets others go first


def served(desk: Desk, agent: str, want: int = WINDOW_BYTES, **fields: object) -> list[str]:
    """To whom models go when this agent's update has come."""
    event = MessageArrived(
        TOPICS.up(agent, Kind.UPDATE),
        wire.encode(desk.update(agent, want=want, **fields), desk.encode(ones(desk))),
    )
    return [to for to, m, _ in desk.handle(event) if isinstance(m, Chunk)]


def test_a_member_that_lets_others_go_first_gets_its_model_after_their_updates() -> None:
    desk = Desk(schedule={"arrivals": 1})
    for agent in "abcd":
        desk.hello(agent)
    assert served(desk, "a", others=128) == []  # half of four members
    assert served(desk, "b") == ["b"]
    assert served(desk, "c") == ["a", "c"]


def test_whoever_sends_again_and_again_counts_once() -> None:
    desk = Desk(schedule={"arrivals": 1})
    for agent in "abcd":
        desk.hello(agent)
    assert served(desk, "a", others=128) == []
    for _ in range(3):
        assert served(desk, "b") == ["b"]
    assert served(desk, "a", others=128) == []  # its own doesn't count at all
    assert served(desk, "c") == ["c"]
    assert served(desk, "b") == ["a", "b"]


def test_it_waits_for_others_no_longer_than_for_a_release() -> None:
    desk = Desk(schedule={"arrivals": 1, "release_after_s": 50})
    for agent in "abcd":
        desk.hello(agent)
    assert served(desk, "a", others=255) == []
    due = desk.now + 50
    assert desk.machine.next_timer() <= due
    desk.now = due
    assert [to for to, m, _ in desk.handle(TimerDue()) if isinstance(m, Chunk)] == ["a"]


def test_an_explicit_want_is_answered_at_once_although_an_update_let_others_go_first() -> None:
    desk = Desk(schedule={"arrivals": 1})
    for agent in "abcd":
        desk.hello(agent)
    base = desk.update("a").base
    assert served(desk, "a", others=255) == []
    event = MessageArrived(
        TOPICS.up("a", Kind.WANT),
        wire.encode(Want(have=base, window=WINDOW_BYTES, others=0)),
    )
    assert [to for to, m, _ in desk.handle(event) if isinstance(m, Chunk)] == ["a"]


def test_only_live_members_are_waited_for_and_who_left_is_forgotten() -> None:
    desk = Desk(schedule={"arrivals": 1, "live_within_s": 100, "release_after_s": 1000})
    for agent in "abcdefgh":
        desk.hello(agent)
    desk.now = 200.0
    for agent in "ab":
        desk.say(agent, Want(have=None, window=1, others=0))
    assert served(desk, "a", others=255) == []  # all but one of the two that are live
    assert served(desk, "b", others=255) == ["a"]
    desk.handle(OperatorOrder(Order.REMOVE, "b"))
    assert served(desk, "a") == ["a"]


def test_who_is_away_or_will_not_go_on_soon_is_not_waited_for() -> None:
    desk = Desk(schedule={"arrivals": 1})
    for agent in "abcd":
        desk.hello(agent)
    assert served(desk, "b", want=0) == []
    assert served(desk, "a", others=200) == []  # 2 of a, c, d
    assert served(desk, "c") == ["c"]
    gone = MessageArrived(TOPICS.status("d"), wire.encode(Status(online=False, software="")))
    assert [to for to, m, _ in desk.handle(gone) if isinstance(m, Chunk)] == ["a"]


def test_who_has_left_is_not_waited_for() -> None:
    desk = Desk(schedule={"arrivals": 1})
    for agent in "abc":
        desk.hello(agent)
    assert served(desk, "a", others=200) == []  # both others
    assert served(desk, "b") == ["b"]
    order = OperatorOrder(Order.REMOVE, "b")
    assert [to for to, m, _ in desk.handle(order) if isinstance(m, Chunk)] == []
    assert served(desk, "c") == ["a", "c"]


def test_the_last_model_waits_for_nobody() -> None:
    desk = Desk(schedule={"arrivals": 1, "max_releases": 2})
    for agent in "abcd":
        desk.hello(agent)
    assert served(desk, "a", others=255) == []
    assert served(desk, "b") == ["a", "b"]


def test_what_the_broker_doubles_is_served_once() -> None:
    desk = Desk(schedule={"arrivals": 1})
    desk.hello("a")
    assert served(desk, "a") == ["a"]
    desk.hello("b")
    base = desk.update("b").base
    messages = [
        (Kind.UPDATE, wire.encode(desk.update("b", want=WINDOW_BYTES), desk.encode(ones(desk)))),
        (Kind.WANT, wire.encode(Want(have=base, window=WINDOW_BYTES - 1, others=0))),
    ]
    for kind, payload in messages:
        event = MessageArrived(TOPICS.up("b", kind), payload)
        models = [m for _ in range(100) for _, m, _ in desk.handle(event) if isinstance(m, Chunk)]
        assert len(models) == 1, kind
        desk.now += ANSWERED_FOR_S
        assert any(isinstance(m, Chunk) for _, m, _ in desk.handle(event)), "not heard: asked again"


@pytest.mark.parametrize("between", ["the coordinator reconnects", "the agent says hello"])
def test_an_update_that_comes_again_after_an_outage_asks_for_the_model_again(between: str) -> None:
    desk = Desk()
    desk.hello("a")
    payload = wire.encode(desk.update("a", want=WINDOW_BYTES), desk.encode(ones(desk)))
    again = MessageArrived(TOPICS.up("a", Kind.UPDATE), payload)

    def models() -> list[Chunk]:
        return [m for _, m, _ in desk.handle(again) if isinstance(m, Chunk)]

    assert len(models()) == 1
    applied = sum(isinstance(record, Applied) for record in desk.records)
    assert applied == 1
    # the model of before was on a connection that broke
    if between == "the agent says hello":
        member = desk.state.members["a"]
        desk.hello(
            "a",
            incarnation=member.incarnation,
            applied_seq=member.last_seq,
            dual_checksum=member.contribution.dual_checksum,
        )
    else:
        desk.handle(BusConnected(WINDOW_BYTES))
    assert len(models()) == 1
    assert sum(isinstance(record, Applied) for record in desk.records) == applied
