"""Updates too long for one message, as the coordinator pulls them: asked for again, and bounded."""

from itertools import pairwise

import numpy as np
import pytest
from tests.machines.coordinator_desk import TOPICS, Desk, code_of
from tests.newcomers import newcomer

from plantfed_coordinator import uploads
from plantfed_coordinator.events import MessageArrived, TimerDue
from plantfed_shared import wire
from plantfed_shared.digest import content_digest
from plantfed_shared.messages import Bye, Chunk, Code, Content, Epoch, Need, Offer, Range, State
from plantfed_shared.topics import Kind
from plantfed_shared.transfer import WINDOW_BYTES

FROM = 100.0


def desk_with(*agents: str, **changes: object) -> Desk:
    desk = Desk(**changes)
    desk.now = FROM
    for agent in agents:
        desk.hello(agent)
    return desk


def long_update(desk: Desk, agent: str) -> tuple[Content, bytes]:
    encoded = wire.encode(desk.update(agent), desk.encode(np.ones(desk.size, dtype=np.int64)))
    return Content(content_digest(encoded), len(encoded)), encoded


def offer(desk: Desk, agent: str) -> tuple[Content, bytes, list[Need]]:
    content, encoded = long_update(desk, agent)
    asked = [m for m in desk.say(agent, Offer(content=content)) if isinstance(m, Need)]
    return content, encoded, asked


def needs_until(desk: Desk, end: float) -> list[tuple[float, str, Need]]:
    """What is asked for by time alone."""
    found = []
    while (due := desk.machine.next_timer()) <= end:
        desk.now = max(desk.now, due)
        sent = desk.handle(TimerDue())
        found += [(desk.now, to, m) for to, m, _ in sent if isinstance(m, Need)]
    desk.now = end
    return found


def test_what_is_lost_of_an_upload_is_asked_for_again_without_another_offer() -> None:
    desk = desk_with("a")
    content, encoded, _ = offer(desk, "a")
    desk.say("a", Chunk(content=content, offset=0, step=None), encoded[:30])
    ((at, to, need),) = needs_until(desk, FROM + 20)
    assert (at, to) == (FROM + 15, "a")
    rest = (Range(30, len(encoded)),)
    assert need == Need(digest=content.digest, ranges=rest, step=None)
    answers = desk.say("a", Chunk(content=content, offset=30, step=None), encoded[30:])
    assert [code_of(m) for m in answers if isinstance(m, State)] == [Code.APPLIED]
    assert needs_until(desk, FROM + 1000) == []


def test_what_is_applied_is_not_pulled_again() -> None:
    desk = desk_with("a")
    content, encoded, _ = offer(desk, "a")
    desk.say("a", Chunk(content=content, offset=0, step=None), encoded)
    for _ in range(3):
        (state,) = desk.say("a", Offer(content=content))  # the STATE was lost, or this is a copy
        assert isinstance(state, State)
        assert code_of(state) == Code.APPLIED
        assert state.offer is not None
    assert needs_until(desk, FROM + 1000) == []
    assert len(offer(desk, "a")[2]) == 1  # the next one is


def test_what_was_not_applied_is_pulled_again_for_its_verdict() -> None:
    desk = desk_with("a")
    encoded = wire.encode(desk.update("a", definition=bytes(8)), b"")
    content = Content(content_digest(encoded), len(encoded))
    for _ in range(2):
        (need,) = desk.say("a", Offer(content=content))
        assert isinstance(need, Need)
        (state,) = desk.say("a", Chunk(content=content, offset=0, step=None), encoded)
        assert isinstance(state, State)
        assert code_of(state) == Code.REJECTED


def test_who_sends_nothing_is_asked_less_and_less_often_and_no_more_after_ten_minutes() -> None:
    desk = desk_with("a")
    content, encoded, _ = offer(desk, "a")
    times = [at - FROM for at, _, _ in needs_until(desk, FROM + 7200)]
    assert times[:4] == [15, 45, 105, 225]
    assert max(b - a for a, b in pairwise(times)) == 120
    assert 480 < times[-1] < 600
    # what was here is not thrown away: the link may have had a budget until midnight
    desk.say("a", Chunk(content=content, offset=0, step=None), encoded[:30])
    (need,) = desk.say("a", Offer(content=content))
    assert isinstance(need, Need)
    assert need.ranges == (Range(30, len(encoded)),)


def test_an_upload_is_forgotten_when_nothing_has_come_for_two_days() -> None:
    desk = desk_with("a")
    content, encoded, _ = offer(desk, "a")
    desk.say("a", Chunk(content=content, offset=0, step=None), encoded[:30])
    needs_until(desk, FROM + 2 * 86400 + 600)
    (need,) = desk.say("a", Offer(content=content))
    assert isinstance(need, Need)
    assert need.ranges == (Range(0, len(encoded)),)


