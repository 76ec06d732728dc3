"""The agent machine where the whole federation's tests don't look: order, rest, large models."""

from dataclasses import replace

import numpy as np
import pytest
from tests.federation_world import World, small_definition
from tests.machines.agent_in_training import machine_in_training
from tests.machines.invariants import check_all, everybody_agrees

from plantfed_agent.events import (
    BusConnected,
    LeaveRequested,
    MessageArrived,
    Persist,
    Publish,
    RoundDone,
    RoundFailed,
    RowsChanged,
    Stop,
    Train,
)
from plantfed_agent.machine import AgentMachine
from plantfed_agent.pace import Pace
from plantfed_agent.state import AgentState
from plantfed_agent.training import TrainingOutcome
from plantfed_shared.bus.port import Connected
from plantfed_shared.digest import content_digest
from plantfed_shared.errors import ConfigError, DataError, TrainingError
from plantfed_shared.messages import (
    Code,
    Content,
    Epoch,
    Manifest,
    ModelName,
    ModelOffer,
    State,
    Verdict,
    Want,
    Welcome,
)
from plantfed_shared.topics import Kind, Topics
from plantfed_shared.transfer import WINDOW_BYTES
from plantfed_shared.wire import decode, encode, envelope_digest


def test_a_round_is_persisted_together_with_its_update_before_it_is_published() -> None:
    world = World(small_definition(), 1)
    agent = world.agents["m00"]
    seen: list[list[type]] = []
    assert agent.machine is not None
    original = agent.machine.handle

    def handle(event: object, now: float) -> list[object]:
        actions = original(event, now)  # type: ignore[arg-type]
        if isinstance(event, RoundDone):
            seen.append([type(a) for a in actions])
            (persist,) = [a for a in actions if isinstance(a, Persist)]
            (publish,) = [a for a in actions if isinstance(a, Publish)]
            assert {"head", "outstanding", "trained_on"} <= persist.changed
            assert persist.state.outstanding == publish.payload
        return actions  # type: ignore[return-value]

    agent.machine.handle = handle  # type: ignore[method-assign, assignment]
    world.run(20)
    assert seen
    assert all(kinds[:2] == [Persist, Publish] for kinds in seen)


def test_a_restarted_agent_sends_the_same_bytes_again_and_keeps_its_head() -> None:
    world = World(small_definition(), 2)
    agent = world.agents["m00"]
    assert world.run(60, until=lambda: agent.disk.outstanding is not None)
    outstanding, head, seq = agent.disk.outstanding, agent.disk.head, agent.disk.applied_seq
    world.coordinator.crash()
    agent.crash()
    agent.start()
    world.coordinator.start()
    sent: list[bytes] = []
    original = world.broker.publish

    def publish(
        client: str, topic: str, payload: bytes, now: float, *, retain: bool = False
    ) -> bool:
        if topic == world.topics.up("m00", Kind.UPDATE):
            sent.append(payload)
        return original(client, topic, payload, now, retain=retain)

    world.broker.publish = publish  # type: ignore[method-assign]
    assert world.run(60, until=lambda: agent.disk.applied_seq == seq + 1)
    assert sent == [] or sent[0] == outstanding
    assert agent.disk.head is head
    assert agent.disk.incarnation == 1
    check_all(world)


def test_large_updates_and_models_go_in_pieces() -> None:
    world = World(small_definition(), 2)
    for client in [*world.agents.values(), world.coordinator]:
        client.receive(Connected(max_payload_bytes=150))
    assert world.run(200, until=lambda: world.state().k >= 3)
    for agent in world.agents.values():
        agent.receive(Connected(max_payload_bytes=100))
    offers = 0
    original = world.broker.publish

    def publish(
        client: str, topic: str, payload: bytes, now: float, *, retain: bool = False
    ) -> bool:
        nonlocal offers
        offers += topic.endswith("/up/offer")
        assert client == world.coordinator.client_id or len(payload) <= 150
        return original(client, topic, payload, now, retain=retain)

    world.broker.publish = publish  # type: ignore[method-assign]
    before = world.state().k
    assert world.run(300, until=lambda: world.state().k >= before + 5)
    assert offers > 0
    check_all(world)


