"""A coordinator from the past: agents are ahead of a restored one, and refuse one beside a newer.

The real machines, as in all of this folder; the restore drill with real files and processes is in
``tests/e2e/test_restore.py``.
"""

from collections.abc import Callable

import pytest
from tests.federation_world import Agent, World, small_definition
from tests.machines.coordinator_desk import TOPICS, Desk
from tests.machines.invariants import check_all, everybody_agrees, releases
from tests.newcomers import newcomer

from plantfed_agent.agreement import dual_after_outstanding
from plantfed_agent.events import MessageArrived, Train
from plantfed_coordinator.events import MessageArrived as CoordinatorHears
from plantfed_coordinator.events import Note
from plantfed_coordinator.founding import epoch_after_restore
from plantfed_coordinator.records import IncarnationRaised
from plantfed_lab.simulation.coordinator_host import replay
from plantfed_shared.messages import (
    Code,
    Epoch,
    Manifest,
    Message,
    ModelName,
    ModelOffer,
    Start,
    State,
    Update,
    Verdict,
    Welcome,
)
from plantfed_shared.topics import Kind
from plantfed_shared.wire import decode, encode, envelope_digest


@pytest.mark.parametrize("mode", ["fedapm", "fedalt", "fedbuff"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_agents_that_are_ahead_of_a_restored_backup_agree_with_it_again(
    mode: str, seed: int
) -> None:
    world = World(small_definition(algorithm={"mode": mode, "learning_rate": 0.1}), 4, seed=seed)
    assert world.run(500, until=lambda: world.state().k >= 3)
    backup = list(world.coordinator.journal)
    behind = {name: agent.disk.applied_seq for name, agent in world.agents.items()}
    assert world.run(500, until=lambda: world.state().k >= 9)
    world.run(1)
    world.coordinator.crash()
    ahead = {name: agent.disk.applied_seq for name, agent in world.agents.items()}
    assert all(ahead[name] > behind[name] for name in ahead)
    state = replay(backup)
    world.coordinator.journal = [*backup, epoch_after_restore(state, lambda: 77)]
    before = releases(backup)
    world.coordinator.start()
    assert world.run(120, until=lambda: everybody_agrees(world))
    assert world.run(500, until=lambda: releases(world.coordinator.journal) >= before + 3)
    assert world.run(120, until=lambda: everybody_agrees(world))
    check_all(world)
    raised = [r for r in world.coordinator.journal if isinstance(r, IncarnationRaised)]
    assert {record.agent for record in raised} == set(world.agents)
    # they were ahead in releases too, and took an older model under the newer epoch
    assert all(agent.disk.epoch == world.state().epoch for agent in world.agents.values())
    assert world.state().epoch.counter >= 2


def test_the_coordinator_says_which_updates_of_an_agent_are_lost() -> None:
    def said(**claims: object) -> str:
        desk = Desk()
        desk.hello("a")
        for _ in range(2):
            desk.answer("a", desk.update("a"))
        again = {"epoch": Epoch(1, 5), "incarnation": 1, **claims}
        (answer,) = desk.say("a", newcomer(**again))
        assert isinstance(answer, State)
        assert answer.verdict is not None
        payload = encode(newcomer(**{**again, "proof": answer.verdict.digest}))
        heard = CoordinatorHears(TOPICS.up("a", Kind.HELLO), payload)
        notes = [a for a in desk.machine.handle(heard, 0.0) if isinstance(a, Note) and a.agent]
        return notes[0].text

    assert said(applied_seq=3) == (
        "could not be reconciled, is now incarnation 2; its update 3 is lost"
    )
    assert said(applied_seq=9).endswith("incarnation 2; its updates 3 to 9 are lost")
    assert said(incarnation=4, applied_seq=2).endswith("incarnation 5; its updates 1 to 2 are lost")
    assert said(applied_seq=1).endswith("is now incarnation 2")


# ---------------------------------------------------------------------- two coordinators


def welcomed_under(counter: int) -> tuple[World, Agent]:
    """An agent that has joined under this epoch, and waits for the verdict on an update."""
    world = World(small_definition(), 2)
    for _ in range(counter - 1):
        world.coordinator.edit(small_definition(lattice_bits=15 + counter).to_bytes())
        world.run(20)
    agent = world.agents["m00"]
    assert world.run(200, until=lambda: everybody_agrees(world) and world.state().k > 5)
    world.coordinator.crash()
    assert world.run(200, until=lambda: agent.disk.outstanding is not None)
    assert agent.disk.epoch is not None
    assert agent.disk.epoch.counter == counter
    assert agent.disk.newest is not None
    return world, agent


def tell(world: World, agent: Agent, topic: str, message: Message) -> None:
    assert agent.machine is not None
    trains = agent.machine.handle(MessageArrived(topic, encode(message)), world.now)
    assert not any(isinstance(action, Train) for action in trains)


def offer_of(world: World, epoch: Epoch, k: int) -> ModelOffer:
    real = world_offer(world)
    return real._replace(name=ModelName(epoch, k, 12345))


def world_offer(world: World) -> ModelOffer:
    coordinator = world.coordinator
    coordinator.start()
    assert coordinator.machine is not None
    offer = coordinator.machine._desk.contents.offer(coordinator.machine.state)
    coordinator.crash()
    return offer


def untouched(agent: Agent, act: Callable[[], None]) -> None:
    machine = agent.machine
    assert machine is not None
    before = machine.state
    act()
    for name in ("epoch", "newest", "incarnation", "applied_seq", "outstanding", "model_name"):
        assert getattr(machine.state, name) == getattr(before, name), name


def from_the_past(world: World, agent: Agent, epoch: Epoch, k: int) -> list[tuple[str, Message]]:
    """Whatever a coordinator of this epoch could say."""
    disk, topics = agent.disk, world.topics
    offer = offer_of(world, epoch, k)
    assert disk.outstanding is not None
    update = decode(disk.outstanding, Kind.UPDATE).message
    assert isinstance(update, Update)
    digest = envelope_digest(disk.outstanding)
    # under the agent's own epoch this one would end the wait for the verdict
    applied = State(
        epoch=epoch,
        incarnation=disk.incarnation,
        last_seq=disk.applied_seq + 1,
        last_digest=digest,
        dual_checksum=dual_after_outstanding(disk).dual_checksum,
        verdict=Verdict(digest, Code.APPLIED, ""),
        offer=offer,
    )
    dropped = applied.model_copy(
        update={
            "last_seq": disk.applied_seq,
            "dual_checksum": disk.dual_checksum,
            "verdict": Verdict(digest, Code.BASE_GONE, ""),
        }
    )
    welcome = Welcome(
        epoch=epoch, incarnation=disk.incarnation + 7, dual_checksum=0, dual=None, offer=offer
    )
    return [
        (topics.down(agent.name, Kind.STATE), applied),
        (topics.down(agent.name, Kind.STATE), dropped),
        (topics.manifest, Manifest(offer=offer)),
        (topics.down(agent.name, Kind.WELCOME), welcome),
        (topics.down(agent.name, Kind.START), Start(offer=offer, deadline_s=60.0)),
    ]


def test_under_its_own_epoch_an_agent_takes_what_it_refuses_from_the_past() -> None:
    """Else the tests below would show nothing."""
    world, agent = welcomed_under(2)
    epoch, machine = agent.disk.epoch, agent.machine
    assert epoch is not None
    assert machine is not None
    (topic, applied), *_ = from_the_past(world, agent, epoch, k=1000)
    machine.handle(MessageArrived(topic, encode(applied)), world.now)
    assert machine.state.outstanding is None
    assert machine.state.newest is not None
    assert machine.state.newest.k == 1000


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("lower", [Epoch(1, 5), Epoch(2, 0)])
def test_an_agent_refuses_a_lower_epoch_and_a_twin(lower: Epoch, number: int) -> None:
    world, agent = welcomed_under(2)
    topic, message = from_the_past(world, agent, lower, k=1000)[number]
    untouched(agent, lambda: tell(world, agent, topic, message))


@pytest.mark.parametrize("back", [1, 2, 5])
def test_an_agent_refuses_a_model_that_goes_back_in_time(back: int) -> None:
    world, agent = welcomed_under(1)
    epoch, newest = agent.disk.epoch, agent.disk.newest
    assert epoch is not None
    assert newest is not None
    offer = offer_of(world, epoch, newest.k - back)
    untouched(agent, lambda: tell(world, agent, world.topics.manifest, Manifest(offer=offer)))
    start = Start(offer=offer, deadline_s=60.0)
    topic = world.topics.down(agent.name, Kind.START)
    untouched(agent, lambda: tell(world, agent, topic, start))
