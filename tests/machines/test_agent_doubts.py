"""An agent whose hello is doubted, that is quarantined, or that is sent too much."""

from typing import Any

from tests.federation_world import World, small_definition
from tests.machines.agent_in_training import machine_in_training
from tests.machines.invariants import check_all, everybody_agrees

from plantfed_agent.events import LeaveRequested, MessageArrived, Note, Publish, Stop, TimerDue
from plantfed_agent.machine import AgentMachine
from plantfed_shared import wire
from plantfed_shared.bus.port import MAX_MESSAGE_BYTES
from plantfed_shared.errors import BrokerRefused
from plantfed_shared.messages import (
    MAX_DEFINITION_BYTES,
    Bye,
    Code,
    Content,
    Epoch,
    Hello,
    Manifest,
    Message,
    State,
    Verdict,
    Welcome,
)
from plantfed_shared.topics import Kind, Topics

TOPICS = Topics("toy")
AGENT = "m00"


def told(machine: AgentMachine, kind: Kind, message: Message, now: float) -> list[Any]:
    topic = TOPICS.manifest if kind is Kind.MODEL else TOPICS.down(AGENT, kind)
    return machine.handle(MessageArrived(topic, wire.encode(message)), now)


def state(machine: AgentMachine, verdict: Verdict, **changes: Any) -> State:
    ours = machine.state
    assert ours.epoch is not None
    fields: dict[str, Any] = {
        "epoch": ours.epoch,
        "incarnation": ours.incarnation,
        "last_seq": ours.applied_seq,
        "last_digest": None,
        "dual_checksum": ours.dual_checksum,
        "verdict": verdict,
        "offer": None,
    }
    return State(**{**fields, **changes})


def hellos(actions: list[Any]) -> list[Hello]:
    sent = [a for a in actions if isinstance(a, Publish) and a.topic.endswith("/hello")]
    found = [wire.decode(a.payload, Kind.HELLO).message for a in sent]
    return [message for message in found if isinstance(message, Hello)]


def joining() -> tuple[AgentMachine, float]:
    machine, _, world = machine_in_training()
    over = state(machine, Verdict(0, Code.UNKNOWN_MEMBER, ""), incarnation=9)
    assert [h.proof for h in hellos(told(machine, Kind.STATE, over, world.now))] == [None]
    return machine, world.now


def test_a_doubted_hello_is_said_again_at_once_and_once() -> None:
    machine, now = joining()
    doubt = state(machine, Verdict(123, Code.UNPROVEN, ""), incarnation=9)
    assert [h.proof for h in hellos(told(machine, Kind.STATE, doubt, now))] == [123]
    assert hellos(told(machine, Kind.STATE, doubt, now)) == []
    another = state(machine, Verdict(124, Code.UNPROVEN, ""), incarnation=9)
    assert [h.proof for h in hellos(told(machine, Kind.STATE, another, now))] == [124]


def test_a_doubt_of_an_older_epoch_or_while_joined_is_not_answered() -> None:
    machine, _, world = machine_in_training()
    doubt = Verdict(123, Code.UNPROVEN, "")
    assert hellos(told(machine, Kind.STATE, state(machine, doubt), world.now)) == []
    assert machine.link == "joined"
    machine, now = joining()
    old = state(machine, doubt, epoch=Epoch(0, 0))
    assert hellos(told(machine, Kind.STATE, old, now)) == []


def test_in_quarantine_it_asks_every_ten_minutes_and_says_why() -> None:
    machine, _, world = machine_in_training()
    verdict = Verdict(0, Code.QUARANTINED, "after 11 offences")
    actions = told(machine, Kind.STATE, state(machine, verdict), world.now)
    assert len(hellos(actions)) == 1  # the answer to that one counts
    actions = told(machine, Kind.STATE, state(machine, verdict), world.now)
    (note,) = [a for a in actions if isinstance(a, Note)]
    assert note.text == "the coordinator does not listen to this agent (after 11 offences)"
    assert machine.next_timer() == world.now + 600
    released = Verdict(0, Code.UNKNOWN_MEMBER, "say hello")
    told(machine, Kind.STATE, state(machine, released, incarnation=9), world.now)
    due = machine.next_timer()
    assert due is not None
    assert due <= world.now + 1


def test_in_quarantine_it_cannot_leave_and_says_so() -> None:
    machine, _, world = machine_in_training()
    machine.handle(LeaveRequested(), world.now)
    verdict = Verdict(0, Code.QUARANTINED, "after 11 offences")
    actions = told(machine, Kind.STATE, state(machine, verdict), world.now)
    (stop,) = [a for a in actions if isinstance(a, Stop)]
    assert isinstance(stop.error, BrokerRefused)
    assert "it has not left" in str(stop.error)


