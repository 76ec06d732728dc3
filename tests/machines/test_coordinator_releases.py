"""When the coordinator makes a release, of whose arrivals, and which bases it keeps."""

import numpy as np
import pytest
from tests.machines.coordinator_desk import TOPICS, WANT, Desk, code_of

from plantfed_coordinator.events import (
    TimerDue,
)
from plantfed_coordinator.machine import FederationMachine
from plantfed_coordinator.records import Released, Served
from plantfed_shared.messages import (
    Bye,
    Chunk,
    Code,
    Want,
    Welcome,
)
from plantfed_shared.transfer import WINDOW_BYTES


def test_a_release_after_enough_arrivals_and_the_base_is_kept_while_it_is_pinned() -> None:
    desk = Desk()
    for agent in ("a", "b", "c"):
        desk.hello(agent)
    (chunk,) = desk.say("c", WANT)
    assert isinstance(chunk, Chunk)
    assert desk.state.members["c"].pinned == 0
    late = desk.update("c")
    desk.answer("a", desk.update("a"))
    desk.answer("b", desk.update("b"))
    assert desk.state.k == 1
    assert sorted(desk.state.versions) == [0, 1]
    assert code_of(desk.answer("c", late)) is Code.APPLIED
    assert desk.state.members["c"].staleness == 1
    desk.say("c", Want(have=late.base, window=WINDOW_BYTES, others=0))
    desk.say("c", Want(have=late.base, window=WINDOW_BYTES, others=0))
    assert desk.records.count(Served("c", 1, 0)) == 1
    assert sorted(desk.state.versions) == [0, 1]


def test_the_version_offered_to_a_returning_agent_is_kept_for_it() -> None:
    desk = Desk()
    for agent in "abc":
        desk.hello(agent)
    for agent in "bc":
        desk.answer(agent, desk.update(agent))
    assert isinstance(desk.hello("a"), Welcome)  # it has lost its disk
    late = desk.update("a")
    for agent in "bc":
        desk.answer(agent, desk.update(agent))
    assert (late.base.k, desk.state.k) == (1, 2)
    assert code_of(desk.answer("a", late)) is Code.APPLIED


def test_without_enough_arrivals_a_release_comes_after_a_while() -> None:
    desk = Desk()
    desk.hello("a")
    desk.hello("b")
    desk.answer("a", desk.update("a"))
    assert desk.state.k == 0
    desk.now = desk.machine.next_timer()
    while desk.state.k == 0 and desk.now < 61:
        desk.handle(TimerDue())
        desk.now = desk.machine.next_timer()
    assert desk.state.k == 1
    assert sum(isinstance(r, Released) for r in desk.records) == 1


@pytest.mark.parametrize("mode", ["fedalt", "fedsim", "fedavg", "fedprox"])
def test_a_mean_over_arrivals_is_of_two_where_two_are_live(mode: str) -> None:
    """Of a lone arrival it would be that machine's own model: local training with an echo."""
    personal = {"personal": ()} if mode in ("fedavg", "fedprox") else {}
    desk = Desk(algorithm={"mode": mode}, schedule={}, **personal)
    for agent in "abc":
        desk.hello(agent)
    no_dual = np.zeros(desk.size, dtype=np.int64)
    up, down = no_dual + 8, no_dual - 2
    assert code_of(desk.answer("a", desk.update("a", no_dual), desk.encode(up))) is Code.APPLIED
    desk.now = desk.definition.schedule.release_after_s
    desk.handle(TimerDue())
    assert desk.state.k == 0
    before = desk.state.model
    desk.answer("b", desk.update("b", no_dual), desk.encode(down))
    assert desk.state.k == 1
    assert np.array_equal(desk.state.model - before, (up + down) // 2)


def test_a_lone_arrival_is_released_once_nobody_else_counts_as_live() -> None:
    desk = Desk(algorithm={"mode": "fedalt"}, schedule={})
    desk.hello("a")
    desk.hello("b")
    desk.answer("a", desk.update("a", np.zeros(desk.size, dtype=np.int64)))
    desk.now = desk.definition.schedule.live_within_s
    assert desk.machine.next_timer() <= desk.now
    desk.handle(TimerDue())
    assert desk.state.k == 1


@pytest.mark.parametrize(
    ("algorithm", "members", "arrivals"),
    [
        ({"mode": "fedalt"}, "a", 0),
        ({"mode": "fedalt"}, "ab", 1),
        ({"mode": "fedapm"}, "ab", 0),
        ({"mode": "fedbuff"}, "ab", 0),
        ({"mode": "fedasync"}, "ab", 0),
    ],
)
def test_elsewhere_one_arrival_is_enough(
    algorithm: dict[str, str], members: str, arrivals: int
) -> None:
    desk = Desk(algorithm=algorithm, schedule={"arrivals": arrivals})
    for agent in members:
        desk.hello(agent)
    dual = np.full(desk.size, int(desk.definition.algorithm.has_duals))
    assert code_of(desk.answer("a", desk.update("a", dual))) is Code.APPLIED
    assert desk.state.k == 1


def test_the_time_to_a_release_counts_from_the_first_change() -> None:
    desk = Desk(schedule={"arrivals": 4})
    for agent in "abcd":
        desk.hello(agent)
    for desk.now, agent in ((10.0, "a"), (60.0, "b"), (69.0, "c")):
        desk.answer(agent, desk.update(agent))
    assert desk.state.k == 0
    desk.now = 70.0
    assert desk.machine.next_timer() <= desk.now
    desk.handle(TimerDue())
    assert desk.state.k == 1
    desk.now = 100.0
    desk.answer("a", desk.update("a"))
    desk.now = 159.0
    desk.handle(TimerDue())
    assert desk.state.k == 1
    desk.now = 160.0
    desk.handle(TimerDue())
    assert desk.state.k == 2


def test_the_time_to_a_release_begins_anew_with_the_coordinator() -> None:
    desk = Desk(schedule={"arrivals": 4})
    for agent in "abcd":
        desk.hello(agent)
    desk.answer("a", desk.update("a"))
    again = FederationMachine(desk.state, TOPICS, lambda: 77, 100.0)
    assert again.next_timer() <= 160.0
    again.handle(TimerDue(), 159.0)
    assert again.state.k == 0
    again.handle(TimerDue(), 160.0)
    assert again.state.k == 1


def test_who_has_left_is_no_arrival() -> None:
    desk = Desk(schedule={"arrivals": 2})
    for agent in "abc":
        desk.hello(agent)
    desk.answer("a", desk.update("a"))
    desk.say("a", Bye(incarnation=1))
    desk.answer("b", desk.update("b"))
    assert desk.state.k == 0
    desk.answer("c", desk.update("c"))
    assert desk.state.k == 1
