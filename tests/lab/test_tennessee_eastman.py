from pathlib import Path
from zlib import crc32

import numpy as np
import pytest

from plantfed_agent.loading import SampleLoader
from plantfed_agent.settings import load_agent_settings
from plantfed_coordinator.federation_file import load_definition
from plantfed_lab.plant_files import write_agent_file, write_federation_file, write_plant
from plantfed_lab.process_variables import VARIABLES
from plantfed_lab.tennessee_eastman import federation_definition, plants, thinned
from plantfed_shared.definition import SETTINGS, Schedule
from plantfed_shared.initial import initial_parameters
from plantfed_shared.parameters import flatten

GOLDEN = Path(__file__).parents[1] / "golden" / "tep_seed0.npz"
HEAD = """
[agent]
id = "{id}"
federation = "tennessee-eastman"
[broker]
url = "mqtt://localhost"
"""


def test_the_split_and_the_start_are_those_of_the_reference() -> None:
    with np.load(GOLDEN) as golden:
        sums = [
            [crc32(a.tobytes()) for a in (p.x_train, p.y_train, p.x_test, p.y_test)]
            for p in plants(seed=0)
        ]
        np.testing.assert_array_equal(sums, golden["split_crc32"])
        start = flatten(initial_parameters(federation_definition(seed=0)))
        np.testing.assert_array_equal(start, golden["init"])


def test_no_row_is_at_two_plants() -> None:
    rows = np.concatenate([p.readings_train for p in plants(seed=3, n_plants=7)])
    assert len(np.unique(rows, axis=0)) == len(rows)


def test_plants_have_names_in_order_and_only_some_faults() -> None:
    some = plants(seed=1, n_plants=3, faults_per_plant=2)
    assert [p.id for p in some] == ["plant-01", "plant-02", "plant-03"]
    assert all(len(np.unique(p.y_train)) == 3 and 0 in p.y_train for p in some)


def test_every_variable_of_the_process_has_a_name_and_a_unit() -> None:
    names = [name for name, _, _ in VARIABLES]
    assert len(set(names)) == 52
    assert names[0] == "XMEAS(1)"
    assert names[-1] == "XMV(11)"
    assert len({what for _, what, _ in VARIABLES}) == 52
    assert all(unit for _, _, unit in VARIABLES)


@pytest.mark.parametrize(("number", "suffix"), [(1, ".csv"), (2, ".npz")])
def test_files_read_by_the_agent_give_the_split(tmp_path: Path, number: int, suffix: str) -> None:
    definition, plant = federation_definition(), plants(seed=0)[number - 1]
    files = write_plant(tmp_path, plant)
    write_agent_file(tmp_path / "agent.toml", HEAD.format(id=plant.id), files, max_rounds=7)
    settings = load_agent_settings(tmp_path / "agent.toml")

    sets = SampleLoader(settings.data).load(definition)

    assert {Path(files.train).suffix, Path(files.test).suffix} == {suffix}
    assert bool(settings.data.columns) == bool(settings.data.labels) == (suffix == ".csv")
    assert settings.training.max_rounds_without_new_rows == 7
    assert sets.test is not None
    np.testing.assert_allclose(sets.train.x, plant.x_train, atol=1e-4)
    np.testing.assert_allclose(sets.test.x, plant.x_test, atol=1e-4)
    np.testing.assert_array_equal(sets.train.y, plant.y_train)
    np.testing.assert_array_equal(sets.test.y, plant.y_test)


def test_files_hold_process_units_beyond_the_clip(tmp_path: Path) -> None:
    plant = plants(seed=0)[1]
    write_plant(tmp_path, plant)
    with np.load(tmp_path / "test.npz") as file:
        reactor_pressure_kpa = file["x"][:, list(file["columns"]).index("XMEAS(7)")]
    assert 2500 < np.median(reactor_pressure_kpa) < 2900
    definition = federation_definition()
    centre = np.array([i.centre for i in definition.inputs])
    scale = np.array([i.scale for i in definition.inputs])
    assert np.abs((plant.readings_test - centre) / scale).max() > 8


def test_a_federation_file_is_read_back_as_it_was(tmp_path: Path) -> None:
    definition = federation_definition(
        seed=4, schedule=Schedule(kind="sync", min_members=5, max_releases=9, seed=4)
    )
    for wanted in (definition, thinned(definition)):
        write_federation_file(tmp_path / "federation.toml", wanted)
        assert load_definition(tmp_path / "federation.toml") == wanted


def test_short_messages_change_nothing_that_founds_a_federation() -> None:
    shipped = federation_definition(seed=4, schedule=Schedule(min_members=5, max_releases=9))
    short = thinned(shipped)
    changed = {name for name, value in shipped if getattr(short, name) != value}
    assert changed == SETTINGS - {"lattice_bits"}
    assert (short.schedule.min_members, short.schedule.max_releases) == (5, 9)
    assert short.algorithm.learning_rate == shipped.algorithm.learning_rate


def test_windows_come_from_contiguous_blocks_that_nobody_shares() -> None:
    members = plants(seed=3, n_plants=30, windows=True)
    rows = plants(seed=3, n_plants=30)
    seen: set[tuple[float, ...]] = set()
    for plant, same in zip(members, rows, strict=True):
        assert set(plant.y_train.tolist()) == set(same.y_train.tolist())
        for number in np.unique(plant.labels_train).tolist():
            block = plant.x_train[plant.y_train == number]
            # each window is the one before, a row later
            np.testing.assert_array_equal(block[1:, :-52], block[:-1, 52:])
            in_class = int((plant.labels_train == number).sum())
            assert len(block) == in_class - 15 > 0
        seen |= {tuple(row) for row in plant.readings_train.tolist()}
    assert len(seen) == sum(len(plant.labels_train) for plant in members)
