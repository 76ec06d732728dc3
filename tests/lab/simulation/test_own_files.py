"""A plant's own files in ``plantfed simulate``."""

import json
from pathlib import Path

import numpy as np
import pytest
from tests.compiled_federations import write_federation
from tests.lab.simulation.commands import DATA, HEAD, SETTINGS, assert_one_line, run
from tests.lab.simulation.scenarios import QUICK, simulated, write

from plantfed_lab.plant_files import write_agent_file, write_federation_file, write_plant
from plantfed_lab.simulation.federation import federation_of
from plantfed_lab.simulation.scenario import load_scenario
from plantfed_lab.tennessee_eastman import federation_definition, in_mode, plants
from plantfed_shared.definition import Algorithm, Mode
from plantfed_shared.errors import ConfigError


def sites(folder: Path) -> str:
    """Three plants as they lie on their machines, and a scenario of them."""
    write_federation_file(folder / "federation.toml", federation_definition())
    for plant in plants(0, 3):
        site = folder / plant.id
        site.mkdir()
        head = HEAD.format(id=plant.id)
        write_agent_file(site / "agent.toml", head, write_plant(site, plant), 2)
    text = QUICK.replace('kind = "none"', 'kind = "files"\nagents = ["*/agent.toml"]')
    text = text.replace('count = 6\nmax_rounds_without_new_rows = "no limit"\n', "").replace(
        "updates = 60", "updates = 6"
    )
    return text + '\n[federation]\nfile = "federation.toml"\n'


def test_ones_own_files_are_simulated_as_the_agents_read_them(tmp_path: Path) -> None:
    path = write(tmp_path, sites(tmp_path))
    outcome = run(path, "--json", tmp_path / "r.json")
    assert outcome.returncode == 0, outcome.stderr
    result = json.loads((tmp_path / "r.json").read_text())
    assert [m["id"] for m in result["machines"]] == ["plant-01", "plant-02", "plant-03"]
    # max_rounds_without_new_rows of each agent.toml
    assert [m["updates"] for m in result["machines"]] == [2, 2, 2]
    assert all(m["score"] > 0 for m in result["machines"])


def test_a_machine_without_rows(tmp_path: Path) -> None:
    path = write(tmp_path, sites(tmp_path))
    (tmp_path / "plant-02" / "train.npz").unlink()
    assert_one_line(run(path), DATA, "plant-02/train.npz")
    empty = np.zeros((0, 52))
    with np.load(tmp_path / "plant-02" / "test.npz") as rows:
        columns = rows["columns"]
    np.savez(
        tmp_path / "plant-02" / "train.npz", x=empty, columns=columns, state=np.array([], "U6")
    )
    assert_one_line(run(path), DATA, "plant-02/train.npz")


def test_two_machines_with_one_id(tmp_path: Path) -> None:
    path = write(tmp_path, sites(tmp_path))
    settings = tmp_path / "plant-02" / "agent.toml"
    settings.write_text(settings.read_text().replace("plant-02", "plant-01"))
    assert_one_line(run(path), SETTINGS, "plant-02/agent.toml", "'plant-01'", "plant-01/agent.toml")


def test_a_machine_of_another_federation(tmp_path: Path) -> None:
    path = write(tmp_path, sites(tmp_path))
    settings = tmp_path / "plant-02" / "agent.toml"
    settings.write_text(settings.read_text().replace("tennessee-eastman", "presses"))
    words = ("agent.federation = 'presses'", "'tennessee-eastman'", f"federation.file in {path}")
    assert_one_line(run(path), SETTINGS, f"plantfed: {settings}: ", *words)


def test_a_missing_federation_file_and_who_names_it(tmp_path: Path) -> None:
    write(tmp_path, QUICK + '[federation]\nfile = "presses.toml"\n')
    outcome = run("scenario.toml", folder=tmp_path)
    words = ("federation.file = 'presses.toml'", f"It would be {tmp_path / 'presses.toml'}")
    assert_one_line(outcome, SETTINGS, str(tmp_path / "scenario.toml"), *words)