def test_an_agent_rests_after_its_rounds_and_wakes_up_for_new_rows() -> None:
    world = World(small_definition(), 2)
    for agent in world.agents.values():
        agent.crash()
        agent.pace = lambda: Pace(max_rounds_without_new_rows=3)
        agent.start()
    world.run(600)
    agent = world.agents["m00"]
    assert agent.machine is not None
    assert agent.machine.resting
    assert agent.disk.rounds_on_these_rows == 3
    agent.handle(RowsChanged("other rows"))
    world.run(100)
    assert agent.disk.rounds == 6


def test_rows_that_changed_while_the_agent_was_stopped_wake_it_up() -> None:
    world = World(small_definition(), 1)
    agent = world.agents["m00"]
    agent.crash()
    agent.pace = lambda: Pace(max_rounds_without_new_rows=3)
    agent.start()
    world.run(100)
    agent.crash()
    agent.start()
    agent.handle(RowsChanged("rows"))  # what the shell says of the files at every start
    world.run(100)
    assert agent.disk.rounds == 3
    agent.crash()
    agent.start()
    agent.handle(RowsChanged("other rows"))
    world.run(100)
    assert agent.disk.rounds == 6


def test_the_final_model_reaches_everybody() -> None:
    schedule = {**small_definition().schedule.model_dump(), "max_releases": 7}
    world = World(small_definition(schedule=schedule), 4)
    world.run(300)
    assert world.state().k == 7
    assert world.state().final
    for agent in world.agents.values():
        assert agent.disk.model_name is not None
        assert agent.disk.model_name.k == 7
        assert agent.machine is not None
        assert agent.machine.resting


def test_min_interval_is_kept() -> None:
    world = World(small_definition(), 1)
    agent = world.agents["m00"]
    agent.crash()
    agent.pace = lambda: Pace(min_interval_s=50.0)
    agent.start()
    world.run(500)
    assert 8 <= agent.disk.rounds <= 11


def test_leaving_is_answered_and_ends_the_program() -> None:
    world = World(small_definition(), 3)
    world.run(20)
    agent = world.agents["m01"]
    agent.handle(LeaveRequested())
    assert world.run(20, until=lambda: agent.stopped is not None)
    assert agent.stopped == Stop(None)
    assert "m01" not in world.state().members
    check_all(world)


def test_a_removed_agent_stays_out_without_ending() -> None:
    from plantfed_coordinator.events import OperatorOrder, Order

    world = World(small_definition(), 3)
    world.run(20)
    world.coordinator.handle(OperatorOrder(Order.REMOVE, "m01"))
    world.run(2000)
    assert "m01" not in world.state().members
    assert world.agents["m01"].stopped is None
    world.coordinator.handle(OperatorOrder(Order.ADMIT, "m01"))
    assert world.run(100, until=lambda: everybody_agrees(world))


def test_rows_that_cannot_be_used_end_an_agent_that_has_never_trained() -> None:
    machine, task, world = machine_in_training()
    error = DataError("text in a number column")
    assert Stop(error) in machine.handle(RoundFailed(task.ticket, error), world.now)


def test_a_training_process_that_dies_is_tried_again_later() -> None:
    machine, task, world = machine_in_training()
    actions = machine.handle(RoundFailed(task.ticket, TrainingError("killed")), world.now)
    assert not any(isinstance(a, Stop | Train) for a in actions)
    due = machine.next_timer()
    assert due is not None
    assert due >= world.now + 60
    assert "a round failed: killed" in {a.state.failure for a in actions if isinstance(a, Persist)}


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_numbers_that_do_not_fit_the_lattice_are_dropped_with_the_round(value: float) -> None:
    machine, task, world = machine_in_training()
    shared = np.full_like(task.task.base, value)
    head = np.zeros(9, dtype=np.float32)
    outcome = TrainingOutcome(shared, head, 0.1, None, 5, "rows", 0.1, own_head=head)
    actions = machine.handle(RoundDone(task.ticket, outcome), world.now)
    assert machine.state.outstanding is None
    assert machine.state.head is None
    assert machine.state.own_head is None
    assert not any("last layer of its own" in str(a) for a in actions)


