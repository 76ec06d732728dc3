"""Killing everything, one after another, in one run: nothing is lost, nothing counts twice."""

import asyncio
import signal
from pathlib import Path

import numpy as np
import psutil
import pytest
from tests.e2e.judging import (
    assert_agents_agree,
    assert_journal_counts_everything_once,
    assert_replay_is_exact,
)
from tests.e2e.plant import Agent, Plant, rows, write_csv
from tests.e2e.processes import Running, find_mosquitto, until

from plantfed_agent.process_trainer import ProcessTrainer
from plantfed_agent.settings import load_agent_settings
from plantfed_agent.state import AgentState
from plantfed_agent.training import TrainingOutcome, TrainingTask
from plantfed_coordinator.records import Applied, Released
from plantfed_lab.simulation.coordinator_host import replay
from plantfed_shared.definition import FederationDefinition
from plantfed_shared.lattice import Integers, checksum

N_AGENTS = 4


@pytest.mark.parametrize("broker", ["mosquitto", "nats"])
def test_a_federation_survives_the_death_of_each_of_its_processes(
    tmp_path: Path, broker: str
) -> None:
    if broker == "mosquitto" and find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    with Plant(tmp_path, agents=N_AGENTS) as plant:
        # everybody is waited for, but not longer than a second: a release is due most of the time
        plant.define(
            algorithm={"epochs": 10},
            schedule={"arrivals": N_AGENTS, "release_after_s": 1.0, "min_members": N_AGENTS},
        )
        victim = plant.agents[0]
        write_csv(victim.rows_file, rows(24_000, seed=1))
        for agent in plant.agents:
            agent.configure(
                training={
                    "min_interval_s": 0.05,
                    "max_rounds_without_new_rows": 10**6,
                    "nice": 0,  # a nice one hardly gets anywhere on a busy machine
                }
            )
        start_broker(plant, broker)
        plant.start_coordinator().says("connected")
        for agent in plant.agents:
            agent.start()
        plant.goes_on(3)

        before = kill_while_it_trains(victim)
        plant.goes_on(2)
        victim.start()
        after = first_round_after(victim, before)
        repeated = train(victim, before, model_trained_on(plant, after))
        np.testing.assert_array_equal(repeated.head, after.head)

        kill_while_a_release_is_due(plant)
        assert plant.start_coordinator()
        plant.goes_on(2)

        kill_broker(plant, broker)
        start_broker(plant, broker)
        plant.goes_on(2)
        everybody_goes_on(plant)

        for agent in plant.agents:
            assert agent.process.stop() == 0
        assert plant.coordinator is not None
        assert plant.coordinator.stop() == 0
        assert_journal_counts_everything_once(plant, ["m1", "m2", "m3", "m4"])
        assert_agents_agree(plant)
        assert_replay_is_exact(plant)


# ---------------------------------------------------------------------- killing


def kill_while_it_trains(agent: Agent) -> AgentState:
    """Kill an agent whose worker has been busy with a round for a while; its state on disk."""
    rounds, spent = -1, 0.0

    def deep_in_a_round() -> psutil.Process | None:
        nonlocal rounds, spent
        worker = agent.worker()
        if worker is None:
            return None
        cpu = sum(worker.cpu_times()[:2])
        if in_another_round(agent, rounds):
            rounds, spent = agent.state().rounds, cpu
        return worker if cpu > spent + 0.1 else None

    for _ in range(10):
        worker = until(deep_in_a_round, "the worker trains")
        agent.process.pause()  # nothing is written between the look and the kill
        if not in_another_round(agent, rounds):
            break
        agent.process.send(signal.SIGCONT)
    agent.process.kill()
    state = agent.state()
    assert state.rounds == rounds
    assert state.outstanding is None
    until(lambda: not alive(worker), "the worker ends with its agent", 5)
    return state


def in_another_round(agent: Agent, rounds: int) -> bool:
    state = agent.state()
    return state.rounds != rounds or state.outstanding is not None


def alive(process: psutil.Process) -> bool:
    return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)


def first_round_after(agent: Agent, before: AgentState) -> AgentState:
    """The state right after the first round of a restarted agent."""

    def trained_again() -> AgentState | None:
        state = agent.state()
        return state if state.rounds > before.rounds else None

    after = until(trained_again, "a round after the restart", 40)
    assert after.rounds == before.rounds + 1
    assert after.incarnation == before.incarnation == 1
    return after


def model_trained_on(plant: Plant, after: AgentState) -> Integers:
    """From the journal: the agent may have the next model already."""
    assert after.trained_on is not None
    records, k = plant.journal(), after.trained_on.k
    ends = [n for n, r in enumerate(records, 1) if isinstance(r, Released) and r.k == k]
    model = replay(records[: ends[0] if ends else 1]).model
    assert checksum(model) == after.trained_on.checksum
    return model


def train(agent: Agent, before: AgentState, model: Integers) -> TrainingOutcome:
    """The same round again: same head as before the kill, same number, same model."""
    definition = FederationDefinition.from_bytes(before.definition)
    lattice = definition.lattice()
    task = TrainingTask(
        agent=agent.id,
        seq=before.applied_seq + 1,
        base=lattice.to_floats(model),
        dual=lattice.to_floats(before.dual if before.dual is not None else 0 * model),
        head=before.head,
        definition=definition,
    )

    async def once() -> TrainingOutcome:
        trainer = ProcessTrainer(load_agent_settings(agent.config))
        try:
            return await trainer.run(task)
        finally:
            await trainer.stop()

    return asyncio.run(once())


def kill_while_a_release_is_due(plant: Plant) -> None:
    coordinator = plant.coordinator
    assert coordinator is not None
    for _ in range(10):
        until(lambda: an_update_waits(plant), "an update that is not released yet")
        coordinator.pause()  # nothing is released between the look and the kill
        if an_update_waits(plant):
            break
        coordinator.send(signal.SIGCONT)
    coordinator.kill()
    assert an_update_waits(plant)


def an_update_waits(plant: Plant) -> bool:
    decisive = [r for r in plant.journal() if isinstance(r, Applied | Released)]
    return isinstance(decisive[-1], Applied)


def start_broker(plant: Plant, kind: str) -> Running:
    return plant.start_mosquitto() if kind == "mosquitto" else plant.start_broker("nats")


def kill_broker(plant: Plant, kind: str) -> None:
    assert plant.broker is not None
    if kind == "mosquitto":
        plant.broker.kill()
        assert not (plant.folder / "mosquitto" / "mosquitto.db").exists(), (
            "it has forgotten nothing"
        )
        return
    (server,) = plant.broker.children()
    server.kill()
    assert plant.broker.ends() == 69


def everybody_goes_on(plant: Plant) -> None:
    """Every agent finishes two more rounds whose updates are applied."""
    then = {agent.id: agent.state().applied_seq for agent in plant.agents}
    for agent in plant.agents:
        wanted = then[agent.id] + 2
        until(lambda a=agent, n=wanted: a.state().applied_seq >= n, f"{agent.id} goes on", 40)  # type: ignore[misc]
