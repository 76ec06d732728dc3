"""A federation with a compiled model on the simulator's engine: the artefact comes over the bus."""

import dataclasses
from functools import cache

import numpy as np
import pytest
from tests.compiled_federations import federation, kernels_of, samples
from tests.federation_world import World

from plantfed_agent.events import KeepArtefact
from plantfed_agent.inprocess import carry_out
from plantfed_agent.state import AgentState, same_structure
from plantfed_coordinator.founding import refuse_other_structure
from plantfed_shared.bus.faults import Faults
from plantfed_shared.errors import ConfigError, LostModelError
from plantfed_shared.transfer import Blob

FAULTS = Faults(delay_s=(0.01, 0.3), drop=0.05, duplicate=0.05)


def with_large_artefact(made):
    """The same federation whose artefact, never looked into here, has 400 kB."""
    blob = Blob.of(np.random.default_rng(0).bytes(400_000))
    model = made.definition.model.model_copy(
        update={"digest": blob.content.digest.hex(), "size": blob.content.size}
    )
    definition = made.definition.model_copy(update={"model": model})
    return made._replace(definition=definition, artefact=blob)


def world_of(made, agents, faults=None):
    kernels = cache(lambda: kernels_of(made))

    def train(name):
        own = samples(made, seed=int(name[1:]))
        return lambda task: carry_out(task, lambda _: own, report_score=True, kernels=kernels())

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


def test_a_half_fetched_artefact_goes_on_after_a_kill(tmp_path):
    made = with_large_artefact(federation(tmp_path))
    world = world_of(made, 1, Faults(delay_s=(0.2, 0.3)))
    world.agents["m00"].compute_s = lambda: 1000.0
    agent = world.agents["m00"]
    assert world.run(60, lambda: agent.half is not None)
    here = sum(len(piece) for _, piece in agent.half.pieces)
    assert agent.half.content == made.artefact.content
    assert 0 < here < made.artefact.content.size
    agent.crash()
    world.run(5)  # what was asked for before is answered before, to nobody
    pulled = []
    whole = made.artefact.encoded
    publish = world.broker.publish
    agent.start()

    def watched(client_id, topic, payload, now, *, retain=False):
        if topic.endswith("/down/chunk"):
            pulled.append(len(payload))
        return publish(client_id, topic, payload, now, retain=retain)

    world.broker.publish = watched
    assert world.run(60, lambda: bool(agent.artefacts))
    assert agent.artefacts == {made.artefact.content.digest: whole}
    assert agent.half is None
    assert 0 < sum(pulled) < made.artefact.content.size - here + 20_000


def test_an_artefact_that_is_served_wrong_is_not_fetched_again_and_again(tmp_path):
    made = with_large_artefact(federation(tmp_path))
    world = world_of(made, 1)
    right = made.artefact
    wrong = dataclasses.replace(right, encoded=right.encoded[:-1] + b"!")
    contents = world.coordinator.machine._desk.contents
    contents.artefact = wrong
    pulled = []
    publish = world.broker.publish

    def watched(client_id, topic, payload, now, *, retain=False):
        if topic.endswith("/down/chunk"):
            pulled.append(len(payload))
        return publish(client_id, topic, payload, now, retain=retain)

    world.broker.publish = watched
    agent = world.agents["m00"]
    world.run(1200)
    assert not agent.artefacts
    assert sum("does not fit its digest" in line for line in agent.log) >= 2
    # one every two minutes
    assert sum(pulled) < 12 * right.content.size
    contents.artefact = right
    assert world.run(300, lambda: bool(agent.artefacts))


def test_an_agent_ends_with_one_line_where_the_artefact_changed(tmp_path):
    made = with_large_artefact(federation(tmp_path))
    state = AgentState(definition=made.definition.to_bytes())
    other = federation(tmp_path)
    assert not same_structure(state.definition, other.definition)
    with pytest.raises(ConfigError, match="model differ from the federation in the journal"):
        refuse_other_structure(made.definition, other.definition, "federation.toml")


def losing(made, broken):
    """Rounds that fail while ``broken`` says so, as they do with a damaged file."""
    kernels, own = kernels_of(made), samples(made)

    def train(task):
        if broken():
            raise LostModelError("is not what its digest says", where="models/x.pfm")
        return carry_out(task, lambda _: own, report_score=True, kernels=kernels)

    return train


def world_of_one(made, broken):
    return World(
        made.definition,
        agents=1,
        train=lambda _: losing(made, broken),
        initial=made.initial,
        artefact=made.artefact,
    )


def test_an_artefact_that_is_damaged_while_the_agent_runs_is_fetched_anew(tmp_path):
    made = federation(tmp_path)
    damaged = iter([False, False, True, False, False, True])
    world = world_of_one(made, lambda: next(damaged, False))
    agent = world.agents["m00"]
    fetched = []
    write = agent._write
    agent._write = lambda action: fetched.append(action) or write(action)
    assert world.run(600, lambda: agent.disk.rounds == 6)
    assert sum(isinstance(action, KeepArtefact) for action in fetched) == 3
    assert any("fetched anew: models/x.pfm" in line for line in agent.log)
    assert agent.disk.failure == ""


@pytest.mark.parametrize("good_rounds", [0, 2])
def test_an_artefact_that_is_damaged_again_at_once_ends_the_agent(good_rounds, tmp_path):
    good = iter([False] * good_rounds)
    world = world_of_one(federation(tmp_path), lambda: next(good, True))
    agent = world.agents["m00"]
    assert world.run(600, lambda: agent.stopped is not None)
    assert agent.disk.rounds == good_rounds
    assert isinstance(agent.stopped.error, LostModelError)
    assert "not what its digest says" in agent.disk.failure
