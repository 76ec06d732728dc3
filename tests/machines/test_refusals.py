"""What a flood of garbage costs the coordinator: one log line a minute, no memory."""

import pytest
from tests.federation_world import small_definition

from plantfed_coordinator.desk import Presence
from plantfed_coordinator.events import MessageArrived, Note
from plantfed_coordinator.live import LiveCounters
from plantfed_coordinator.machine import FederationMachine
from plantfed_coordinator.records import EpochStarted, Joined
from plantfed_coordinator.state import FederationState
from plantfed_shared.local_time import LocalTime
from plantfed_shared.messages import Epoch
from plantfed_shared.throttle import Throttle
from plantfed_shared.topics import Kind, Topics

TOPICS = Topics("toy")


def machine_with_members(*agents: str) -> FederationMachine:
    state = FederationState.begin(
        EpochStarted(Epoch(1, 5), 0, small_definition().to_bytes(), "created")
    )
    for agent in agents:
        state.apply(Joined(agent, 1))
    return FederationMachine(state, TOPICS, lambda: 77, 0.0)


def lines(machine: FederationMachine, topic: str, now: float) -> list[str]:
    actions = machine.handle(MessageArrived(topic, b"garbage"), now)
    return [f"{a.agent}: {a.text}" for a in actions if isinstance(a, Note)]


def test_a_flood_from_one_member_is_one_line_a_minute_with_a_count() -> None:
    machine = machine_with_members("a", "b")
    topic = TOPICS.up("a", Kind.HELLO)
    first = lines(machine, topic, 0.0)
    assert len(first) == 1
    assert first[0].startswith("a: refused a message (hello)")
    assert [lines(machine, topic, 0.1 * i) for i in range(1, 500)] == [[]] * 499
    (again,) = lines(machine, topic, 60.0)
    assert again.endswith("(and 499 more before it)")
    assert machine.presence["a"].rejected == 501


def test_another_members_first_refusal_is_not_held_back() -> None:
    machine = machine_with_members("a", "b")
    lines(machine, TOPICS.up("a", Kind.HELLO), 0.0)
    assert len(lines(machine, TOPICS.up("b", Kind.HELLO), 0.0)) == 1


def test_made_up_names_share_one_line_and_leave_nothing_behind() -> None:
    machine = machine_with_members("a")
    said = [lines(machine, TOPICS.up(f"x{i}", Kind.HELLO), 0.0) for i in range(100)]
    said.append(lines(machine, "plantfed/v1/toy/a/b/c/d", 0.0))
    assert sum(map(len, said)) == 1
    assert set(machine.presence) <= {"a"}


def test_bytes_are_counted_for_members_only() -> None:
    machine = machine_with_members("a")
    counters = LiveCounters(TOPICS, lambda: machine.state.members, lambda: LocalTime(7, 0.0))
    for agent in ("a", "x1", "x2"):
        counters.received(TOPICS.up(agent, Kind.HELLO), b"12345")
    everybody = {agent: Presence(0.0, 0.0) for agent in ("a", "x1", "x2")}
    changes = counters.take_changes(everybody, 0.0)
    assert {agent: fields["messages_up"] for agent, fields in changes.items()} == {
        "a": 1,
        "x1": 0,
        "x2": 0,
    }


@pytest.mark.parametrize("every_s", [0.5, 60.0])
def test_throttle_lets_the_first_through_at_any_time(every_s: float) -> None:
    throttle = Throttle(every_s)
    assert throttle.left_out("a", 1e6) == 0
    assert throttle.left_out("a", 1e6 + every_s / 2) is None
    assert throttle.left_out("a", 1e6 + every_s) == 1
