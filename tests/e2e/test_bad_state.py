"""Whatever is wrong with the state on disk: one clear line, and nothing is lost."""

import resource

import pytest
from tests.e2e.outcomes import (
    DATA,
    SETTINGS,
    STORAGE,
    assert_ends_with_one_line,
    assert_one_line,
    run_agent,
    run_coordinator,
)
from tests.e2e.plant import Agent, Plant, count_records

# ---------------------------------------------------------------------- the state on disk


def test_before_anything_ran(plant: Plant, agent: Agent) -> None:
    out = plant.folder / "x.npz"
    for outcome in (
        run_agent(agent, "status"),
        run_agent(agent, "export", "--out", out),
        run_agent(agent, "predict", agent.rows_file),
        run_coordinator(plant, "members"),
        run_coordinator(plant, "export", "--out", out),
        run_coordinator(plant, "members", "remove", "m1"),
    ):
        assert_one_line(outcome, STORAGE, "there is no state yet")
    assert not out.exists()


def test_a_state_folder_that_is_a_file(plant: Plant, agent: Agent) -> None:
    plant.configure(coordinator={"state_dir": "federation.toml"})
    agent.configure(agent={"state_dir": "agent.toml"})
    for command in ("check", "run"):
        assert_one_line(run_coordinator(plant, command), STORAGE, "federation.toml")
        assert_one_line(run_agent(agent, command), STORAGE, "agent.toml")


def test_two_processes_on_one_state(plant: Plant, agent: Agent) -> None:
    plant.start()
    plant.goes_on(1)
    assert_one_line(run_coordinator(plant, "run"), STORAGE, "another plantfed-coordinator")
    assert_one_line(run_agent(agent, "run"), STORAGE, "another plantfed-agent")
    assert_one_line(run_agent(agent, "leave"), STORAGE, "another plantfed-agent")
    # a check beside a running service says so, and takes nothing away from it
    assert run_agent(agent, "check").code == 0
    assert run_coordinator(plant, "check").code == 0
    plant.goes_on(1)
    assert "no connection" not in agent.process.log
    assert plant.coordinator is not None
    assert "no connection" not in plant.coordinator.log


def test_the_state_of_another_agent_or_federation(plant: Plant, agent: Agent) -> None:
    plant.start()
    plant.goes_on(1)
    assert agent.process.stop() == 0
    for change in ({"id": "m2"}, {"federation": "other"}):
        agent.configure(agent=change)
        assert_one_line(run_agent(agent, "run"), SETTINGS, "agent.db", "toy/m1")
    assert count_records(plant.journal(), "EpochStarted") == 1


@pytest.mark.parametrize("program", ["agent", "coordinator"])
def test_a_file_that_may_not_grow(plant: Plant, agent: Agent, program: str) -> None:
    plant.start()
    plant.goes_on(1)
    service = agent.process if program == "agent" else plant.coordinator
    assert service is not None
    resource.prlimit(service.pid, resource.RLIMIT_FSIZE, (4096, 4096))
    assert_ends_with_one_line(service, STORAGE, f"{program}.db")


def test_an_export_that_cannot_be_written(plant: Plant, agent: Agent) -> None:
    plant.start()
    plant.goes_on(1)
    for out in (plant.config / "x.npz", plant.folder / "nowhere" / "x.npz"):
        assert_one_line(run_agent(agent, "export", "--out", out), STORAGE, "cannot be written")
        outcome = run_coordinator(plant, "export", "--out", out)
        assert_one_line(outcome, STORAGE, "cannot be written")
    onnx = plant.config / "x.onnx"
    assert_one_line(run_agent(agent, "export", "--out", onnx), STORAGE, "cannot be written")
    assert run_agent(agent, "export", "--out", "x.txt").code == 2
    assert_one_line(run_agent(agent, "predict", "nowhere.csv"), DATA, "nowhere.csv")
