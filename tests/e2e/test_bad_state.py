"""Whatever is wrong with the state on disk: one clear line, and nothing is lost."""

import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

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
from tests.e2e.plant import (
    Agent,
    Plant,
    count_records,
    until,
)

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


@contextmanager
def tmpfs(folder: Path) -> Iterator[Callable[[], None]]:
    """A small disk of its own; the callable makes room on it."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a disk")
    filler = folder / "filler"
    try:
        yield lambda: filler.unlink()
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path) -> None:
    """Take every last byte."""
    with (folder / "filler").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(512))


@pytest.mark.parametrize("program", ["agent", "coordinator"])
def test_a_full_disk(plant: Plant, agent: Agent, program: str) -> None:
    disk = plant.folder / "disk"
    with tmpfs(disk) as make_room:
        agent.configure(agent={"state_dir": "../disk/agent"})
        plant.configure(coordinator={"state_dir": "disk/coordinator"})
        if program == "agent":
            plant.configure()
        else:
            agent.configure()
        agent.state_dir = disk / "agent" if program == "agent" else agent.state_dir
        plant.state_dir = disk / "coordinator" if program == "coordinator" else plant.state_dir
        plant.start()
        plant.goes_on(2)
        fill(disk)
        service = agent.process if program == "agent" else plant.coordinator
        assert service is not None
        assert_ends_with_one_line(service, STORAGE, "database or disk is full", "Free some space")
        before = agent.state()
        make_room()
        (agent.start if program == "agent" else plant.start_coordinator)()
        plant.goes_on(2)
        until(lambda: agent.rounds() > before.rounds, "the agent trains again")
        assert agent.state().incarnation == before.incarnation == 1
        assert agent.process.stop() == 0
        assert plant.coordinator is not None
        assert plant.coordinator.stop() == 0


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