@pytest.mark.parametrize(("mode", "shared"), [("fedavg", 6198), ("fedprox", 6198), ("local", 0)])
def test_a_mode_brings_what_is_personal_in_it(mode: str, shared: int, tmp_path: Path) -> None:
    text = QUICK + f'[federation]\nalgorithm = {{ mode = "{mode}" }}\n'
    model = simulated(tmp_path, text).model
    assert (model.shared_parameters, model.personal_parameters) == (shared, 6198 - shared)


@pytest.mark.parametrize(
    ("named", "overrides", "expected"),
    [
        ("fedapm", 'mode = "auto"', Algorithm(mode="auto")),
        ("auto", 'mode = "fedavg"', Algorithm(mode="fedavg")),
        ("auto", "memory = 0.25", Algorithm(mode="auto", memory=0.25)),
        ("auto", 'mode = "fedapm", penalty = 3', Algorithm(penalty=3.0)),
    ],
)
def test_an_override_brings_what_is_usual_with_it(
    named: Mode, overrides: str, expected: Algorithm, tmp_path: Path
) -> None:
    write_federation_file(tmp_path / "federation.toml", in_mode(named, federation_definition()))
    text = f'[federation]\nfile = "federation.toml"\nalgorithm = {{ {overrides} }}\n'
    loaded = load_scenario(str(write(tmp_path, QUICK + text)))
    definition = federation_of(loaded, 0).definition
    assert definition.algorithm == expected


COMPILED = QUICK.replace(
    'kind = "none"',
    """kind = "files"
agents = ["*/agent.toml"]
[federation]
file = "federation.toml"
algorithm = { learning_rate = 0.2, epochs = 5 }""",
).replace("count = 6\n", "")


def write_machines(folder: Path, n: int) -> None:
    """Machines that have rows of the compiled federation in :func:`write_federation`."""
    for number in range(1, n + 1):
        machine = folder / f"m{number}"
        machine.mkdir()
        rng = np.random.default_rng(number)
        kind = rng.integers(3, size=60)
        x = rng.normal(size=(60, 3, 16))
        x[np.arange(60), kind] *= 4
        names = np.array(["red", "green", "blue"])[kind]
        np.savez(machine / "rows.npz", x=x.astype(np.float32), colour=names)
        head = HEAD.format(id=f"m{number}").replace("tennessee-eastman", "toy")
        (machine / "agent.toml").write_text(
            head + '[data]\ntrain = ["rows.npz"]\nlabel = "colour"\n'
        )


def test_a_compiled_model_is_simulated_with_its_artefact_on_the_links(tmp_path: Path) -> None:
    write_federation(tmp_path)
    write_machines(tmp_path, 4)
    path = write(tmp_path, COMPILED)
    refused = run(path, "--json", tmp_path / "model.pfm")
    assert_one_line(refused, SETTINGS, "would overwrite", "model.pfm")
    done = run(path, "--json", tmp_path / "a.json")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "a.json").read_text())
    assert result["updates"] == 60
    # chance is a third
    assert result["mean_score"] > 0.6
    size = (tmp_path / "model.pfm").stat().st_size
    assert all(machine["bytes_down"] > size for machine in result["machines"])
    assert "twice as many machines: " in done.stdout


def test_windows_that_the_shipped_process_has_not_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "federation.toml"
    write_federation_file(path, federation_definition())
    path.write_text(path.read_text().replace("rows = 1\n", "rows = 4\n"))
    text = '[scenario]\nname = "x"\nupdates = 1\n[federation]\nfile = "federation.toml"\n'
    with pytest.raises(ConfigError, match=r"window\.rows = 4, step = 1: .* or windows of 16"):
        simulated(tmp_path, text)


def test_another_mode_of_a_compiled_model_has_what_that_shares(tmp_path: Path) -> None:
    write_federation(tmp_path, mode="fedavg")
    kind = 'kind = "none"'
    more = f'{kind}\n[federation]\nfile = "federation.toml"\nalgorithm = {{ mode = "MODE" }}'
    text = QUICK.replace(kind, more)
    sizes = {
        mode: simulated(tmp_path, text.replace("MODE", mode)).model.shared_parameters
        for mode in ("fedavg", "fedapm", "local")
    }
    assert sizes["fedavg"] > sizes["fedapm"] > sizes["local"] == 0
