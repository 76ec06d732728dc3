"""The journal tells what every machine has had in use, bit for bit: mode auto and the others."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.federation_world import Agent, World, of_mode
from tests.machines.test_under_faults import calm, recovers

from plantfed_agent.serving_model import newest_integers
from plantfed_coordinator.events import OperatorOrder, Order
from plantfed_coordinator.records import EpochStarted
from plantfed_coordinator.snapshot import from_rows, to_rows
from plantfed_coordinator.state import FederationState
from plantfed_coordinator.used_by import Used, UsedBy
from plantfed_shared import own_average
from plantfed_shared.bus.faults import Faults
from plantfed_shared.codec import TURNOVER
from plantfed_shared.errors import ConfigError
from plantfed_shared.lattice import checksum
from plantfed_shared.terms import terms_of

AUTO = of_mode("auto", schedule={"arrivals": 2})


Seen = dict[tuple[str, int, int], int]
"""By agent, incarnation and update: the checksum of what was in use when that was made."""


def with_short_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_average, "WINDOW", 4 * TURNOVER)
    monkeypatch.setattr(own_average, "OVERLAP", TURNOVER)


def watched(world: World, seen: Seen) -> None:
    for agent in world.agents.values():
        agent.on_persist = lambda agent=agent: note(agent, seen)  # type: ignore[misc]


def note(agent: Agent, seen: Seen) -> None:
    disk = agent.disk
    if disk.outstanding is not None:
        found = newest_integers(disk, terms_of(disk.definition).definition.algorithm)
        assert found is not None
        seen[agent.name, disk.incarnation, disk.applied_seq + 1] = checksum(found)


def used_by(world: World, agent: str, *, behind: int = 0) -> tuple[Used, ...]:
    """From the journal alone, or from a snapshot and what is behind so many records."""
    journal = world.coordinator.journal
    assert isinstance(journal[0], EpochStarted)
    state = FederationState.begin(journal[0])
    for record in journal[1:behind]:
        state.apply(record)
    state = from_rows(to_rows(state))
    used = UsedBy(agent, state if behind else None)
    if not behind:
        used.take(journal[0], state)
    for record in journal[max(1, behind) :]:
        state.apply(record)
        used.take(record, state)
    return used.found(state)


def check(world: World, seen: Seen) -> int:
    """Every update in the journal was made on what the journal says; returns how many averages."""
    averages = 0
    for agent in world.agents:
        found = [used for used in used_by(world, agent) if used.seq is not None]
        assert len(found) == sum(r.agent == agent for r in world.applied())
        for used in found:
            assert used.seq is not None
            assert seen[agent, used.incarnation, used.seq] == used.checksum, (agent, used)
            averages += used.name.startswith("average")
    return averages


@given(
    st.integers(0, 2**20),
    st.builds(
        Faults,
        drop=st.sampled_from([0.0, 0.05]),
        duplicate=st.sampled_from([0.0, 0.2]),
        reorder=st.sampled_from([0.0, 0.3]),
        delay_s=st.just((0.01, 0.5)),
    ),
    st.sampled_from([0.0, 0.02]),
    st.sampled_from(["async", "sync"]),
)
@settings(max_examples=12, deadline=None)
def test_every_update_was_made_with_what_the_journal_says_was_in_use(
    seed: int, faults: Faults, crash: float, kind: str
) -> None:
    schedule = {"arrivals": 2, "kind": kind, "participation": 0.6, "deadline_s": 20.0}
    definition = of_mode("auto", schedule=schedule, release_bits=12)
    world = World(definition, 5, seed=seed, faults=faults, crash_probability=crash)
    seen: Seen = {}
    watched(world, seen)
    world.run(120)
    calm(world)
    recovers(world)
    assert check(world, seen) > 0


@pytest.mark.parametrize("mode", ["fedapm", "fedavg", "fedasync"])
def test_in_other_modes_each_release_itself_was_used(mode: str) -> None:
    world = World(of_mode(mode, schedule={"arrivals": 2}), 4)
    seen: Seen = {}
    watched(world, seen)
    world.run(40)
    assert check(world, seen) == 0
    assert seen


def test_an_edit_and_an_expulsion_begin_an_average_anew() -> None:
    world = World(AUTO, 4)
    seen: Seen = {}
    watched(world, seen)
    world.run(30)
    algorithm = AUTO.algorithm.model_copy(update={"learning_rate": 0.2})
    world.coordinator.edit(AUTO.model_copy(update={"algorithm": algorithm}).to_bytes())
    world.run(30)
    for order in (Order.REMOVE, Order.ADMIT):
        world.coordinator.handle(OperatorOrder(order, "m01"))
        world.run(5)
    world.agents["m01"].start()
    world.run(60)
    assert check(world, seen) > 0
    found = used_by(world, "m01")
    begun = [used for used in found if used.seq is not None and not used.name.startswith("average")]
    k_of_edit = next(r.k for r in world.coordinator.journal[1:] if isinstance(r, EpochStarted))
    assert {used.incarnation for used in begun} == {1, 2}
    assert f"release {k_of_edit}" in [used.name for used in begun]
    assert len(begun) < len(found) / 5


def test_behind_a_snapshot_it_is_known_once_what_is_older_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_short_windows(monkeypatch)
    world = World(AUTO, 4)
    seen: Seen = {}
    watched(world, seen)
    world.run(30)
    middle = len(world.coordinator.journal)
    world.run(5)
    assert used_by(world, "m01", behind=middle) == ()
    world.run(60)
    all_of_it, rest = used_by(world, "m01"), used_by(world, "m01", behind=middle)
    assert len(rest) > len(all_of_it) / 3
    assert all_of_it[-len(rest) :] == rest
    assert all(used.name.startswith("average") for used in rest)
    assert check(world, seen) > 0


def test_behind_a_snapshot_an_edit_begins_what_is_known() -> None:
    world = World(AUTO, 4)
    world.run(30)
    middle = len(world.coordinator.journal)
    world.run(10)
    assert used_by(world, "m01", behind=middle) == ()
    algorithm = AUTO.algorithm.model_copy(update={"learning_rate": 0.2})
    world.coordinator.edit(AUTO.model_copy(update={"algorithm": algorithm}).to_bytes())
    world.run(30)
    all_of_it, rest = used_by(world, "m01"), used_by(world, "m01", behind=middle)
    assert len(rest) > 3
    assert all_of_it[-len(rest) :] == rest
    assert rest[0].name.startswith("release")


def test_who_was_never_a_member_is_named() -> None:
    world = World(AUTO, 2)
    world.run(10)
    with pytest.raises(ConfigError, match="--used-by 'm09': no such member in what is kept of the"):
        used_by(world, "m09")