def test_an_incarnation_that_it_only_leaves_as_is_never_on_its_disk() -> None:
    """Seed 1137 of the faults: with it, updates of the one before proved a newer past."""
    world = World(small_definition(), 2)
    agent = world.agents[AGENT]
    assert world.run(60, until=lambda: agent.disk.applied_seq == 2)
    machine = agent.machine
    assert machine is not None
    disk, now = machine.state, world.now
    machine.handle(LeaveRequested(), now)
    given = disk.incarnation + 1
    over = state(machine, Verdict(0, Code.OLD_INCARNATION, ""), incarnation=given, last_seq=0)
    actions = told(machine, Kind.STATE, over, now)
    (bye,) = [a for a in actions if isinstance(a, Publish)]
    assert wire.decode(bye.payload, Kind.BYE).message == Bye(incarnation=given)
    assert told(machine, Kind.STATE, over, now) == []
    assert machine.state is disk


def test_what_is_longer_than_any_is_not_fetched() -> None:
    machine, _, world = machine_in_training()
    before = machine.state
    offer = world.coordinator.machine._desk.contents.offer(world.state())  # type: ignore[union-attr]
    assert before.epoch is not None
    welcome = Welcome(
        epoch=before.epoch,
        incarnation=7,
        dual_checksum=1,
        dual=Content(bytes(16), 10**6),
        offer=offer,
    )
    actions = told(machine, Kind.WELCOME, welcome, world.now)
    assert "a dual of 1000000 bytes" in next(a.text for a in actions if isinstance(a, Note))
    definition = Content(bytes(16), MAX_DEFINITION_BYTES + 1)
    manifest = Manifest.model_construct(offer=offer._replace(definition=definition))
    actions = told(machine, Kind.MODEL, manifest, world.now + 60)
    assert "definition" in next(a.text for a in actions if isinstance(a, Note))
    noise = MessageArrived(TOPICS.down(AGENT, Kind.STATE), bytes(MAX_MESSAGE_BYTES + 1))
    (note,) = machine.handle(noise, world.now + 120)
    assert isinstance(note, Note)
    assert "too many for a message" in note.text
    # of a flood some lines are enough
    quiet = [machine.handle(noise, world.now + 121) for _ in range(50)]
    assert quiet == [[]] * 50
    (note,) = machine.handle(noise, world.now + 131)
    assert isinstance(note, Note)
    assert "(and 50 more before it)" in note.text
    assert machine.state.incarnation == before.incarnation


def welcomed_to(machine: AgentMachine, world: World, counter: int, now: float) -> Welcome:
    """A welcome to this epoch, whose dual has not come yet."""
    ours = machine.state
    assert ours.epoch is not None
    offer = world.coordinator.machine._desk.contents.offer(world.state())  # type: ignore[union-attr]
    epoch = Epoch(counter, ours.epoch.bits + 1)
    welcome = Welcome(
        epoch=epoch,
        incarnation=ours.incarnation + 1,
        dual_checksum=1,
        dual=Content(bytes(16), 30),
        offer=offer._replace(name=offer.name._replace(epoch=epoch)),
    )
    told(machine, Kind.WELCOME, welcome, now)
    assert machine._membership.welcome == welcome
    return welcome


def test_a_welcome_that_nobody_knows_of_any_more_is_given_up() -> None:
    """The second coordinator that gave it was stopped before it had sent the dual."""
    world = World(small_definition(), 2)
    agent = world.agents["m00"]
    assert world.run(60, until=lambda: agent.disk.applied_seq == 2)
    assert agent.machine is not None
    before = agent.disk
    assert before.epoch is not None
    welcomed_to(agent.machine, world, before.epoch.counter + 1, world.now)
    world.simulation.watch_timer(agent)
    assert agent.machine.link == "joining"
    assert world.run(100, until=lambda: everybody_agrees(world))
    assert agent.disk.epoch == before.epoch
    assert agent.disk.incarnation == before.incarnation
    assert world.run(20, until=lambda: agent.disk.applied_seq > before.applied_seq)
    check_all(world)


def test_a_late_state_and_a_doubt_of_who_gave_it_leave_a_welcome_as_it_is() -> None:
    machine, _, world = machine_in_training()
    ours = machine.state
    assert ours.epoch is not None
    late = state(machine, Verdict(0, Code.APPLIED, ""))
    welcome = welcomed_to(machine, world, ours.epoch.counter + 1, world.now)
    told(machine, Kind.STATE, late, world.now + 1)
    assert machine._membership.welcome == welcome
    assert len(hellos(machine.handle(TimerDue(), world.now + 60))) == 1
    given = {"epoch": welcome.epoch, "incarnation": welcome.incarnation}
    doubt = state(machine, Verdict(123, Code.UNPROVEN, ""), **given)
    assert hellos(told(machine, Kind.STATE, doubt, world.now + 61)) == []
    assert machine._membership.welcome == welcome
    # of another coordinator, which must be told that this is no replay
    doubt = state(machine, Verdict(124, Code.UNPROVEN, ""), incarnation=9)
    assert [h.proof for h in hellos(told(machine, Kind.STATE, doubt, world.now + 62))] == [124]
