"""What an agent drops and what it begins anew: refused updates, welcomes, new epochs."""

from dataclasses import replace

import numpy as np
import pytest
from tests.federation_world import World, of_mode, small_definition
from tests.machines.agent_in_training import machine_in_training
from tests.machines.invariants import check_all, everybody_agrees

from plantfed_agent.events import (
    MessageArrived,
    RoundDone,
)
from plantfed_agent.pace import Pace
from plantfed_agent.serving_model import between_epochs, newest_model
from plantfed_agent.training import TrainingOutcome
from plantfed_shared.messages import (
    Code,
    State,
    Verdict,
    Welcome,
)
from plantfed_shared.terms import terms_of
from plantfed_shared.topics import Kind
from plantfed_shared.wire import encode, envelope_digest


def with_memory(**changes: object) -> World:
    """Two agents that remember what they did not send."""
    algorithm = {**small_definition().algorithm.model_dump(), "memory": 0.5, "learning_rate": 0.1}
    return World(small_definition(algorithm=algorithm, lattice_bits=8, **changes), 2)


@pytest.mark.parametrize("code", [Code.BASE_GONE, Code.REJECTED, Code.LATE])
def test_a_dropped_update_takes_the_compression_memory_with_it(code: Code) -> None:
    world = with_memory()
    agent = world.agents["m00"]
    assert world.run(60, until=lambda: agent.disk.applied_seq == 2 and bool(agent.disk.outstanding))
    machine, before = agent.machine, agent.disk
    assert machine is not None
    assert machine.state.epoch is not None
    assert before.outstanding is not None
    assert before.memory is not None
    world.coordinator.crash()
    answer = State(
        epoch=machine.state.epoch,
        incarnation=before.incarnation,
        last_seq=before.applied_seq,
        last_digest=None,
        dual_checksum=before.dual_checksum,
        verdict=Verdict(envelope_digest(before.outstanding), code, ""),
        offer=None,
    )
    agent.handle(MessageArrived(world.topics.down("m00", Kind.STATE), encode(answer)))
    after = agent.disk
    assert (after.outstanding, after.memory, after.trained_on) == (None, None, None)
    assert (after.applied_seq, after.dual_checksum) == (before.applied_seq, before.dual_checksum)


def test_a_welcome_begins_with_the_coordinators_dual_and_nothing_of_before() -> None:
    world = with_memory()
    agent = world.agents["m00"]
    assert world.run(60, until=lambda: agent.disk.applied_seq == 2 and bool(agent.disk.outstanding))
    machine, before = agent.machine, agent.disk
    assert machine is not None
    assert machine.state.epoch is not None
    assert machine._desk.offer is not None
    assert before.memory is not None
    assert before.dual is not None
    world.coordinator.crash()
    welcome = Welcome(
        epoch=machine.state.epoch,
        incarnation=before.incarnation + 1,
        dual_checksum=0,
        dual=None,
        offer=machine._desk.offer,
    )
    agent.handle(MessageArrived(world.topics.down("m00", Kind.WELCOME), encode(welcome)))
    after = agent.disk
    assert (after.incarnation, after.applied_seq) == (before.incarnation + 1, 0)
    assert (after.dual, after.memory, after.outstanding, after.trained_on) == (None,) * 4
    assert after.head is before.head


def edit(world: World, **changes: object) -> bytes:
    """The operator edits settings; returns the new definition."""
    edited = small_definition(**changes).to_bytes()
    world.coordinator.edit(edited)
    return edited


def test_edited_settings_clear_the_memory_and_wake_an_agent_at_rest() -> None:
    world = with_memory()
    agent = world.agents["m00"]
    agent.crash()
    agent.pace = lambda: Pace(max_rounds_without_new_rows=3)
    agent.start()
    world.run(200)
    assert agent.machine is not None
    assert agent.machine.resting
    assert agent.disk.memory is not None
    algorithm = {**small_definition().algorithm.model_dump(), "memory": 0.25}
    edited = edit(world, algorithm=algorithm, lattice_bits=8)
    assert world.run(60, until=lambda: agent.disk.definition == edited)
    assert agent.disk.memory is None
    assert not agent.machine.resting
    world.run(100)
    assert agent.disk.rounds == 6
    check_all(world)


