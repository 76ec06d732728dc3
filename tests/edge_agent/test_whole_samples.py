"""Files of whole samples, in the shape that the network takes."""

import numpy as np
import pytest
from tests.compiled_federations import federation, kernels_of, task

from plantfed_agent.column_mapping import columns_to_read
from plantfed_agent.loading import SampleLoader
from plantfed_agent.personal_model import PersonalModel
from plantfed_agent.predictions import predict_file
from plantfed_agent.settings import DataSection
from plantfed_agent.sources import read_table
from plantfed_agent.whole_model import whole_model
from plantfed_shared.errors import DataError


@pytest.mark.parametrize("name", ["cnn1d", "gru"])
def test_they_reach_the_network_as_they_are(name, tmp_path):
    made = federation(tmp_path, name)
    definition = made.definition
    shape = definition.model.input_shape
    raw = np.random.default_rng(0).normal(size=(10, *shape)).astype(np.float32)
    answers = (
        {"colour": np.array(["red"] * 10)}
        if definition.classes
        else {"t": np.arange(10.0), "u": np.arange(10.0)}
    )
    np.savez(tmp_path / "samples.npz", x=raw, **answers)
    section = DataSection(train=(str(tmp_path / "samples.npz"),), label="colour")
    sets = SampleLoader(section).load(definition)
    assert (len(sets.train), len(sets.test)) == (8, 2)
    scaled = np.empty_like(raw, dtype=np.float64)
    axis = 1 if definition.model.layout == "columns" else 2
    for at, quantity in enumerate(definition.inputs):
        place = (slice(None), at) if axis == 1 else (slice(None), slice(None), at)
        scaled[place] = np.clip((raw[place] - quantity.centre) / quantity.scale, -3, 3)
    whole = np.concatenate([sets.train.x, sets.test.x])
    rows = whole.reshape(10, definition.window.rows, -1)
    found = rows.transpose(0, 2, 1) if axis == 1 else rows
    np.testing.assert_allclose(found, scaled, atol=1e-6)

    kernels = kernels_of(made)
    head, base = kernels.initial_head(definition), task(made).base
    values = whole_model(definition.parameter_specification(), base, head)
    model = PersonalModel(definition, values, "m", kernels)
    said = predict_file(model, section, str(tmp_path / "samples.npz"))
    assert [p.row for p in said] == list(range(1, 11))


@pytest.mark.parametrize(
    ("x", "colour", "line"),
    [
        ((4, 3, 8), 4, r"samples of shape \(3, 8\), the network takes 3 x 16"),
        ((4, 3, 16), 5, r"column 'colour' has shape \(5,\), x has 4 samples"),
        ((4, 6, 8), 4, r"the network takes 3 x 16"),
        ((4, 16, 3), 4, r"samples of shape \(16, 3\), the network takes 3 x 16"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(x, colour, line, tmp_path):
    made = federation(tmp_path)
    np.savez(tmp_path / "s.npz", x=np.zeros(x, np.float32), colour=np.array(["red"] * colour))
    section = DataSection(train=("s.npz",), label="colour")
    wanted = columns_to_read(made.definition, section.mapping, answers=True)
    with pytest.raises(DataError, match=line):
        read_table(str(tmp_path / "s.npz"), wanted)


def test_a_value_that_is_no_number_is_named_by_its_sample(tmp_path):
    made = federation(tmp_path)
    x = np.zeros((4, 3, 16), np.float32)
    x[2, 1, 5] = np.nan
    np.savez(tmp_path / "s.npz", x=x, colour=np.array(["red"] * 4))
    section = DataSection(train=(str(tmp_path / "s.npz"),), label="colour")
    with pytest.raises(DataError, match=r"s\.npz, sample 3, row 6 of it, column "):
        SampleLoader(section).load(made.definition)


def test_an_input_called_x_has_to_be_called_otherwise_beside_whole_samples(tmp_path):
    made = federation(tmp_path)
    inputs = (made.definition.inputs[0].model_copy(update={"name": "x"}),)
    definition = made.definition.model_copy(
        update={"inputs": (*inputs, *made.definition.inputs[1:])}
    )
    path = tmp_path / "s.npz"
    np.savez(path, x=np.zeros((10, 3, 16), np.float32), colour=np.array(["red"] * 10))
    section = DataSection(train=(str(path),), label="colour")
    with pytest.raises(DataError, match=r"also the name of a column.*data\.columns, as x = "):
        SampleLoader(section).load(definition)
    renamed = DataSection(train=(str(path),), label="colour", columns={"x": "x_axis"})
    assert len(SampleLoader(renamed).load(definition).train) == 8
