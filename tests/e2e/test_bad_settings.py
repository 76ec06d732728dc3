"""Whatever is wrong in a settings or federation file: one clear line, no traceback."""

import pytest
from tests.e2e.outcomes import SETTINGS, assert_one_line, run_agent, run_coordinator
from tests.e2e.plant import Agent, Plant, count_records
from tests.e2e.processes import run, until

# ---------------------------------------------------------------------- settings files


@pytest.mark.parametrize("section", ["agent", "broker", "data", "training"])
def test_a_wrong_key_in_agent_toml(plant: Plant, agent: Agent, section: str) -> None:
    agent.configure(**{section: {"colour": "red"}})
    outcome = run_agent(agent, "run")
    assert_one_line(outcome, SETTINGS, "agent.toml", f"{section}.colour", "Allowed here")


@pytest.mark.parametrize("section", ["coordinator", "broker"])
def test_a_wrong_key_in_coordinator_toml(plant: Plant, section: str) -> None:
    plant.configure(**{section: {"colour": "red"}})
    outcome = run_coordinator(plant, "run")
    assert_one_line(outcome, SETTINGS, "coordinator.toml", f"{section}.colour", "Allowed here")


@pytest.mark.parametrize("section", ["model", "loss", "algorithm", "schedule"])
def test_a_wrong_key_in_federation_toml(plant: Plant, section: str) -> None:
    plant.define(**{section: {"colour": "red"}})
    outcome = run_coordinator(plant, "run")
    assert_one_line(outcome, SETTINGS, "federation.toml", f"{section}.colour", "Allowed here")


@pytest.mark.parametrize("command", ["serve", "add-agent"])
def test_a_wrong_key_in_broker_toml(plant: Plant, command: str) -> None:
    path = plant.broker_dir / "broker.toml"
    path.write_text(path.read_text() + 'colour = "red"\n')
    arguments = ["m9"] if command == "add-agent" else []
    outcome = run("broker", command, "--dir", plant.broker_dir, *arguments)
    assert_one_line(outcome, SETTINGS, "broker.toml", "colour", "Allowed here")


def test_a_value_that_cannot_be(plant: Plant) -> None:
    plant.define(algorithm={"relaxation": 1.5, "memory": 0.5})
    outcome = run_coordinator(plant, "check")
    assert_one_line(outcome, SETTINGS, "federation.toml", "above 2 fedapm diverges")


@pytest.mark.parametrize(
    ("which", "kind"),
    [
        ("agent", "missing"),
        ("agent", "not TOML"),
        ("agent", "not text"),
        ("coordinator", "a folder"),
        ("coordinator", "not TOML"),
        ("federation", "missing"),
        ("federation", "not TOML"),
    ],
)
def test_a_settings_file_that_cannot_be_read(
    plant: Plant, agent: Agent, which: str, kind: str
) -> None:
    files = {
        "agent": agent.config,
        "coordinator": plant.config,
        "federation": plant.federation_file,
    }
    path = files[which]
    path.unlink()
    if kind == "a folder":
        path.mkdir()
    elif kind == "not TOML":
        path.write_text("[broker\n")
    elif kind == "not text":
        path.write_bytes(b"\xff\xfe\x00")
    outcome = run_agent(agent, "run") if which == "agent" else run_coordinator(plant, "run")
    assert_one_line(outcome, SETTINGS, path.name)


def test_a_password_is_never_shown(plant: Plant, agent: Agent) -> None:
    agent.config.write_text(
        '[agent]\nid = "m1"\nfederation = "toy"\n'
        f'[broker]\npassword = "hunter2"\nurl = "{plant.url}"\n[data]\ntrain = ["rows.csv"]\n'
    )
    outcome = run_agent(agent, "run")
    assert_one_line(outcome, SETTINGS, "a password needs a username")
    assert "hunter2" not in outcome.err


@pytest.mark.parametrize("key", ["ca_file", "cert_file", "key_file"])
def test_a_wrong_certificate_path(plant: Plant, agent: Agent, key: str) -> None:
    folder = plant.folder / "tls"
    run("broker", "render", "--federation", "toy", "--variant", "mtls", "--out", folder)
    run("broker", "add-agent", "m1", "--dir", folder, "--out", folder / "m1")
    files = {
        "ca_file": "../tls/m1/ca.crt",
        "cert_file": "../tls/m1/agent.crt",
        "key_file": "../tls/m1/agent.key",
    }
    assert all((agent.folder / path).exists() for path in files.values())
    url = plant.url.replace("mqtt:", "mqtts:")
    broker = {"url": url, "username": None, "password_file": None, **files, key: "nowhere.pem"}
    agent.configure(broker=broker)
    assert_one_line(run_agent(agent, "run"), SETTINGS, "nowhere.pem")


# ---------------------------------------------------------------------- the federation file


def test_an_edited_structure_is_refused(plant: Plant) -> None:
    plant.start_broker()
    for _ in range(2):  # the first check makes the folder, the second finds nothing in it
        assert run_coordinator(plant, "check").code == 0
    plant.start_coordinator().says("connected")
    plant.define(model={"hidden": [9]})
    assert_one_line(run_coordinator(plant, "check"), SETTINGS, "federation.toml", "model differ")
    assert plant.coordinator is not None
    assert plant.coordinator.stop() == 0
    outcome = run_coordinator(plant, "run")
    assert_one_line(outcome, SETTINGS, "federation.toml", "model differ")
    assert count_records(plant.journal(), "EpochStarted") == 1


def test_edited_settings_begin_a_new_epoch_and_agents_follow(plant: Plant, agent: Agent) -> None:
    plant.start()
    plant.goes_on(2)
    assert plant.coordinator is not None
    assert plant.coordinator.stop() == 0
    # with another penalty the same multiplier is another scaled dual: the agent takes it over
    for epoch, edited, incarnation in (
        (2, {"learning_rate": 0.02}, 1),
        (3, {"learning_rate": 0.02, "penalty": 0.1}, 2),
    ):
        plant.define(algorithm=edited)
        plant.start_coordinator()
        until(lambda: agent.state().epoch == plant.federation().epoch, "the agent follows")
        plant.goes_on(2)
        assert plant.coordinator.stop() == 0
        assert plant.federation().epoch.counter == epoch
        assert agent.state().incarnation == incarnation
        assert agent.state().definition == plant.federation().terms.encoded
    # started once more with the same file, it is the same epoch
    plant.start_coordinator().says("connected")
    assert count_records(plant.journal(), "EpochStarted") == 3
