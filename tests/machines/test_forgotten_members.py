"""An agent that takes itself for joined, and a coordinator that knows nothing of it."""

from itertools import pairwise

import numpy as np
import pytest
from tests.federation_world import World, small_definition
from tests.machines.agent_in_training import machine_in_training
from tests.machines.coordinator_desk import TOPICS, Desk
from tests.machines.invariants import check_all, everybody_agrees
from tests.machines.test_agent_doubts import hellos, state, told

from plantfed_agent.events import TimerDue
from plantfed_agent.pace import ASK_AFTER_S, ASK_LONGEST_S
from plantfed_coordinator.events import MessageArrived, OperatorOrder, Order
from plantfed_shared import wire
from plantfed_shared.messages import Bye, Code, Status, Verdict, Want
from plantfed_shared.topics import Kind

NAME = "m00"
CROSSING_S = 1.0


def settled(kind: str) -> World:
    """A federation of one that has made a release."""
    schedule = {**small_definition().schedule.model_dump(), "kind": kind, "max_releases": 1}
    world = World(small_definition(schedule=schedule), 1)
    assert world.run(120, until=lambda: world.state().final and everybody_agrees(world))
    return world


def lose_states(world: World) -> None:
    """From now on; the caller gives the broker its ``publish`` back."""
    original = world.broker.publish

    def publish(
        client: str, topic: str, payload: bytes, now: float, *, retain: bool = False
    ) -> bool:
        if topic == world.topics.down(NAME, Kind.STATE):
            return True
        return original(client, topic, payload, now, retain=retain)

    world.broker.publish = publish  # type: ignore[method-assign]


def is_member(world: World) -> bool:
    return NAME in world.state().members


@pytest.mark.parametrize("kind", ["async", "sync"])
@pytest.mark.parametrize("how", ["an old BYE", "the operator"])
def test_it_asks_after_a_while_although_it_was_told_nothing(kind: str, how: str) -> None:
    world = settled(kind)
    publish = world.broker.publish
    lose_states(world)
    if how == "an old BYE":
        bye = wire.encode(Bye(incarnation=world.agents[NAME].disk.incarnation))
        world.coordinator.handle(MessageArrived(world.topics.up(NAME, Kind.BYE), bye))
    else:
        for order in (Order.REMOVE, Order.ADMIT):
            world.coordinator.handle(OperatorOrder(order, NAME))
    world.run(CROSSING_S)
    world.broker.publish = publish  # type: ignore[method-assign]
    machine = world.agents[NAME].machine
    assert machine is not None
    assert machine.link == "joined"
    assert not is_member(world)
    assert world.run(ASK_AFTER_S + CROSSING_S, until=lambda: is_member(world))
    assert world.run(CROSSING_S, until=lambda: everybody_agrees(world))
    assert world.agents[NAME].disk.incarnation == 2
    check_all(world)


def test_an_answer_to_a_bye_from_before_a_restart_is_asked_about_at_once() -> None:
    machine, _, world = machine_in_training()
    left = state(machine, Verdict(0, Code.LEFT, ""), incarnation=0, last_seq=0, dual_checksum=0)
    assert len(hellos(told(machine, Kind.STATE, left, world.now))) == 1
    assert hellos(told(machine, Kind.STATE, left, world.now)) == []


def test_where_nothing_comes_it_asks_more_and_more_rarely() -> None:
    training, _, _ = machine_in_training()
    assert training.next_timer() is None  # its update will say more than a question
    world = settled("async")
    machine = world.agents[NAME].machine
    assert machine is not None
    asked, due = [world.now], machine.next_timer()
    while len(asked) < 6:
        assert due is not None
        asked += [due] * len(hellos(machine.handle(TimerDue(), due)))
        due = machine.next_timer()
    intervals = [late - early for early, late in pairwise(asked)]
    assert intervals[0] <= ASK_AFTER_S
    assert intervals[1:] == pytest.approx([1200.0, 2400.0, ASK_LONGEST_S, ASK_LONGEST_S])
    assert machine.link == "joined"
    # that we are known is no news: the next time is as far away
    applied = state(machine, Verdict(0, Code.APPLIED, ""))
    told(machine, Kind.STATE, applied.model_copy(update={"verdict": None}), asked[-1] + 1)
    assert machine.next_timer() == due
    told(machine, Kind.STATE, applied, asked[-1] + 5)
    assert machine.next_timer() == asked[-1] + 5 + ASK_AFTER_S


def test_who_asks_how_it_stands_is_not_waited_for_and_who_comes_back_is() -> None:
    desk = Desk(algorithm={"mode": "fedalt"}, schedule={})
    within_s = desk.definition.schedule.live_within_s
    for agent in "ab":
        desk.hello(agent)
        desk.say(agent, Want(have=None, window=1, others=0))
    claims = {"epoch": desk.state.epoch, "incarnation": desk.state.members["b"].incarnation}
    desk.now = within_s + 1
    desk.hello("b", **claims)
    assert desk.machine.presence["b"].last_seen == desk.now
    assert desk.machine._desk.live_members(desk.now) == 0
    online = wire.encode(Status(online=True, software="test"))
    desk.handle(MessageArrived(TOPICS.status("b"), online))
    desk.hello("b", **claims)
    no_dual = np.zeros(desk.size, dtype=np.int64)
    desk.answer("a", desk.update("a", no_dual))
    assert desk.state.k == 0  # b may answer as well
    desk.now += within_s + 1
    desk.hello("b", **claims)
    assert desk.state.k == 1  # of what has waited for it
    desk.answer("a", desk.update("a", no_dual))
    assert desk.state.k == 2  # its own, at once
