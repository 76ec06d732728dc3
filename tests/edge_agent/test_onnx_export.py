import json
import sys

import numpy as np
import onnx
import pytest
from tests.edge_agent.federations import classifier, regressor

from plantfed_agent import onnx_export, onnx_runtime
from plantfed_agent.column_mapping import ColumnMapping
from plantfed_agent.onnx_export import export_onnx
from plantfed_agent.onnx_runtime import run_onnx
from plantfed_agent.personal_model import PersonalModel
from plantfed_agent.samples import features
from plantfed_agent.table import Table
from plantfed_shared.errors import ConfigError, StorageError, TrainingError
from plantfed_shared.initial import initial_parameters

WIDE = [
    {"name": "a", "unit": "Pa", "centre": 101325.37, "scale": 12.5, "clip": 2},
    {"name": "b", "centre": -3, "scale": 0.001},
    {"name": "c", "clip": 0.5},
]


def model_of(definition) -> PersonalModel:
    rng = np.random.default_rng(5)
    moved = [
        p + rng.normal(size=p.shape).astype(np.float32) for p in initial_parameters(definition)
    ]
    return PersonalModel(definition, moved, "model 1-17")


def raw_table(definition, n_rows) -> Table:
    """float32 values, since those are what the file takes."""
    rng = np.random.default_rng(6)
    numbers = {
        i.name: (i.centre + i.scale * rng.uniform(-5, 5, n_rows)).astype(np.float32)
        for i in definition.inputs
    }
    return Table("rows", n_rows, numbers, {})


@pytest.mark.parametrize(
    "definition",
    [
        classifier(),
        classifier(inputs=WIDE),
        classifier(inputs=WIDE, window={"rows": 4}, model={"hidden": [6, 5], "activation": "tanh"}),
        classifier(model={"hidden": []}, personal=["*.bias"]),
        regressor(),
        regressor(window={"rows": 3, "step": 2}),
    ],
)
def test_the_file_computes_what_the_model_does_from_raw_values(tmp_path, definition):
    model, path = model_of(definition), tmp_path / "model.onnx"
    export_onnx(model, path)
    table = raw_table(definition, 40)
    x, last_rows = features(table, definition, ColumnMapping({}, {}))
    rows = definition.window.rows
    columns = np.column_stack([table.numbers[i.name] for i in definition.inputs])
    raw = np.stack([columns[last - rows + 1 : last + 1].ravel() for last in last_rows])
    expected, found = model.predict(x), run_onnx(path, raw)
    scales = [t.scale for t in definition.targets] or [1.0]
    assert found.dtype == np.float32
    assert (np.abs(found - expected.astype(float)) / scales).max() <= 1e-5


def test_names_and_shapes_of_input_and_output(tmp_path):
    for definition, name in ((classifier(window={"rows": 2}), "probabilities"), (regressor(), "y")):
        export_onnx(model_of(definition), tmp_path / "model.onnx")
        loaded = onnx.load(tmp_path / "model.onnx")
        (x,), (answer,) = loaded.graph.input, loaded.graph.output
        assert (x.name, answer.name) == ("x", name)
        shape = [d.dim_param or d.dim_value for d in x.type.tensor_type.shape.dim]
        assert shape == ["batch", definition.n_inputs]
        shape = [d.dim_param or d.dim_value for d in answer.type.tensor_type.shape.dim]
        assert shape == ["batch", definition.n_outputs]
        assert {node.domain for node in loaded.graph.node} == {""}


def test_the_file_holds_the_manifest(tmp_path):
    model = model_of(classifier())
    export_onnx(model, tmp_path / "model.onnx")
    properties = {p.key: p.value for p in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert json.loads(properties["plantfed"]) == model.manifest()


def test_a_file_that_computes_something_else_is_not_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_runtime, "run_onnx", lambda path, x: np.zeros((len(x), 2), "f4"))
    with pytest.raises(TrainingError, match="computes something else: it differs by"):
        export_onnx(model_of(classifier()), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_without_onnxruntime_the_file_is_written_unchecked(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_runtime, "is_installed", lambda: False)
    monkeypatch.setattr(onnx_export, "_compare", None)
    export_onnx(model_of(classifier()), tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").exists()


def test_without_onnx_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConfigError, match=r"pip install 'plantfed\[compiler\]'"):
        export_onnx(model_of(classifier()), tmp_path / "model.onnx")


def test_without_onnxruntime_running_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"pip install 'plantfed\[agent\]'"):
        run_onnx(tmp_path / "model.onnx", np.zeros((1, 3), np.float32))


def test_a_folder_that_is_missing_is_an_error(tmp_path):
    with pytest.raises(StorageError, match="cannot be written"):
        export_onnx(model_of(classifier()), tmp_path / "none" / "model.onnx")
