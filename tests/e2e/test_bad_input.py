"""Whatever is wrong: one clear line, the documented exit code, no traceback."""

import json
import os
import resource
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.e2e.plant import (
    Agent,
    Outcome,
    Plant,
    Running,
    as_json,
    command_of,
    count_records,
    find_mosquitto,
    rows,
    run,
    until,
    write_csv,
)

from plantfed_shared.errors import StorageError

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


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    with Plant(tmp_path) as made:
        yield made


@pytest.fixture
def agent(plant: Plant) -> Agent:
    return plant.agents[0]


def run_agent(agent: Agent, command: str, *arguments: object) -> Outcome:
    return run("agent", command, "--config", agent.config, *arguments)


def run_coordinator(plant: Plant, command: str, *arguments: object) -> Outcome:
    return run("coordinator", command, "--config", plant.config, *arguments)


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
    assert_one_line(outcome, SETTINGS, "federation.toml", "above 2 it diverges")


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


# ---------------------------------------------------------------------- the broker


def test_nobody_listens(plant: Plant, agent: Agent) -> None:
    assert_one_line(run_agent(agent, "check"), BROKER, f"nothing listens at 127.0.0.1:{plant.port}")
    assert_one_line(run_coordinator(plant, "check"), BROKER, "nothing listens")


def test_a_port_that_is_taken(plant: Plant) -> None:
    with socket.create_server(("127.0.0.1", plant.port)):
        outcome = run("broker", "serve", "--dir", plant.broker_dir)
    assert_one_line(outcome, BROKER, f"port {plant.port} is taken")


@pytest.mark.parametrize("kind", ["mosquitto", "nats"])
def test_a_broker_that_refuses_the_password(plant: Plant, agent: Agent, kind: str) -> None:
    needs(kind)
    plant.start_broker(kind)
    (agent.folder / "password").write_text("wrong\n")
    (plant.broker_dir / "coordinator.password").write_text("wrong\n")
    words = "does not authorise this user", "Check [broker]"
    assert_one_line(run_agent(agent, "check"), REFUSED, *words)
    assert_one_line(run_coordinator(plant, "check"), REFUSED, *words)
    assert_ends_with_one_line(agent.start(), REFUSED, *words)
    assert_ends_with_one_line(plant.start_coordinator(), REFUSED, *words)


def needs(kind: str) -> None:
    if kind == "mosquitto" and find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")


# ---------------------------------------------------------------------- rows


BAD_ROWS: dict[str, tuple[Callable[[str], str], tuple[str, ...]]] = {
    "text among numbers": (lambda t: replace_cell(t, 5, 1, "broken"), ("line 6", "'b'", "broken")),
    "not a number": (lambda t: replace_cell(t, 7, 0, "nan"), ("line 8", "'a'", "finite")),
    "an empty cell": (lambda t: replace_cell(t, 3, 2, ""), ("line 4", "'c'", "empty")),
    "an unknown label": (lambda t: replace_cell(t, 9, 3, "pink"), ("row 9", "'pink'", "red")),
    "a missing column": (lambda t: t.replace("a,b,c", "a,bb,c", 1), ("'b'",)),
    "a missing cell": (lambda t: t + "1,2\n", ("2 cells", "4")),
    "no rows": (lambda t: t.splitlines()[0] + "\n", ("fewer rows",)),
}


def replace_cell(text: str, line: int, column: int, cell: str) -> str:
    lines = [line.split(",") for line in text.splitlines()]
    lines[line][column] = cell
    return "\n".join(",".join(cells) for cells in lines) + "\n"


@pytest.mark.parametrize("case", BAD_ROWS)
def test_rows_that_cannot_be_used(plant: Plant, agent: Agent, case: str) -> None:
    spoil, words = BAD_ROWS[case]
    agent.rows_file.write_text(spoil(agent.rows_file.read_text()))
    plant.start()
    assert_ends_with_one_line(agent.process, DATA, "rows.csv", *words)
    # from now on it knows what the federation wants, and can be checked without training
    assert_one_line(run_agent(agent, "check"), DATA, "rows.csv", *words)


def test_rows_that_are_not_there(plant: Plant, agent: Agent) -> None:
    agent.configure(data={"train": ["nowhere-*.csv"]})
    assert_one_line(run_agent(agent, "check"), DATA, "nowhere-*.csv")


def test_rows_that_break_while_it_runs_stop_nothing(plant: Plant, agent: Agent) -> None:
    agent.configure(training={"look_for_new_rows_s": 0.2})
    plant.start()
    plant.goes_on(1)
    good = agent.rows_file.read_text()
    agent.rows_file.write_text(replace_cell(good, 2, 0, "broken"))
    agent.process.says("resting until the files change")
    agent.rows_file.write_text(good)
    plant.goes_on(2)


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
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "none", str(folder)]
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
    history = as_json(run_coordinator(plant, "history", "--json"))
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
