"""What operators do and machines read: members, JSON, and ending in good order."""

import json
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from tests.e2e.outcomes import BROKER, assert_one_line, run_agent, run_coordinator
from tests.e2e.plant import Agent, Plant, as_json, rows, write_csv
from tests.e2e.processes import Running, command_of, run, until

from plantfed_shared.errors import StorageError

# ---------------------------------------------------------------------- members


def test_members_are_removed_and_admitted(tmp_path: Path) -> None:
    with Plant(tmp_path, agents=2) as plant:
        stays, goes = plant.agents
        plant.start()
        until(lambda: len(members(plant)) == 2, "both are members")
        order = ("members", "remove", goes.id)
        assert run_coordinator(plant, *order).out == f"remove {goes.id}: done\n"
        assert members(plant) == [stays.id]
        assert plant.federation().barred == {goes.id}
        goes.process.says("the operator has removed this agent")
        assert as_json(run_coordinator(plant, "members", "--json"))["barred"] == [goes.id]
        plant.goes_on(1)

        assert plant.coordinator is not None
        assert plant.coordinator.stop() == 0
        noted = run("coordinator", "members", "admit", goes.id, "--config", plant.config)
        assert noted.code == 0
        assert "it is done when the coordinator runs" in noted.out
        assert plant.federation().barred == {goes.id}
        plant.start_coordinator()
        until(lambda: not plant.federation().barred, "it is done")
        assert goes.process.stop() == 0
        goes.start()
        until(lambda: goes.id in members(plant), "it is a member again")
        assert plant.federation().members[goes.id].incarnation == 2
        plant.goes_on(1)


def members(plant: Plant) -> list[str]:
    with suppress(StorageError, AssertionError):
        return sorted(plant.federation().members)
    return []


def test_leaving_means_having_left(plant: Plant, agent: Agent) -> None:
    plant.start()
    plant.goes_on(1)
    assert agent.process.stop() == 0
    outcome = run_agent(agent, "leave")
    assert outcome.code == 0
    assert "left the federation" in outcome.out
    assert members(plant) == []
    agent.start()
    until(lambda: members(plant) == [agent.id], "it has come back")
    plant.goes_on(1)
    assert agent.process.stop() == 0

    assert plant.coordinator is not None
    assert plant.coordinator.stop() == 0
    leaving = Running(
        command_of("agent", "leave", "--config", agent.config),
        agent.folder / "leave.log",
        str(plant.folder),
    )
    leaving.says("connected")
    assert leaving.stop() == BROKER
    assert "left the federation" not in leaving.log
    assert "before the coordinator has answered" in leaving.log.splitlines()[-1]


# ---------------------------------------------------------------------- what machines read


def test_json_parses_and_agrees(plant: Plant, agent: Agent) -> None:
    plant.start()
    plant.goes_on(2)
    running = as_json(run_agent(agent, "status", "--json"))
    assert running["running"] is True
    assert agent.process.stop() == 0
    assert plant.coordinator is not None
    assert plant.coordinator.stop() == 0
    status = as_json(run_agent(agent, "status", "--json"))
    overview = as_json(run_coordinator(plant, "members", "--json"))
    history = as_json(run_coordinator(plant, "history", "--json", "--last", "100000"))
    predictions = as_json(run_agent(agent, "predict", "--json", agent.rows_file))
    (member,) = overview["members"]
    assert status["running"] is False
    assert status["id"] == member["id"] == "m1"
    assert member["last_seq"] - status["applied_seq"] in (0, 1)
    assert [entry["kind"] for entry in history[:2]] == ["epoch", "join"]
    newest = [entry["fields"] for entry in history if entry["kind"] == "release"][-1]
    assert newest == {"k": overview["k"], "checksum": overview["checksum"]}
    assert len(predictions["rows"]) == 60
    assert json.dumps(predictions)


def test_a_broken_connection_is_seen_from_outside(plant: Plant, agent: Agent) -> None:
    plant.start()
    plant.goes_on(1)
    assert as_json(run_agent(agent, "status", "--json"))["connected"] is True
    for outcome in (run_agent(agent, "check"), run_coordinator(plant, "check")):
        assert outcome.code == 0
        assert "connected to mqtt://" in outcome.out
    assert plant.broker is not None
    plant.broker.kill()
    agent.process.says("no connection")
    assert plant.coordinator is not None
    plant.coordinator.says("no connection")
    status = as_json(run_agent(agent, "status", "--json"))
    assert (status["running"], status["connected"]) == (True, False)
    assert status["trouble"] in agent.process.log
    for outcome in (run_agent(agent, "check"), run_coordinator(plant, "check")):
        assert_one_line(outcome, BROKER, "Is the broker running")
    plant.start_broker()
    until(
        lambda: as_json(run_agent(agent, "status", "--json"))["connected"], "it is connected again"
    )
    assert as_json(run_agent(agent, "status", "--json"))["trouble"] is None


# ---------------------------------------------------------------------- ending


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_every_service_ends_in_good_order(plant: Plant, agent: Agent, number: int) -> None:
    write_csv(agent.rows_file, rows(20_000, seed=1))
    plant.start()
    worker = until(agent.worker, "the agent trains")
    assert agent.process.stop(signal.Signals(number)) == 0
    assert not worker.is_running()
    assert plant.coordinator is not None
    assert plant.coordinator.stop(signal.Signals(number)) == 0
    assert plant.broker is not None
    assert plant.broker.stop(signal.Signals(number)) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_services_without_a_broker_end_too(plant: Plant, agent: Agent, number: int) -> None:
    agent.start().says("no connection")
    plant.start_coordinator().says("no connection")
    assert agent.process.stop(signal.Signals(number)) == 0
    assert plant.coordinator is not None
    assert plant.coordinator.stop(signal.Signals(number)) == 0
