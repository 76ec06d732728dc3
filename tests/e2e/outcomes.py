"""How commands and services end: one line and the documented exit code."""

from tests.e2e.plant import Agent, Plant
from tests.e2e.processes import Outcome, Running, run

DATA, BROKER, STORAGE, REFUSED, SETTINGS = 65, 69, 74, 77, 78


def assert_one_line(outcome: Outcome, code: int, *words: str) -> None:
    """One line on standard error, nothing else, and the exit code."""
    assert outcome.code == code, outcome
    lines = outcome.err.splitlines()
    assert len(lines) == 1, outcome.err
    assert lines[0].startswith("plantfed-")
    for word in words:
        assert word in lines[0]


def assert_ends_with_one_line(service: Running, code: int, *words: str) -> None:
    """A service logs while it runs; its last line says why it ended, and only that one."""
    assert service.ends() == code, service.log
    *before, last = service.log.splitlines()
    assert last.startswith("plantfed-")
    for word in words:
        assert word in last
    assert all(line[:2] == "20" for line in before), service.log


def run_agent(agent: Agent, command: str, *arguments: object) -> Outcome:
    return run("agent", command, "--config", agent.config, *arguments)


def run_coordinator(plant: Plant, command: str, *arguments: object) -> Outcome:
    return run("coordinator", command, "--config", plant.config, *arguments)
