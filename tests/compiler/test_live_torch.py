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


@pytest.mark.parametrize("dynamo", [True, False], ids=EXPORTERS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_exporters_write_by_default_compiles_too(torch, name, dynamo, tmp_path):
    """With their optimisations: some names are lost, and the older one folds batch norm away."""
    from tests.compiler import torch_modules

    shape, path = ARCHITECTURES[name], tmp_path / "net.onnx"
    form = (
        {"dynamic_shapes": ({0: torch.export.Dim("batch")},), "external_data": False}
        if dynamo
        else {"input_names": ["x"], "dynamic_axes": {"x": {0: "batch"}}}
    )
    module = torch_modules.architecture(name).eval()
    torch.onnx.export(module, (torch.randn(4, *shape.sample),), path, dynamo=dynamo, **form)
    made = compile_model(path, Options(loss=LossOfModel(kind=shape.loss)))
    sizes = [int(np.prod(p.shape)) for p in made.artefact.manifest.parameters]
    trained = sum(p.numel() for p in module.parameters())
    # one bias instead of two, where batch norm is folded
    assert 0.8 * trained <= sum(sizes) <= 1.05 * trained