@pytest.mark.parametrize(
    "changes", [{"lattice_bits": 8}, {"lattice_bits": 18}, {"algorithm": {"mode": "fedavg"}}]
)
def test_what_is_used_is_used_until_the_first_model_of_a_new_epoch_and_never_trained_on(
    changes: dict[str, object],
) -> None:
    """In the new units it has other numbers, and would be taken for the release it was."""
    world = World(of_mode("auto", schedule={"arrivals": 1}), 2)
    agent = world.agents["m00"]
    assert world.run(600, until=lambda: agent.disk.earlier is not None)
    old = terms_of(agent.disk.definition).definition
    new = of_mode("auto", schedule={"arrivals": 1}, **changes)
    world.coordinator.edit(new.to_bytes())
    seen: list[tuple[bool, bool, np.ndarray]] = []

    def note() -> None:
        disk = agent.disk
        definition = terms_of(disk.definition).definition
        has_name = disk.model_name is not None
        seen.append((definition == new, has_name, newest_model(disk, definition).shared))

    note()
    agent.on_persist = note

    def has_a_model_of_the_new_epoch() -> bool:
        name = agent.disk.model_name
        return name is not None and name.epoch.counter == 2

    assert world.run(600, until=has_a_model_of_the_new_epoch)
    used = [shared for _, has_name, shared in seen if not has_name]
    assert used
    assert not next(has_name for is_new, has_name, _ in seen if is_new)
    before = [s for is_new, has_name, s in seen if not is_new and has_name][-1]
    finest = max(2.0**-new.lattice_bits, 2.0**-old.lattice_bits)
    assert max(float(np.abs(each - before).max()) for each in used) <= finest
    check_all(world)


def test_a_round_of_an_earlier_epoch_is_void() -> None:
    machine, task, world = machine_in_training()
    edit(world, lattice_bits=15)
    world.run(20)
    assert machine.link == "joined"
    assert machine.state.epoch == world.state().epoch
    head = np.zeros(9, dtype=np.float32)
    outcome = TrainingOutcome(task.task.base + 1, head, 0.1, None, 5, "rows", 0.1)
    machine.handle(RoundDone(task.ticket, outcome), world.now)
    assert machine.state.outstanding is None
    assert machine.state.head is None


def test_a_dual_that_does_not_fit_its_update_is_replaced_by_the_coordinators() -> None:
    """The disk has lost a bit of w while a verdict was on its way."""
    world = World(small_definition(), 2)
    agent = world.agents["m00"]
    world.run(30)
    assert world.run(60, until=lambda: agent.disk.outstanding is not None)
    behind = agent.disk.applied_seq
    assert world.run(1, until=lambda: world.state().members["m00"].last_seq == behind + 1)
    agent.crash()
    assert agent.disk.applied_seq == behind
    assert agent.disk.dual is not None
    flipped = agent.disk.dual.copy()
    flipped[0] ^= 1
    agent.disk = replace(agent.disk, dual=flipped)
    agent.start()
    assert world.run(5, until=lambda: everybody_agrees(world))
    assert agent.disk.incarnation == 2
    check_all(world)


def test_a_round_is_void_once_the_definition_of_a_new_epoch_is_here() -> None:
    """Before the epoch is: what it was trained on has no name any more."""
    machine, task, world = machine_in_training()
    assert machine.state.model_name is not None
    machine._desk.state = between_epochs(machine.state, world.state().terms.definition)
    head = np.zeros(9, dtype=np.float32)
    outcome = TrainingOutcome(task.task.base + 1, head, 0.1, None, 5, "rows", 0.1)
    machine.handle(RoundDone(task.ticket, outcome), world.now)
    assert machine.state.outstanding is None
    assert machine.state.head is None
