"""What real services log: whole lines that programs can read, and never a secret."""

import base64
import json
from pathlib import Path

import pytest
from tests.e2e.outcomes import REFUSED
from tests.e2e.plant import Agent, Plant
from tests.e2e.processes import Running, command_of, until


def start_verbosely(plant: Plant, agent: Agent) -> tuple[Running, Running]:
    mark = str(plant.folder)
    for name, config, log in (
        ("coordinator", plant.config, plant.folder / "coordinator.log"),
        ("agent", agent.config, agent.folder / "agent.log"),
    ):
        running = Running(command_of(name, "run", "--verbose", "--config", config), log, mark)
        if name == "agent":
            agent.service = running
        else:
            plant.coordinator = running
    assert plant.coordinator is not None
    return plant.coordinator, agent.process


def test_lines_for_programs(plant: Plant, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTFED_LOG", "json")
    plant.start()
    plant.goes_on(2)
    assert plant.coordinator is not None
    logs = {"coordinator": plant.coordinator, "agent": agent.process}
    for service in logs.values():
        assert service.stop() == 0
    (agent.folder / "password").write_text("wrong\n")
    assert agent.start().ends() == REFUSED
    lines = [
        json.loads(line) for s in (plant.coordinator, agent.process) for line in s.log.splitlines()
    ]
    assert all(line["time"] and line["level"] and line["message"] for line in lines)
    assert {"joined"} == {line["message"] for line in lines if line.get("agent") == "m1"}
    assert (lines[-1]["level"], lines[-1]["exit_code"]) == ("ERROR", REFUSED)


def test_no_secret_is_ever_logged(plant: Plant, agent: Agent, tmp_path: Path) -> None:
    """With everything logged, through a good start, a refusal and a wrong settings file."""
    secrets = [
        (agent.folder / "password").read_text().strip(),
        (plant.broker_dir / "coordinator.password").read_text().strip(),
        "hunter2-hunter2",
    ]
    assert all(len(secret) > 10 for secret in secrets)
    plant.start_broker()
    services = start_verbosely(plant, agent)
    plant.goes_on(2)
    for service in services:
        assert service.stop() == 0

    # as a password that is wrong, in place of another thing, and in an address
    broker = {"password": secrets[2], "password_file": None}
    agent.configure(broker=broker)
    _, refused = start_verbosely(plant, agent)
    assert refused.ends() == REFUSED
    assert plant.coordinator is not None
    assert plant.coordinator.stop() == 0
    for change in (
        {**broker, "username": None},
        {**broker, "pasword": secrets[2]},
        {**broker, "password": [secrets[2]]},
        {"url": f"mqtt://m1:{secrets[2]}@127.0.0.1:{plant.port}"},
        {"password_file": secrets[0], "password": secrets[2]},
    ):
        agent.configure(broker=change)
        agent.start()
        until(lambda: agent.process.ends() != 0, "it refuses")
    everything = b"".join(log.read_bytes() for log in tmp_path.rglob("*.log"))
    assert b"connected to the broker" in everything
    assert b"the broker does not authorise this user" in everything
    assert everything.count(b"plantfed-agent: ") == 6
    for secret in secrets:
        for form in (
            secret.encode(),
            base64.b64encode(secret.encode()),
            secret.encode().hex().encode(),
        ):
            assert form not in everything
