"""The example settings and the systemd units that lie beside the code."""

import re
import shlex
import shutil
import subprocess
import sysconfig
import tomllib
from configparser import ConfigParser
from pathlib import Path

import pytest
from click.testing import CliRunner
from pydantic import BaseModel

from plantfed_agent.settings import AgentSettings, load_agent_settings
from plantfed_coordinator.federation_file import load_definition
from plantfed_coordinator.settings import (
    CoordinatorSettings,
    load_coordinator_settings,
)
from plantfed_shared.definition import FederationDefinition
from plantfed_shared.errors import BrokerError, BrokerRefused, ConfigError, DataError, StorageError

ROOT = Path(__file__).parents[2]
AGENT = ROOT / "edge_agent" / "agent.example.toml"
COORDINATOR = ROOT / "coordinator" / "coordinator.example.toml"
FEDERATION = ROOT / "coordinator" / "federation.example.toml"
UNITS = {
    "plantfed-agent": ROOT / "edge_agent" / "plantfed-agent@.service",
    "plantfed-coordinator": ROOT / "coordinator" / "plantfed-coordinator.service",
}


def test_the_agent_example_is_valid() -> None:
    settings = load_agent_settings(AGENT)
    assert settings.agent.state_dir == AGENT.parent / "state"
    assert settings.training == AgentSettings.model_fields["training"].default


def test_the_coordinator_example_is_valid() -> None:
    settings = load_coordinator_settings(COORDINATOR)
    assert settings.coordinator.state_dir == COORDINATOR.parent / "state"
    assert settings.broker.cert_file == COORDINATOR.parent / "coordinator.crt"


def test_the_federation_example_shows_the_defaults() -> None:
    definition = load_definition(FEDERATION)
    for section in ("algorithm", "schedule", "window"):
        default = FederationDefinition.model_fields[section].default
        if section == "algorithm":  # of a file that names no mode and has no head
            default = default.in_mode("auto")
        assert getattr(definition, section) == default, section


def test_the_examples_belong_together() -> None:
    agent, definition = load_agent_settings(AGENT), load_definition(FEDERATION)
    assert agent.agent.federation == definition.federation
    assert set(agent.data.columns) == {i.name for i in definition.inputs}
    assert set(agent.data.labels.values()) == set(definition.classes)


@pytest.mark.parametrize(
    ("path", "model", "left_out"),
    [
        (AGENT, AgentSettings, {"password"}),
        (COORDINATOR, CoordinatorSettings, {"password"}),
        (FEDERATION, FederationDefinition, set()),
    ],
)
def test_the_examples_have_all_keys(path: Path, model: type[BaseModel], left_out: set[str]) -> None:
    """In use or, where two exclude each other, commented out."""
    shown = path.read_text(encoding="utf-8").replace("\n# ", "\n").splitlines()
    keys = {re.split("[=#]", line)[0].strip(" []") for line in shown}
    missing = set(all_keys(model)) - {part for key in keys for part in key.split(".")}
    assert missing <= left_out


def all_keys(model: type[BaseModel]) -> list[str]:
    keys = []
    for name, field in model.model_fields.items():
        keys.append(name)
        inner = getattr(field.annotation, "__args__", (field.annotation,))[0]
        if isinstance(inner, type) and issubclass(inner, BaseModel) and name != "targets":
            keys += all_keys(inner)
    return keys


def test_an_example_is_toml_without_its_comments() -> None:
    for path in (AGENT, COORDINATOR, FEDERATION):
        assert tomllib.loads(path.read_text(encoding="utf-8"))


# ---------------------------------------------------------------------- systemd


def unit(program: str) -> ConfigParser:
    parser = ConfigParser(interpolation=None, strict=False, delimiters="=")
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(UNITS[program].read_text(encoding="utf-8"))
    return parser


@pytest.mark.parametrize("program", UNITS)
def test_a_unit_starts_a_command_there_is(program: str) -> None:
    path, command, *options = shlex.split(unit(program)["Service"]["ExecStart"])
    assert path == f"/opt/plantfed/bin/{program}"
    if program == "plantfed-agent":
        from plantfed_agent.cli import commands
    else:
        from plantfed_coordinator.cli import commands
    shown = CliRunner().invoke(commands, [command, "--help"])
    assert shown.exit_code == 0
    assert options[0] in shown.output


@pytest.mark.parametrize("program", UNITS)
def test_a_unit_gives_up_only_where_a_person_must_act(program: str) -> None:
    service = unit(program)["Service"]
    assert service["Restart"] == "on-failure"
    down = {int(code) for code in service["RestartPreventExitStatus"].split()}
    assert down == {2, ConfigError.exit_code}
    others = (DataError, BrokerError, BrokerRefused, StorageError)
    assert not down & {error.exit_code for error in others}


MOST_EXPOSED = 3.0
"""What `systemd-analyze security` makes of it, of 10: below 4 it says "OK"."""


def analyse(verb: str, program: str, tmp_path: Path) -> str:
    """What systemd-analyze says of our unit."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: nobody has looked at the units")
    source = UNITS[program]
    # the program must be there: ours instead of the one in /opt
    text = source.read_text(encoding="utf-8")
    text = text.replace("/opt/plantfed/bin", sysconfig.get_path("scripts"))
    path = tmp_path / source.name.replace("@.", "@press-01.")
    path.write_text(text)
    options = ["--man=no"] if verb == "verify" else ["--offline=true", "--no-pager"]
    done = subprocess.run(
        ["systemd-analyze", verb, *options, str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    # it also reads the units of the machine, and says what is wrong with those
    ours = [line for line in done.stderr.splitlines() if path.name in line]
    assert not ours
    return done.stdout


@pytest.mark.parametrize("program", UNITS)
def test_systemd_takes_the_unit(program: str, tmp_path: Path) -> None:
    analyse("verify", program, tmp_path)


@pytest.mark.parametrize("program", UNITS)
def test_a_unit_is_hardly_exposed(program: str, tmp_path: Path) -> None:
    found = re.search(
        r"Overall exposure level for .*: ([0-9.]+)", analyse("security", program, tmp_path)
    )
    assert found is not None
    assert float(found[1]) <= MOST_EXPOSED


@pytest.mark.parametrize("program", UNITS)
def test_a_unit_is_watched_and_limited(program: str) -> None:
    service = unit(program)["Service"]
    assert (service["Type"], service["NotifyAccess"]) == ("notify", "main")
    assert 0 < int(service["WatchdogSec"]) <= 60
    # after a fault ends everything goes on within a keep alive (10 s) and five seconds
    assert int(service["RestartSec"]) <= 5
    for key in ("MemoryMax", "CPUQuota", "TasksMax"):
        assert service[key]
