"""Folders and options of a demo; a whole one runs in tests/e2e."""

import fcntl
import tomllib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tests.free_ports import free_port

from make_cnn1d import cnn1d, compiled
from plantfed_agent.loading import SampleLoader
from plantfed_agent.settings import load_agent_settings
from plantfed_coordinator.federation_file import load_definition, load_federation
from plantfed_coordinator.settings import load_coordinator_settings
from plantfed_lab.cli import commands
from plantfed_lab.demo_folder import MARKER, fill_folder, fresh_folder
from plantfed_lab.tennessee_eastman import CNN1D, federation_definition, plants
from plantfed_shared.artefact import Artefact
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


def test_more_plants_than_have_a_window_are_refused(tmp_path: Path) -> None:
    arguments = ["demo", "--model", "cnn1d", "--agents", "31", "--out", str(tmp_path / "demo")]
    result = CliRunner().invoke(commands, arguments)
    assert result.exit_code == 2
    assert "at most 30" in result.output
    assert not (tmp_path / "demo").exists()


def test_a_compiled_network_without_onnxruntime_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plantfed_lab.demo.is_installed", lambda: False)
    error = refusal("--model", "cnn1d", "--out", tmp_path / "demo")
    assert error.exit_code == 78
    assert "plantfed[agent]" in str(error)
    assert not (tmp_path / "demo").exists()


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


def test_agents_cut_the_windows_that_the_demo_judges_by(tmp_path: Path) -> None:
    members = plants(seed=0, n_plants=2, windows=True)
    with fresh_folder(tmp_path) as folder:
        dense = federation_definition(federation=folder.federation)
        fill_folder(folder, members, dense, "mqtt://broker.example:1884", CNN1D)
        made = load_federation(folder.coordinator / "federation.toml")
        assert made.artefact is not None
        assert made.artefact.encoded == CNN1D.read_bytes()
        assert {p.name for p in made.definition.parameter_specification().personal} == {
            "head_weight",
            "head_bias",
        }
        for plant in members:
            data = load_agent_settings(folder.agent(plant.id) / "agent.toml").data
            found = SampleLoader(data).load(made.definition)
            assert found.test is not None
            # CSV files have ten digits, float32 has seven
            np.testing.assert_allclose(found.train.x, plant.x_train, atol=1e-5)
            np.testing.assert_allclose(found.test.x, plant.x_test, atol=1e-5)
            np.testing.assert_array_equal(found.train.y, plant.y_train)
            np.testing.assert_array_equal(found.test.y, plant.y_test)


def test_the_shipped_cnn_is_what_its_script_makes() -> None:
    shipped = Artefact.from_bytes(CNN1D.read_bytes())
    made = compiled(cnn1d(), "head_*")
    assert shipped.manifest.parameters == made.manifest.parameters
    for name, values in shipped.initial().items():
        np.testing.assert_array_equal(values, made.initial()[name])
    # versions of onnx write other names and fields; what the graphs compute is in the self-test
    assert shipped.manifest.self_test.loss == pytest.approx(made.manifest.self_test.loss, rel=1e-5)