@pytest.mark.parametrize(("name", "value"), [("AT_ONCE", 1), ("BYTES_AT_ONCE", 1)])
def test_uploads_take_turns(monkeypatch: pytest.MonkeyPatch, name: str, value: int) -> None:
    monkeypatch.setattr(uploads, name, value)
    desk = desk_with("a", "b", "c")
    content, encoded, asked = offer(desk, "a")
    assert len(asked) == 1
    assert offer(desk, "b")[2] == offer(desk, "c")[2] == []
    assert {to for _, to, _ in needs_until(desk, FROM + 60)} == {"a"}
    desk.say("a", Chunk(content=content, offset=0, step=None), encoded)
    assert [to for _, to, _ in needs_until(desk, FROM + 80)] == ["b"]


def test_the_next_in_turn_is_asked_at_once_when_an_upload_is_complete(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(uploads, "AT_ONCE", 1)
    desk = desk_with("a", "b")
    content, encoded, _ = offer(desk, "a")
    offer(desk, "b")
    payload = wire.encode(Chunk(content=content, offset=0, step=None), encoded)
    sent = desk.handle(MessageArrived(TOPICS.up("a", Kind.CHUNK), payload))
    assert [to for to, message, _ in sent if isinstance(message, Need)] == ["b"]


def test_an_upload_that_has_stopped_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "AT_ONCE", 1)
    desk = desk_with("a", "b")
    offer(desk, "a")
    needs_until(desk, FROM + 300)
    offer(desk, "b")
    asked = needs_until(desk, FROM + 620)
    assert [(at, to) for at, to, _ in asked if to == "b"] == [(FROM + 600, "b"), (FROM + 615, "b")]
    assert not [at for at, to, _ in asked if to == "a" and at >= FROM + 600]


def test_an_agent_has_one_upload() -> None:
    desk = desk_with("a")
    content, encoded, _ = offer(desk, "a")
    other = Content(bytes(16), 50)
    (need,) = desk.say("a", Offer(content=other))
    assert isinstance(need, Need)
    assert need.digest == other.digest
    assert desk.say("a", Chunk(content=content, offset=0, step=None), encoded) == []


def test_who_leaves_is_asked_for_nothing() -> None:
    desk = desk_with("a", "b")
    offer(desk, "a")
    desk.say("a", Bye(incarnation=1))
    assert needs_until(desk, FROM + 100) == []


def test_a_long_upload_is_never_asked_for_twice_while_it_comes() -> None:
    desk = desk_with("a", model={"kind": "dense", "hidden": (60_000, 2)})
    rng = np.random.default_rng(1)
    change = rng.integers(-(2**20), 2**20, desk.size)
    encoded = wire.encode(desk.update("a", change), desk.encode(change))
    content = Content(content_digest(encoded), len(encoded))
    assert len(encoded) > 2 * WINDOW_BYTES
    queue = [m for m in desk.say("a", Offer(content=content)) if isinstance(m, Need)]
    asked = 0
    while queue:
        for start, stop in queue.pop(0).ranges:
            asked += stop - start
            for at in range(start, stop, 40_000):
                desk.now += 14
                piece = encoded[at : min(at + 40_000, stop)]
                chunk = Chunk(content=content, offset=at, step=None)
                queue += [m for m in desk.say("a", chunk, piece) if isinstance(m, Need)]
    assert asked == len(encoded)


# ---------------------------------------------------------------- what is asked for twice


def test_the_same_need_is_answered_once_within_ten_seconds() -> None:
    desk = desk_with("a")
    definition = Content(content_digest(desk.definition.to_bytes()), 10)
    need = Need(digest=definition.digest, ranges=(Range(0, 10),), step=None)
    assert len(desk.say("a", need)) == 1
    desk.now += 9.9
    assert desk.say("a", need) == []
    # another one is another one
    assert len(desk.say("a", need.model_copy(update={"ranges": (Range(0, 11),)}))) == 1
    assert len(desk.say("a", need)) == 1
    desk.now += 10.0
    assert len(desk.say("a", need)) == 1


def test_after_a_hello_it_is_answered_again() -> None:
    desk = desk_with("a")
    digest = content_digest(desk.definition.to_bytes())
    need = Need(digest=digest, ranges=(Range(0, 10),), step=None)
    assert len(desk.say("a", need)) == 1
    desk.say("a", newcomer(epoch=Epoch(1, 5), incarnation=1))
    assert len(desk.say("a", need)) == 1


def test_what_one_agent_asks_for_is_no_copy_of_what_another_does() -> None:
    desk = desk_with("a", "b")
    digest = content_digest(desk.definition.to_bytes())
    need = Need(digest=digest, ranges=(Range(0, 10),), step=None)
    assert len(desk.say("a", need)) == len(desk.say("b", need)) == 1
