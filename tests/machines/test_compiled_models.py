"""A federation with a compiled model on the simulator's engine: the artefact comes over the bus."""

import numpy as np
from tests.compiled_federations import federation, kernels_of, samples
from tests.federation_world import World

from plantfed_agent.inprocess import carry_out
from plantfed_shared.bus.faults import Faults

FAULTS = Faults(delay_s=(0.01, 0.3), drop=0.05, duplicate=0.05)


def world_of(made, agents, faults=None):
    kernels = kernels_of(made)

    def train(name):
        own = samples(made, seed=int(name[1:]))
        return lambda task: carry_out(task, lambda _: own, report_score=True, kernels=kernels)

    return World(
        made.definition,
        agents=agents,
        seed=1,
        faults=faults,
        train=train,
        initial=made.initial,
        artefact=made.artefact,
    )


def mean_score(world):
    return np.mean([agent.disk.score for agent in world.agents.values()])


def test_agents_fetch_the_artefact_once_and_train(tmp_path):
    made = federation(tmp_path)
    world = world_of(made, 3, FAULTS)
    assert world.run(900, lambda: all(a.disk.rounds >= 5 for a in world.agents.values()))
    digest = made.artefact.content.digest
    for agent in world.agents.values():
        assert agent.artefacts == {digest: made.artefact.encoded}
        assert agent.disk.loss is not None
    # chance is a third
    assert world.run(900, lambda: mean_score(world) > 0.6)


def test_an_agent_that_has_it_does_not_fetch_it_again(tmp_path):
    made = federation(tmp_path)
    world = world_of(made, 2)
    assert world.run(300, lambda: world.state().k >= 1)
    agent = world.agents["m00"]
    agent.crash()
    rounds = agent.disk.rounds
    agent.start()
    world.coordinator.machine._desk.contents.artefact = None
    assert world.run(300, lambda: agent.disk.rounds > rounds)


def test_nobody_trains_before_the_artefact_is_there(tmp_path):
    made = federation(tmp_path)
    world = world_of(made, 2)
    world.coordinator.machine._desk.contents.artefact = None
    assert not world.run(120, lambda: any(a.disk.rounds for a in world.agents.values()))
