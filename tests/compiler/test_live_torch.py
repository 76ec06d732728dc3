"""The same comparisons with the torch that is there: only with ``make soak``.

.venv/bin/pip install torch onnxscript
"""

import numpy as np
import onnx
import pytest
from onnx import inliner
from tests.compiler.differentiation import whole_step
from tests.compiler.test_against_torch import assert_same_training
from tests.compiler.training import ARCHITECTURES, EXPORTERS, pulls

from plantfed_compiler.compiling import Options, compile_model
from plantfed_shared import step_names
from plantfed_shared.model_manifest import (
    LossOfModel,
)

pytestmark = [
    pytest.mark.soak,
    # what exporters warn of is theirs
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip(
        "torch", reason="NOT COMPARED with live torch, which is not installed: pip install torch"
    )


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_trains_as_in_torch(torch, name, exporter, tmp_path):
    from tests.compiler import torch_modules

    shape = ARCHITECTURES[name]
    module = torch_modules.architecture(name)
    example = torch.randn(4, *shape.sample)
    path = tmp_path / "net.onnx"
    path.write_bytes(torch_modules.export(module, example, exporter, 18))
    options = Options(loss=LossOfModel(kind=shape.loss), personal=shape.personal)
    artefact = compile_model(path, options).artefact
    begin, after_head, after_body = torch_modules.trained(name)
    toward = pulls(name, {p.name: begin[p.name] for p in artefact.manifest.parameters})
    assert_same_training(artefact, name, begin, (after_head, after_body), toward)


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_operators_have_the_gradients_of_torch(torch, exporter):
    from tests.compiler import torch_modules

    for name in torch_modules.SMALL:
        module, x = torch_modules.small(name)
        model = onnx.load_model_from_string(torch_modules.export(module, x, exporter, 18))
        at, _ = whole_step(inliner.inline_local_functions(model), "mse")
        loss, expected, given = torch_modules.gradients(name)
        at.feeds.update({model.graph.input[0].name: given["x"]})
        at.feeds[step_names.TARGET] = given["right"]
        assert at.loss(at.parameters) == pytest.approx(loss, rel=1e-5), name
        gradients = at.gradients()
        assert set(gradients) == set(expected), name
        largest = max(np.abs(g).max() for g in expected.values())
        for parameter, gradient in expected.items():
            assert np.abs(gradients[parameter] - gradient).max() < 2e-5 * largest, (name, parameter)
