"""Files that cannot become an artefact, and what is said of them."""

import numpy as np
import pytest
from onnx import numpy_helper, parser

from plantfed_compiler.compiling import Options, compile_model
from plantfed_shared.errors import ModelError
from plantfed_shared.model_manifest import LossOfModel


def refused(path, loss="mse", **options) -> str:
    with pytest.raises(ModelError) as caught:
        compile_model(path, Options(loss=LossOfModel(kind=loss), **options))
    said = str(caught.value)
    assert said.startswith(str(path))
    assert len(said.splitlines()) == 1
    assert caught.value.exit_code == 65
    return said.removeprefix(f"{path}: ")


def saved(tmp_path, made, name="net.onnx"):
    path = tmp_path / name
    path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    return path


def text(tmp_path, graph, opset=18, **tensors):
    made = parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {graph}')
    for name, array in tensors.items():
        made.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    return saved(tmp_path, made)
