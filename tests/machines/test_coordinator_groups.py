"""What the federation machine says to several agents that want one long model at once."""

from typing import Any

import pytest
from tests.machines.coordinator_desk import TOPICS, Desk

from plantfed_coordinator.events import MessageArrived, OperatorOrder, Order, Publish, TimerDue
from plantfed_coordinator.groups import GATHER_S, IDLE_AFTER_S, LONGEST_WAIT_S, WAIT_S
from plantfed_shared import wire
from plantfed_shared.messages import (
    Chunk,
    Code,
    Content,
    Group,
    Manifest,
    Message,
    ModelStep,
    Part,
    State,
    Want,
)
from plantfed_shared.topics import Kind
from plantfed_shared.transfer import PART_BYTES, WINDOW_BYTES

WHOLE = Want(have=None, window=WINDOW_BYTES, others=0)
STEP = ModelStep(0, None)


class Many(Desk):
    """A machine whose model has four parts, and some members."""

    def __init__(self, agents: str = "abcd") -> None:
        super().__init__(
            model={"hidden": [300, 200]}, compression={"coding": "plain"}, lattice_bits=10
        )
        self.agents = agents
        for agent in agents:
            self.hello(agent)

    def handle(self, event: Any) -> list[tuple[str, Message, bytes]]:
        return [sent for sent in super().handle(event) if not isinstance(sent[1], Manifest)]

    def tick(self, later_s: float = 0.0) -> list[tuple[str, Message, bytes]]:
        self.now += later_s
        return self.handle(TimerDue())

    def tell(self, agent: str, message: Message, kind: Kind) -> list[tuple[str, Message, bytes]]:
        return self.handle(MessageArrived(TOPICS.up(agent, kind), wire.encode(message)))

    def want(self, agents: str, window: int = WINDOW_BYTES) -> list[tuple[str, Message, bytes]]:
        want = Want(have=None, window=window, others=0)
        return [sent for agent in agents for sent in self.tell(agent, want, Kind.WANT)]

    def form(self) -> Group:
        """All members in one group."""
        assert self.want(self.agents) == []
        sent = self.tick(GATHER_S)
        assert [to for to, _, _ in sent] == list(self.agents)
        groups = {m for _, m, _ in sent if isinstance(m, Group)}
        (group,) = groups
        return group

    def part(self, agent: str, group: Group, part: int) -> list[tuple[str, Message, bytes]]:
        wanted = Part(digest=group.content.digest, step=STEP, group=group.number, part=part)
        return self.tell(agent, wanted, Kind.PART)


def lanes(sent: list[tuple[str, Message, bytes]]) -> list[tuple[int, int]]:
    """Offsets and lengths of what went to all."""
    return [(m.offset, len(t)) for to, m, t in sent if to == "all" and isinstance(m, Chunk)]


def groups(sent: list[tuple[str, Message, bytes]]) -> list[tuple[str, int | None]]:
    return [(to, m.missed) for to, m, _ in sent if isinstance(m, Group)]


def test_wants_of_a_second_make_a_group() -> None:
    desk = Many()
    assert desk.want("abc") == []
    assert desk.machine.next_timer() == GATHER_S
    assert desk.tick(GATHER_S / 2) == []
    sent = desk.tick(GATHER_S / 2)
    assert groups(sent) == [("a", None), ("b", None), ("c", None)]
    (content,) = {m.content for _, m, _ in sent if isinstance(m, Group)}
    assert 3 * PART_BYTES < content.size < 4 * PART_BYTES
    # who comes before anything has been sent is in it at once
    assert groups(desk.want("d")) == [("d", None)]


def test_two_wants_are_answered_each_by_itself_after_the_gathering() -> None:
    desk = Many()
    assert desk.want("ab") == []
    sent = desk.tick(GATHER_S)
    assert {to for to, _, _ in sent} == {"a", "b"}
    for agent in "ab":
        pieces = [t for to, m, t in sent if to == agent and isinstance(m, Chunk)]
        assert sum(map(len, pieces)) == WINDOW_BYTES


def test_where_there_are_no_three_members_and_with_a_small_window_nobody_waits() -> None:
    assert {to for to, _, _ in Many("ab").want("ab")} == {"a", "b"}
    sent = Many().want("abcd", window=WINDOW_BYTES - 1)
    assert {to for to, _, _ in sent} == set("abcd")
    assert groups(sent) == []


def test_a_short_model_is_not_worth_a_group() -> None:
    desk = Desk()
    for agent in "abc":
        desk.hello(agent)
    for agent in "abc":
        event = MessageArrived(TOPICS.up(agent, Kind.WANT), wire.encode(WHOLE))
        ((to, chunk, _),) = desk.handle(event)
        assert (to, isinstance(chunk, Chunk)) == (agent, True)


def test_a_part_goes_out_once_and_when_all_have_asked_for_it() -> None:
    desk = Many()
    group = desk.form()
    for agent in "abc":
        assert desk.part(agent, group, 0) == []
    sent = desk.part("d", group, 0)
    assert {to for to, _, _ in sent} == {"all"}
    assert sum(n for _, n in lanes(sent)) == PART_BYTES
    # a copy that comes late is no reason to say anything
    desk.now += 11
    assert desk.part("a", group, 0) == []


