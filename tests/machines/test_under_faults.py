"""The real machines while messages are lost, doubled, reordered, damaged, and both ends crash."""

from typing import get_args

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.federation_world import World, small_definition
from tests.machines.invariants import check_all, everybody_agrees, releases

from plantfed_coordinator.events import OperatorOrder, Order
from plantfed_shared.bus.faults import Faults
from plantfed_shared.definition import PERSONAL_OF_MODE, Algorithm, FederationDefinition, Mode

faults = st.builds(
    Faults,
    drop=st.sampled_from([0.0, 0.05, 0.2]),
    duplicate=st.sampled_from([0.0, 0.1, 0.5]),
    reorder=st.sampled_from([0.0, 0.2]),
    corrupt=st.sampled_from([0.0, 0.05]),
    replay=st.sampled_from([0.0, 0.1]),
    delay_s=st.sampled_from([(0.0, 0.0), (0.01, 0.2), (0.1, 3.0)]),
)
slow = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


SCHEDULED_MODES = [
    (kind, mode)
    for mode in get_args(Mode)
    for kind in ("async", "sync")
    if kind == "async" or not Algorithm(mode=mode).is_asynchronous_only
]


THIN: dict[str, object] = {
    "compression": {"kind": "low-rank", "bits": 3, "keep": 0.5, "keep_at_most": 0.5},
    "release_bits": 12,
    "coarsest_release_bits": 6,
}
"""All that makes messages short."""


def definition_of(kind: str, mode: str, *, thin: bool = False) -> FederationDefinition:
    schedule = {**small_definition().schedule.model_dump(), "kind": kind, "deadline_s": 60.0}
    algorithm = {**small_definition().algorithm.model_dump(), "mode": mode}
    personal = PERSONAL_OF_MODE.get(mode, ("layer3.*",))
    if thin:
        schedule["pace"] = 0.7
        # so few machines that solve their problem exactly need more to hold on to than others
        algorithm["penalty"] = 3.0
    return small_definition(
        schedule=schedule, algorithm=algorithm, personal=personal, **(THIN if thin else {})
    )


def calm(world: World) -> None:
    """Faults stop; what is still on its way arrives."""
    world.broker.faults = Faults(delay_s=(0.01, 0.05))
    world.crash_probability = 0.0


def recovers(world: World) -> None:
    """Without a human: releases go on, and everybody is a member again."""
    before = releases(world.coordinator.journal)
    patience = 1500.0  # the longest intervals between two tries are ten minutes
    assert world.run(patience, until=lambda: releases(world.coordinator.journal) > before + 2)
    assert world.run(patience, until=lambda: everybody_agrees(world))
    check_all(world)


@slow
@given(
    seed=st.integers(0, 2**32),
    faults=faults,
    crash=st.sampled_from([0.0, 0.01, 0.05]),
    agents=st.integers(1, 5),
    # fedapm twice as often as all others
    scheduled=st.sampled_from([("async", "fedapm"), ("sync", "fedapm")])
    | st.sampled_from(SCHEDULED_MODES),
    thin=st.booleans(),
)
def test_invariants_hold_and_nobody_is_stuck(
    seed: int, faults: Faults, crash: float, agents: int, scheduled: tuple[str, str], thin: bool
) -> None:
    world = World(
        definition_of(*scheduled, thin=thin),
        agents,
        seed=seed,
        faults=faults,
        crash_probability=crash,
        training_s=4.0,
    )
    for _ in range(6):
        world.run(50)
        if world.coordinator.machine is not None:
            check_all(world)
    calm(world)
    recovers(world)


@slow
@given(seed=st.integers(0, 2**32), faults=faults, steps=st.lists(st.integers(0, 5), max_size=12))
def test_members_come_and_go(seed: int, faults: Faults, steps: list[int]) -> None:
    world = World(small_definition(), training_s=4.0, agents=4, seed=seed, faults=faults)
    names = sorted(world.agents)
    for step in steps:
        world.run(20)
        name = names[step % len(names)]
        order = Order.REMOVE if step < 3 else Order.ADMIT
        world.coordinator.handle(OperatorOrder(order, name))
        check_all(world)
    calm(world)
    for name in names:
        world.coordinator.handle(OperatorOrder(Order.ADMIT, name))
    recovers(world)


@slow
@given(seed=st.integers(0, 2**32), crash=st.sampled_from([0.0, 0.02]))
def test_broker_forgets_everything(seed: int, crash: float) -> None:
    world = World(small_definition(), training_s=4.0, agents=3, seed=seed, crash_probability=crash)
    for _ in range(5):
        world.run(10)
        world.broker.forget(world.now)
    calm(world)
    recovers(world)


@slow
@given(seed=st.integers(0, 2**32), cuts=st.lists(st.integers(0, 3), min_size=1, max_size=8))
def test_links_are_cut_and_mended(seed: int, cuts: list[int]) -> None:
    world = World(small_definition(), training_s=4.0, agents=3, seed=seed)
    clients = [*world.agents, world.coordinator.client_id]
    for number in cuts:
        world.run(7)
        world.broker.cut(clients[number], world.now)
        world.run(40)
        check_all(world)
        world.broker.mend(clients[number], world.now)
    recovers(world)


def test_with_a_pace_machines_with_little_to_learn_say_less() -> None:
    updates = {}
    for pace in (0.0, 0.9):
        definition = definition_of("async", "fedapm", thin=True)
        schedule = {**definition.schedule.model_dump(), "pace": pace}
        world = World(
            definition_of("async", "fedapm", thin=True).model_validate(
                {**definition.model_dump(), "schedule": schedule}
            ),
            5,
            seed=1,
            training_s=4.0,
        )
        for number, agent in enumerate(world.agents.values()):
            agent.compute_s = lambda number=number: 1.0 + 5 * number
        world.run(600)
        check_all(world)
        updates[pace] = world.state().updates
    assert updates[0.9] < 0.6 * updates[0.0]
