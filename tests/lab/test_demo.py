"""Folders and options of a demo; a whole one runs in tests/e2e."""

import fcntl
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.free_ports import free_port

from plantfed_agent.settings import load_agent_settings
from plantfed_coordinator.federation_file import load_definition
from plantfed_coordinator.settings import load_coordinator_settings
from plantfed_lab.cli import commands
from plantfed_lab.demo_folder import MARKER, fill_folder, fresh_folder
from plantfed_lab.tennessee_eastman import federation_definition, plants
from plantfed_shared.definition import Schedule
from plantfed_shared.errors import ConfigError, PlantfedError
from plantfed_shared.topics import Topics


def refusal(*arguments: str | Path) -> PlantfedError:
    result = CliRunner().invoke(commands, ["demo", *map(str, arguments)])
    assert isinstance(result.exception, PlantfedError), result.output
    return result.exception


@pytest.mark.parametrize(
    "arguments",
    [["--agents", "0"], ["--agents", "201"], ["--releases", "0"], ["--seed", "-1"], ["--what"]],
)
def test_a_wrong_command_line_exits_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(commands, ["demo", *arguments]).exit_code == 2


@pytest.mark.parametrize("url", ["localhost", "http://localhost", "mqtts://localhost"])
def test_a_broker_a_demo_cannot_use_is_refused_before_anything_is_written(
    tmp_path: Path, url: str
) -> None:
    error = refusal("--out", tmp_path / "demo", "--broker", url)
    assert error.exit_code == 78
    assert url in str(error)
    assert not (tmp_path / "demo").exists()


def test_a_broker_that_does_not_answer_is_refused_at_once(tmp_path: Path) -> None:
    error = refusal("--out", tmp_path / "demo", "--broker", f"mqtt://127.0.0.1:{free_port()}")
    assert error.exit_code == 69
    assert "no broker answers" in str(error)
    assert not (tmp_path / "demo").exists()


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("ten years of work")
    assert "not from an earlier demo" in str(refusal("--out", tmp_path))
    assert (tmp_path / "thesis.txt").read_text() == "ten years of work"


def test_a_json_file_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    error = refusal("--out", tmp_path / "demo", "--json", tmp_path / "missing" / "r.json")
    assert error.exit_code == 74
    assert not (tmp_path / "demo").exists()


def test_what_an_earlier_demo_left_is_removed(tmp_path: Path) -> None:
    with fresh_folder(tmp_path / "demo") as folder:
        (folder.agent("plant-09")).mkdir()
        (folder.path / "report.html").write_text("old")
    with fresh_folder(tmp_path / "demo") as folder:
        assert not list((folder.path / "agents").iterdir())
        assert not (folder.path / "report.html").exists()


def test_every_folder_has_a_federation_of_its_own_and_keeps_it(tmp_path: Path) -> None:
    found = []
    for name in ("one", "other", "one"):
        with fresh_folder(tmp_path / name) as folder:
            found.append(folder.federation)
    assert found[0] == found[2] != found[1]
    for federation in found:
        assert Topics(federation).federation.startswith("tennessee-eastman-")


@pytest.mark.parametrize("marker", ["", "Pr+\n", "tennessee-eastman-0123456789\n"])
def test_a_marker_that_holds_no_id_is_given_one(tmp_path: Path, marker: str) -> None:
    (tmp_path / MARKER).write_text(marker)
    with fresh_folder(tmp_path) as folder:
        assert (tmp_path / MARKER).read_text() == f"{folder.federation}\n" != marker


def test_two_demos_in_one_folder_are_refused(tmp_path: Path) -> None:
    with fresh_folder(tmp_path) as folder:
        (folder.path / "result.json").write_text("kept")
        with pytest.raises(ConfigError, match="another demo is running"), fresh_folder(tmp_path):
            pass
        assert (folder.path / "result.json").exists()
    with (tmp_path / MARKER).open() as marker:
        fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_each_agent_gets_its_own_settings_password_and_rows_only(tmp_path: Path) -> None:
    definition = federation_definition(schedule=Schedule(max_releases=500, min_members=3))
    members = plants(seed=0, n_plants=3)
    with fresh_folder(tmp_path) as folder:
        fill_folder(folder, members, definition, url=None)
        passwords = set()
        for plant in members:
            suffix = "npz" if plant.id == "plant-02" else "csv"
            names = {path.name for path in folder.agent(plant.id).iterdir()}
            assert names == {"agent.toml", "password", f"train.{suffix}", f"test.{suffix}"}
            settings = load_agent_settings(folder.agent(plant.id) / "agent.toml")
            assert settings.agent.id == settings.broker.username == plant.id
            assert settings.training.max_rounds_without_new_rows > 500
            passwords.add(settings.broker.address().password)
        coordinator = load_coordinator_settings(folder.coordinator / "coordinator.toml")
        passwords.add(coordinator.broker.address().password)
        assert len(passwords) == 4
        assert load_definition(coordinator.coordinator.federation_file) == definition


def test_with_a_running_broker_nobody_gets_a_password(tmp_path: Path) -> None:
    url = "mqtt://broker.example:1884"
    with fresh_folder(tmp_path) as folder:
        fill_folder(folder, plants(seed=0, n_plants=2), federation_definition(), url)
        assert not folder.broker.exists()
        for path in (
            folder.coordinator / "coordinator.toml",
            folder.agent("plant-01") / "agent.toml",
        ):
            assert tomllib.loads(path.read_text())["broker"] == {"url": url}
        assert load_agent_settings(folder.agent("plant-02") / "agent.toml").broker.url == url
        load_coordinator_settings(folder.coordinator / "coordinator.toml")