def test_its_topic_is_the_lane_of_group_and_part() -> None:
    desk = Many()
    group = desk.form()
    for agent in "abc":
        desk.part(agent, group, 1)
    wanted = Part(digest=group.content.digest, step=STEP, group=group.number, part=1)
    event = MessageArrived(TOPICS.up("d", Kind.PART), wire.encode(wanted))
    actions = desk.machine.handle(event, desk.now)
    topics = {a.topic for a in actions if isinstance(a, Publish)}
    assert topics == {TOPICS.lane(group.number, 1)}


def test_who_is_late_goes_on_in_another_group_with_others_of_its_pace() -> None:
    desk = Many()
    group = desk.form()
    for agent in "ab":
        assert desk.part(agent, group, 0) == []
    assert desk.machine.next_timer() == desk.now + WAIT_S
    assert lanes(desk.tick(WAIT_S))
    ((to, second, _),) = desk.part("c", group, 0)
    assert isinstance(second, Group)
    assert (to, second.missed) == ("c", 0)
    assert second.number != group.number
    ((_, third, _),) = desk.part("d", group, 0)
    assert third == second
    # of the first group nobody is waited for any more
    desk.part("a", group, 1)
    assert lanes(desk.part("b", group, 1))
    desk.part("c", second, 0)
    assert lanes(desk.part("d", second, 0))


@pytest.mark.parametrize(("took_s", "wait_s"), [(0.5, WAIT_S), (3.0, 3.0), (60.0, LONGEST_WAIT_S)])
def test_nobody_is_held_up_by_more_than_it_took_itself(took_s: float, wait_s: float) -> None:
    desk = Many()
    group = desk.form()
    for agent in "abcd":
        desk.part(agent, group, 0)
    desk.now += took_s
    desk.part("a", group, 2)
    assert lanes(desk.tick(wait_s - 0.01)) == []
    assert lanes(desk.tick(0.01))


def test_who_leaves_is_not_waited_for() -> None:
    desk = Many()
    group = desk.form()
    for agent in "abc":
        desk.part(agent, group, 0)
    sent = desk.handle(OperatorOrder(Order.REMOVE, "d"))
    assert lanes(sent)


def test_for_nobody_nothing_is_published() -> None:
    desk = Many()
    group = desk.form()
    desk.part("a", group, 0)
    desk.handle(OperatorOrder(Order.REMOVE, "a"))
    assert lanes(desk.tick(WAIT_S)) == []
    for agent in "bc":
        desk.part(agent, group, 0)
    assert lanes(desk.part("d", group, 0))


def test_a_group_of_before_a_restart_is_followed_by_another() -> None:
    first = Many()
    group = first.form()
    second = Many()
    ((_, other, _),) = second.part("a", group, 2)
    assert isinstance(other, Group)
    second.now += 11  # here its number is the same by chance, so that its PART is one
    assert (other.content, other.missed) == (group.content, 2)
    assert lanes(second.part("a", other, 2))
    assert second.state.members["a"].pinned == 0


def test_a_part_that_is_not_there_is_refused_and_one_of_a_model_that_is_gone_is_answered() -> None:
    desk = Many()
    group = desk.form()
    ((_, state, _),) = desk.part("a", group, 4)
    assert isinstance(state, State)
    assert state.verdict is not None
    assert state.verdict.code is Code.REJECTED
    assert desk.machine.presence["a"].rejected == 1
    gone: dict[str, Any] = {"content": Content(bytes(16), 300_000)}
    ((_, state, _),) = desk.part("a", group.model_copy(update=gone), 0)
    assert isinstance(state, State)
    assert state.offer is not None
    ((_, state, _),) = desk.part("stranger", group, 0)
    assert isinstance(state, State)


def test_groups_in_which_nothing_happens_are_forgotten() -> None:
    desk = Many()
    group = desk.form()
    for agent in "abcd":
        desk.part(agent, group, 0)
    desk.now += IDLE_AFTER_S
    desk.agents = "abcd"
    for agent in "abcd":
        desk.hello(agent)
    newer = desk.form()
    assert newer.number == group.number + 1
    ((_, third, _),) = desk.part("a", group, 1)
    assert isinstance(third, Group)
    assert third.number == newer.number


def test_after_a_hello_what_was_asked_before_does_not_count() -> None:
    desk = Many()
    group = desk.form()
    for agent in "abcd":
        desk.part(agent, group, 0)
    desk.hello("a", epoch=desk.state.epoch, incarnation=1)
    ((to, other, _),) = desk.part("a", group, 0)
    assert (to, isinstance(other, Group)) == ("a", True)


def test_who_is_far_ahead_does_not_join_those_that_are_late() -> None:
    """They would come to what it had used up, and be late once more."""
    desk = Many()
    group = desk.form()
    for part in range(4):
        for agent in "ab":
            desk.part(agent, group, part)
        desk.tick(WAIT_S)
    ((_, behind, _),) = desk.part("c", group, 0)
    ((_, ahead, _),) = desk.part("d", group, 3)
    assert isinstance(behind, Group)
    assert isinstance(ahead, Group)
    assert (behind.missed, ahead.missed) == (0, 3)
    assert len({group.number, behind.number, ahead.number}) == 3
