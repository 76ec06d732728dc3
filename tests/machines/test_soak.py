"""`make soak`: thousands of seeds of what test_under_faults tries a few of."""

import random

import pytest
from tests.federation_world import World
from tests.machines.invariants import check_all
from tests.machines.test_under_faults import SCHEDULED_MODES, calm, definition_of, recovers

from plantfed_shared.bus.faults import Faults

SEEDS = 2000


def world_of(seed: int) -> World:
    """A federation whose size, faults and mode follow from the seed."""
    draw = random.Random(seed)
    faults = Faults(
        drop=draw.choice([0.0, 0.05, 0.3]),
        duplicate=draw.choice([0.0, 0.1, 0.5]),
        reorder=draw.choice([0.0, 0.2, 0.5]),
        corrupt=draw.choice([0.0, 0.05]),
        replay=draw.choice([0.0, 0.1]),
        delay_s=draw.choice([(0.0, 0.0), (0.01, 0.2), (0.1, 3.0)]),
    )
    main = [("async", "fedapm"), ("async", "fedapm"), ("sync", "fedapm")]
    kind, mode = draw.choice(draw.choice([main, SCHEDULED_MODES]))
    return World(
        definition_of(kind, mode, thin=draw.random() < 0.5),
        draw.randint(1, 6),
        seed=seed,
        faults=faults,
        crash_probability=draw.choice([0.0, 0.01, 0.05]),
        training_s=4.0,
    )


@pytest.mark.soak
@pytest.mark.parametrize("first", range(0, SEEDS, 100))
def test_seeds(first: int) -> None:
    for seed in range(first, first + 100):
        try:
            world = world_of(seed)
            for _ in range(6):
                world.run(50)
                if seed % 7 == 0:
                    world.broker.forget(world.now)
                if world.coordinator.machine is not None:
                    check_all(world)
            calm(world)
            recovers(world)
        except BaseException as error:
            error.add_note(f"replay with: world_of({seed})")
            raise
