"""What an agent does when others fetch the model too, message by message."""

from tests.machines.agent_on_a_line import (
    TOPICS,
    WHOLE,
    Line,
    asked,
    content_of,
    model,
    name_of,
    needs,
)

from plantfed_agent.budget import LinkLimits
from plantfed_agent.events import (
    Action,
    BusDisconnected,
    LaneAnswered,
    LinkRead,
    Listen,
    MessageArrived,
    Note,
    Publish,
    StopListening,
    Train,
)
from plantfed_shared.day_ledger import Spent
from plantfed_shared.local_time import LocalTime
from plantfed_shared.messages import Chunk, Group, ModelStep, Need, Part, Range
from plantfed_shared.topics import Kind
from plantfed_shared.transfer import PART_BYTES, WINDOW_BYTES
from plantfed_shared.wire import decode, encode

CONTENT = model(5)
STEP = ModelStep(5, None)
PIECE = 32_768


def group(number: int, missed: int | None = None) -> Group:
    return Group(content=content_of(CONTENT), step=STEP, number=number, missed=missed)


def parts(actions: list[Action]) -> list[tuple[int, int]]:
    """Group and part of every PART."""
    sent = [a for a in actions if isinstance(a, Publish) and a.topic.endswith("/part")]
    messages = [decode(a.payload, Kind.PART).message for a in sent]
    return [(m.group, m.part) for m in messages if isinstance(m, Part)]


def listens(actions: list[Action]) -> list[str]:
    return [a.topic for a in actions if isinstance(a, Listen)]


def stops(actions: list[Action]) -> list[str]:
    return [a.topic for a in actions if isinstance(a, StopListening)]


class GroupLine(Line):
    """An agent that has asked for the newest model and is invited to a group."""

    def __init__(self, limits: LinkLimits | None = None) -> None:
        super().__init__(limits=limits)
        if limits is not None:
            self.spend(0)
        assert asked(self.hear(self.welcome(5)))

    def spend(self, down: int) -> None:
        self.machine.handle(LinkRead(LocalTime(1, 43_200.0), Spent(0, down), 0), self.now)

    def invite(self, number: int, missed: int | None = None) -> list[Action]:
        return self.hear(group(number, missed))

    def answer(self, number: int, part: int, *, allowed: bool = True) -> list[Action]:
        event = LaneAnswered(TOPICS.lane(number, part), allowed)
        return self.machine.handle(event, self.now)

    def lane(self, number: int, part: int, pieces: slice = slice(None)) -> list[Action]:
        """A part, or some pieces of it, comes on its lane."""
        first = part * PART_BYTES
        actions: list[Action] = []
        for offset in range(first, min(first + PART_BYTES, len(CONTENT)), PIECE)[pieces]:
            chunk = Chunk(content=content_of(CONTENT), offset=offset, step=STEP)
            payload = encode(chunk, CONTENT[offset : min(offset + PIECE, first + PART_BYTES)])
            event = MessageArrived(TOPICS.lane(number, part), payload)
            actions += self.machine.handle(event, self.now)
        return actions


def test_it_listens_first_and_asks_when_the_broker_has_answered() -> None:
    line = GroupLine()
    actions = line.invite(7)
    assert listens(actions) == [TOPICS.lane(7, 0), TOPICS.lane(7, 1)]
    assert not asked(actions)
    assert not parts(actions)
    assert parts(line.answer(7, 1)) == [(7, 1)]
    assert parts(line.answer(7, 0)) == [(7, 0)]
    assert parts(line.answer(7, 2)) == []  # it does not listen to that


def test_it_leaves_a_lane_when_its_part_is_here_and_never_asks_for_more_than_its_window() -> None:
    line = GroupLine()
    line.invite(7)
    open_lanes = 2
    for part in range(-(-len(CONTENT) // PART_BYTES)):
        line.answer(7, part)
        actions = line.lane(7, part)
        assert stops(actions)[:1] == [TOPICS.lane(7, part)]
        open_lanes += len(listens(actions)) - len(stops(actions))
        assert open_lanes <= 2
    assert open_lanes == 0
    assert any(isinstance(a, Train) for a in actions)
    assert line.machine.state.model_name == name_of(5)


def test_who_is_late_asks_for_the_part_in_the_next_group_and_for_the_others_where_it_was() -> None:
    line = GroupLine()
    line.invite(7)
    actions = line.invite(8, missed=0)
    assert (listens(actions), stops(actions)) == ([TOPICS.lane(8, 0)], [TOPICS.lane(7, 0)])
    assert listens(line.invite(8, missed=0)) == []  # a copy
    actions = line.lane(7, 1)
    assert (listens(actions), stops(actions)) == ([TOPICS.lane(8, 2)], [TOPICS.lane(7, 1)])


def test_what_has_come_before_one_is_told_that_it_was_late_is_not_asked_for_again() -> None:
    line = GroupLine()
    line.invite(7)
    assert listens(line.lane(7, 0)) == [TOPICS.lane(7, 2)]
    assert listens(line.invite(8, missed=0)) == []


def test_of_which_nothing_comes_on_its_lane_is_asked_for_alone_and_so_is_the_rest() -> None:
    line = GroupLine()
    line.invite(7)
    line.lane(7, 0, slice(0, 1))
    actions = line.tick()
    rest = (Range(PIECE, PIECE + WINDOW_BYTES),)
    assert asked(actions) == [Need(digest=content_of(CONTENT).digest, ranges=rest, step=STEP)]
    assert sorted(stops(actions)) == [TOPICS.lane(7, 0), TOPICS.lane(7, 1)]
    assert listens(line.invite(9)) == []


def test_where_the_broker_says_no_it_asks_alone_at_once() -> None:
    line = GroupLine()
    line.invite(7)
    (need,) = needs(line.answer(7, 0, allowed=False))
    assert need.ranges == (Range(0, WINDOW_BYTES),)


def test_after_a_cut_it_fills_the_gap_alone_and_goes_on_in_the_group() -> None:
    line = GroupLine()
    line.invite(7)
    line.lane(7, 0, slice(0, 1))
    line.machine.handle(BusDisconnected(), line.now)
    line.connect()
    line.hear(line.state(5))
    (need,) = needs(line.tick())
    assert need.ranges == (Range(PIECE, PART_BYTES),)
    actions = line.lane(7, 0, slice(1, 2))
    assert listens(actions) == [TOPICS.lane(7, 1), TOPICS.lane(7, 2)]


def test_of_a_model_that_is_gone_it_hears_no_more() -> None:
    line = GroupLine()
    line.invite(7)
    actions = line.hear(line.state(6))
    assert sorted(stops(actions)) == [TOPICS.lane(7, 0), TOPICS.lane(7, 1)]
    assert asked(line.tick()) == [WHOLE]


def test_with_a_window_smaller_than_a_part_it_asks_alone() -> None:
    line = GroupLine(limits=LinkLimits(day_down=1_000_000))
    line.spend(960_000)
    actions = line.invite(7)
    assert listens(actions) == []
    (need,) = needs(actions)
    assert 0 < need.ranges[0].stop < 20_000


def test_an_invitation_to_something_else_is_not_followed() -> None:
    line = GroupLine()
    foreign = group(7).model_copy(update={"step": ModelStep(5, 3)})
    assert line.hear(foreign) == []
    huge = group(7).model_copy(update={"content": content_of(CONTENT)._replace(size=10**8)})
    (note,) = line.hear(huge)
    assert isinstance(note, Note)
    assert note.warning
    line.invite(7)
    other = content_of(model(6))
    assert line.hear(group(8).model_copy(update={"content": other})) == []