def test_an_own_head_is_kept_with_its_round_and_named_once() -> None:
    machine, task, world = machine_in_training()
    head = np.zeros(9, dtype=np.float32)
    outcome = TrainingOutcome(task.task.base, head, 0.1, None, 5, "rows", 0.1, own_head=head + 1)
    actions = machine.handle(RoundDone(task.ticket, outcome), world.now)
    assert any("last layer of its own" in str(a) for a in actions)
    assert machine.state.own_head is outcome.own_head
    assert any(isinstance(a, Persist) and "own_head" in a.changed for a in actions)


def test_a_federation_with_another_structure_is_refused() -> None:
    _machine, _, world = machine_in_training()
    other = small_definition(classes=("a", "b", "d")).to_bytes()
    agent = world.agents["m00"]
    agent.crash()
    agent.disk = replace(agent.disk, definition=other)
    agent.start()
    world.run(30)
    assert agent.stopped is not None
    assert isinstance(agent.stopped.error, ConfigError)


def test_nothing_is_done_offline() -> None:
    machine = AgentMachine("m00", Topics("toy"), AgentState(), Pace(), "test")
    assert machine.next_timer() is None
    actions = machine.handle(BusConnected(1000), 5.0)
    assert [a.topic.rsplit("/", 1)[1] for a in actions if isinstance(a, Publish)] == [
        "status",
        "hello",
    ]


def test_a_welcome_overtaken_by_a_newer_manifest_does_not_put_the_agent_back() -> None:
    topics, encoded, epoch = Topics("toy"), small_definition().to_bytes(), Epoch(1, 7)

    def offer(k: int) -> ModelOffer:
        definition = Content(content_digest(encoded), len(encoded))
        return ModelOffer(ModelName(epoch, k, 5), definition, False)

    machine = AgentMachine("m00", topics, AgentState(definition=encoded), Pace(), "test")
    machine.handle(BusConnected(48 * 1024), 0.0)
    machine.handle(MessageArrived(topics.manifest, encode(Manifest(offer=offer(67)))), 0.1)
    welcome = Welcome(epoch=epoch, incarnation=2, dual_checksum=0, dual=None, offer=offer(66))
    actions = machine.handle(MessageArrived(topics.down("m00", Kind.WELCOME), encode(welcome)), 0.2)
    assert machine.state.newest == offer(67).name
    (want,) = [decode(a.payload, Kind.WANT) for a in actions if isinstance(a, Publish)]
    assert want.message == Want(have=None, window=WINDOW_BYTES, others=0)


def test_a_fetch_is_asked_for_again_right_after_a_reconnect() -> None:
    world = World(small_definition(), 1)
    agent = world.agents["m00"]
    assert world.run(
        60, until=lambda: agent.machine is not None and agent.machine.work == "fetching"
    )
    world.broker.cut("m00", world.now)
    world.run(1)
    world.broker.mend("m00", world.now)
    before, mended = agent.disk.rounds, world.now
    assert world.run(10, until=lambda: agent.disk.rounds > before)
    assert world.now < mended + 5


def test_a_late_answer_does_not_keep_an_agent_from_the_next_attempt() -> None:
    schedule = {**small_definition().schedule.model_dump(), "kind": "sync", "deadline_s": 10.0}
    algorithm = {**small_definition().algorithm.model_dump(), "mode": "fedalt"}
    world = World(small_definition(schedule=schedule, algorithm=algorithm), 2, training_s=11.0)
    world.run(200)
    for agent in world.agents.values():
        agent.training_s = 1.0
    before = world.state().k
    assert world.run(300, until=lambda: world.state().k > before + 3)


