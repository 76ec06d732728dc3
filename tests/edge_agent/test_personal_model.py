import re
from zipfile import ZipFile

import numpy as np
import pytest
from tests.edge_agent.federations import classifier, random_samples, regressor, write_csv

from plantfed_agent.column_mapping import ColumnMapping, columns_to_read
from plantfed_agent.kernels import kernel_for
from plantfed_agent.personal_model import PersonalModel, load_npz
from plantfed_agent.sources import read_table
from plantfed_shared.errors import DataError, StorageError
from plantfed_shared.initial import initial_parameters


def model_of(definition) -> PersonalModel:
    return PersonalModel(definition, initial_parameters(definition), "model 1-17")


def test_predicts_probabilities_of_classes():
    model, x = model_of(classifier()), random_samples(classifier(), 20).x
    outputs = kernel_for(model.definition).outputs(model.parameters, x).astype(float)
    expected = np.exp(outputs) / np.exp(outputs).sum(1, keepdims=True)
    np.testing.assert_allclose(model.predict(x), expected, rtol=1e-6)


def test_predicts_targets_in_their_units():
    model, x = model_of(regressor()), random_samples(regressor(), 20).x
    outputs = kernel_for(model.definition).outputs(model.parameters, x)
    np.testing.assert_allclose(model.predict(x), outputs * [20, 0.5] + [100, 0], rtol=1e-6)


def test_scores_a_table(tmp_path):
    definition, mapping = classifier(), ColumnMapping({}, {}, label="label")
    file = write_csv(tmp_path / "rows.csv", 30)
    table = read_table(str(file), columns_to_read(definition, mapping, answers=True))
    x = np.column_stack([table.numbers[name] for name in "abc"]).astype(np.float32)
    labels = [("good", "bad").index(line.split(",")[3]) for line in file.read_text().split()[1:]]
    model = model_of(definition)
    expected = (model.predict(x).argmax(1) == labels).mean()
    assert model.score_table(table, mapping) == expected
    with pytest.raises(DataError, match="fewer rows"):
        model_of(classifier(window={"rows": 31})).score_table(table, mapping)


@pytest.mark.parametrize("definition", [classifier(), regressor(), classifier(personal=[])])
def test_an_exported_model_comes_back_equal(tmp_path, definition):
    model, path = model_of(definition), tmp_path / "model.npz"
    model.export_npz(path)
    same = load_npz(path)
    assert (same.definition, same.name) == (definition, "model 1-17")
    for one, other in zip(same.parameters, model.parameters, strict=True):
        np.testing.assert_array_equal(one, other)
    with np.load(path) as file:
        assert file["layer1.weight"].dtype == np.float32
    assert [p.name for p in tmp_path.iterdir()] == ["model.npz"]


def test_equal_models_give_equal_bytes(tmp_path):
    paths = [tmp_path / "1.npz", tmp_path / "2.npz"]
    for path in paths:
        model_of(classifier()).export_npz(path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_the_manifest_says_how_to_use_it():
    inputs = [{"name": "oil", "unit": "K", "centre": 300, "scale": 10, "clip": 4}]
    manifest = model_of(classifier(inputs=inputs)).manifest()
    assert manifest["federation"] == "presses"
    assert manifest["model"] == "model 1-17"
    assert manifest["inputs"] == inputs
    assert manifest["classes"] == ["good", "bad"]
    assert manifest["parameters"][0] == {
        "name": "layer1.weight",
        "shape": [1, 5],
        "personal": False,
    }
    assert manifest["parameters"][-1]["personal"] is True
    assert re.fullmatch("[0-9a-f]{32}", manifest["digest"])


def test_a_changed_file_is_refused(tmp_path):
    path, forged = tmp_path / "model.npz", tmp_path / "forged.npz"
    model_of(classifier()).export_npz(path)
    with ZipFile(path) as archive, ZipFile(forged, "w") as copy:
        for name in archive.namelist():
            content = archive.read(name)
            if name == "layer1.bias.npy":
                content = content[:-1] + bytes([content[-1] ^ 1])
            copy.writestr(name, content)
    with pytest.raises(StorageError, match=r"forged\.npz: its digest is wrong"):
        load_npz(forged)


@pytest.mark.parametrize(("content", "words"), [(None, "cannot be read"), (b"x", "is not an exp")])
def test_another_file_is_refused(tmp_path, content, words):
    path = tmp_path / "model.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StorageError, match=words):
        load_npz(path)


def test_a_plain_npz_is_refused(tmp_path):
    path = tmp_path / "model.npz"
    np.savez(path, a=np.zeros(2))
    with pytest.raises(StorageError, match="is not an exported model"):
        load_npz(path)


def test_a_folder_that_is_missing_is_an_error(tmp_path):
    with pytest.raises(StorageError, match=r"none/model\.npz: cannot be written: No such file"):
        model_of(classifier()).export_npz(tmp_path / "none" / "model.npz")