def test_a_late_answer_to_another_update_does_not_uninvite() -> None:
    schedule = {**small_definition().schedule.model_dump(), "kind": "sync", "participation": 1.0}
    world = World(small_definition(schedule=schedule), 2)
    agent = world.agents["m00"]
    machine = agent.machine
    assert machine is not None
    rounds = machine._rounds
    assert world.run(60, until=lambda: rounds.invitation is not None and rounds.work == "fetching")
    assert machine.state.epoch is not None
    answer = State(
        epoch=machine.state.epoch,
        incarnation=machine.state.incarnation,
        last_seq=machine.state.applied_seq,
        last_digest=None,
        dual_checksum=machine.state.dual_checksum,
        verdict=Verdict(1, Code.LATE, ""),
        offer=None,
    )
    agent.handle(MessageArrived(world.topics.down("m00", Kind.STATE), encode(answer)))
    before = agent.disk.rounds
    assert world.run(5, until=lambda: agent.disk.rounds > before)


def test_nothing_is_begun_while_an_update_is_outstanding() -> None:
    """Another round would take its place, and it could be applied all the same."""
    world = World(small_definition(), 2)
    agent = world.agents["m00"]
    assert world.run(60, until=lambda: agent.disk.outstanding is not None)
    world.coordinator.crash()
    machine, outstanding = agent.machine, agent.disk.outstanding
    assert machine is not None
    assert machine._desk.offer is not None
    offer = machine._desk.offer
    name = offer.name._replace(k=offer.name.k + 1)
    newer = Manifest(offer=offer._replace(name=name))
    actions = machine.handle(MessageArrived(world.topics.manifest, encode(newer)), world.now)
    assert machine._desk.offer.name == name
    assert actions == []
    assert (machine.work, machine.state.outstanding) == ("outstanding", outstanding)


def test_no_verdict_is_taken_for_another_message() -> None:
    """I4: a late answer to an update that was dropped says nothing about the one after it."""
    world = World(small_definition(), 2)
    agent = world.agents["m00"]
    assert world.run(60, until=lambda: agent.disk.outstanding is not None)
    world.coordinator.crash()
    outstanding, machine = agent.disk.outstanding, agent.machine
    assert outstanding is not None
    assert machine is not None
    assert machine.state.epoch is not None
    for code in Code:
        answer = State(
            epoch=machine.state.epoch,
            incarnation=machine.state.incarnation,
            last_seq=machine.state.applied_seq,
            last_digest=None,
            dual_checksum=machine.state.dual_checksum,
            verdict=Verdict(envelope_digest(outstanding) ^ 1, code, ""),
            offer=None,
        )
        topic = world.topics.down("m00", Kind.STATE)
        machine.handle(MessageArrived(topic, encode(answer)), world.now)
        assert machine.state.outstanding == outstanding


def test_a_round_of_an_earlier_incarnation_is_void() -> None:
    machine, task, world = machine_in_training()
    assert machine.state.epoch is not None
    assert machine._desk.offer is not None
    welcome = Welcome(
        epoch=machine.state.epoch,
        incarnation=machine.state.incarnation + 1,
        dual_checksum=0,
        dual=None,
        offer=machine._desk.offer,
    )
    machine.handle(
        MessageArrived(world.topics.down("m00", Kind.WELCOME), encode(welcome)), world.now
    )
    head = np.zeros(9, dtype=np.float32)
    outcome = TrainingOutcome(task.task.base + 1, head, 0.1, None, 5, "rows", 0.1)
    machine.handle(RoundDone(task.ticket, outcome), world.now)
    assert machine.state.outstanding is None
    assert machine.state.head is None


def test_an_old_removal_does_not_park_a_member() -> None:
    world = World(small_definition(), 2)
    world.run(20)
    agent = world.agents["m00"]
    assert agent.machine is not None
    assert agent.machine.state.epoch is not None
    removal = State(
        epoch=agent.machine.state.epoch,
        incarnation=0,
        last_seq=0,
        last_digest=None,
        dual_checksum=0,
        verdict=Verdict(0, Code.REMOVED, ""),
        offer=None,
    )
    agent.handle(MessageArrived(world.topics.down("m00", Kind.STATE), encode(removal)))
    assert world.run(5, until=lambda: everybody_agrees(world))
