"""Compiled graphs against what torch made of the same networks, as recorded by ``record.py``."""

from functools import cache
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import onnx
import pytest
from onnx import inliner
from tests.compiler.differentiation import in_float64, slopes, whole_step
from tests.compiler.training import (
    ARCHITECTURES,
    EXPORTERS,
    LEARNING_RATE,
    MOMENTUM,
    PULL,
    STEPS,
    Pulls,
    Tensors,
    batch,
    pulls,
    relative_difference,
)

from plantfed_compiler import backpropagation
from plantfed_compiler.compiling import Options, compile_model
from plantfed_compiler.rules import RULES
from plantfed_shared import step_names
from plantfed_shared.artefact import Artefact
from plantfed_shared.model_manifest import (
    LossOfModel,
)
from plantfed_shared.onnx_session import OnnxSession

FOLDER = Path(__file__).parent / "recorded"
TOLERANCE = 1e-4

NEVER_EXPORTED = {
    "Cast": "between float32 and float32",
    "CastLike": "of constants only",
    "GlobalMaxPool": "torch writes MaxPool over everything",
    "ReduceSumSquare": "torch writes a product and a sum",
    "Softsign": "torch writes a quotient",
    "Sum": "torch writes Add",
}
"""Operators no exporter of torch writes in these forms; finite differences hold them."""


@cache
def recorded(archive: str) -> dict[str, bytes]:
    with ZipFile(FOLDER / archive) as file:
        return {name: file.read(name) for name in file.namelist()}


def arrays(archive: str, name: str) -> Tensors:
    with np.load(BytesIO(recorded(archive)[f"{name}.npz"])) as file:
        return dict(file)


def of(tensors: Tensors, prefix: str) -> Tensors:
    return {n.removeprefix(prefix): a for n, a in tensors.items() if n.startswith(prefix)}


# ---------------------------------------------------------------- ten architectures


def compiled(name: str, exporter: str, folder: Path, **options) -> Artefact:
    path = folder / f"{name}.onnx"
    path.write_bytes(recorded("architectures.zip")[f"{name}.{exporter}.onnx"])
    shape = ARCHITECTURES[name]
    loss = LossOfModel(kind=shape.loss)
    made = compile_model(path, Options(loss=loss, personal=shape.personal, **options))
    return Artefact.from_bytes(made.artefact.to_bytes())


def train(
    artefact: Artefact, graph: str, name: str, tensors: Tensors, toward: Pulls, first: int
) -> Tensors:
    """STEPS steps with plain run(); momentum where the artefact has it."""
    manifest = artefact.manifest
    session, trains = OnnxSession(artefact.graph(graph)), manifest.graphs[graph].trains
    tensors = dict(tensors)
    numbers = {
        step_names.LEARNING_RATE: LEARNING_RATE,
        step_names.HEAD_PULL: PULL,
        step_names.BODY_PULL: PULL,
        step_names.MOMENTUM: MOMENTUM,
    }
    fixed = {n: np.array(v, np.float32) for n, v in numbers.items() if n in session.inputs}
    for n in trains:
        fixed[step_names.anchor(n)] = toward.anchor[n]
        fixed[step_names.dual(n)] = toward.dual[n]
        if manifest.momentum:
            tensors[step_names.velocity(n)] = np.zeros_like(tensors[n])
    for step in range(first, first + STEPS):
        x, right = batch(name, step)
        feeds = {**tensors, **fixed, manifest.input.name: x}
        if manifest.target is not None:
            feeds[manifest.target.name] = right
        found = session.run({n: feeds[n] for n in session.inputs})
        tensors |= of(found, step_names.after(""))
    return tensors


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_trains_as_in_torch(name, exporter, tmp_path):
    artefact, results = compiled(name, exporter, tmp_path), arrays("architectures.zip", name)
    begin, after_head, after_body = (of(results, f"{p}.") for p in ("begin", "head", "body"))
    initial = artefact.initial()
    assert {n: a.tobytes() for n, a in initial.items()} == {
        n: a.tobytes() for n, a in begin.items()
    }
    parameters = [p.name for p in artefact.manifest.parameters]
    toward = pulls(name, {n: begin[n] for n in parameters})
    assert_same_training(artefact, name, begin, (after_head, after_body), toward)


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_has_the_gradient_that_is_its_slope(name, exporter):
    """Finite differences in float64, along one direction for each parameter; no torch."""
    encoded = recorded("architectures.zip")[f"{name}.{exporter}.onnx"]
    model = inliner.inline_local_functions(onnx.load_model_from_string(encoded))
    at, built = whole_step(model, ARCHITECTURES[name].loss)
    gradients, rng = at.gradients(), np.random.RandomState(1)
    directions = {n: rng.standard_normal(p.shape) for n, p in at.parameters.items()}
    longest = max(float(np.linalg.norm(g)) for g in gradients.values())
    for parameter, slope in slopes(at, in_float64(built), directions).items():
        gradient, direction = gradients[parameter], directions[parameter]
        difference = abs(slope - float(np.vdot(gradient, direction)))
        assert difference < 2e-5 * longest * np.linalg.norm(direction), parameter


def assert_same_training(artefact, name, begin, expected, toward):
    tensors, names = dict(begin), list(begin)
    for phase, (graph, wanted) in enumerate(zip(("head_step", "body_step"), expected, strict=True)):
        before, trains = tensors, set(artefact.manifest.graphs[graph].trains)
        tensors = train(artefact, graph, name, before, toward, phase * STEPS)
        assert relative_difference(tensors, wanted, names) < TOLERANCE
        for p in artefact.manifest.parameters:
            assert (p.name in trains) == (p.personal == (graph == "head_step"))
            moved = not np.array_equal(tensors[p.name], before[p.name])
            assert moved == (p.name in trains), p.name
        # what has moved is much more than what may differ
        assert relative_difference(tensors, before, sorted(trains)) > 100 * TOLERANCE


@pytest.mark.parametrize("name", ["mlp", "residual"])
def test_momentum_is_that_of_torch(name, tmp_path):
    artefact = compiled(name, "script", tmp_path, momentum=True)
    results = arrays("architectures.zip", name)
    begin, expected = of(results, "begin."), of(results, "momentum.")
    nothing = {n: np.zeros_like(a) for n, a in begin.items()}
    # no pull: the anchor is wherever the parameter is, so that only k = 0 makes it nothing
    session_pull = Pulls(begin, nothing)
    found = train_without_pull(artefact, name, begin, session_pull)
    assert relative_difference(found, expected, list(begin)) < TOLERANCE


def train_without_pull(artefact, name, begin, toward):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.compiler.test_against_torch.PULL", 0.0)
        return train(artefact, "whole_step", name, begin, toward, 0)


def test_both_parts_at_once_are_both_parts_from_the_same_place(tmp_path):
    """For modes without phases: the whole step is a head step and a body step side by side."""
    artefact = compiled("cnn1d", "dynamo", tmp_path)
    begin = artefact.initial()
    toward = pulls("cnn1d", begin)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.compiler.test_against_torch.STEPS", 1)
        graphs = ("whole_step", "head_step", "body_step")
        whole, head, body = (train(artefact, g, "cnn1d", begin, toward, 0) for g in graphs)
    for p in artefact.manifest.parameters:
        np.testing.assert_allclose(
            whole[p.name], (head if p.personal else body)[p.name], rtol=1e-5, atol=1e-7
        )


def test_statistics_are_followed_in_both_phases_and_stay_with_the_machine(tmp_path):
    artefact = compiled("residual", "script", tmp_path)
    statistics = artefact.manifest.statistics
    assert [s.name for s in statistics] == [
        f"norm{n}.running_{what}" for n in (1, 2) for what in ("mean", "var")
    ]
    assert all(s.personal for s in statistics)
    for graph in ("head_step", "body_step", "whole_step"):
        given = artefact.manifest.graphs[graph].outputs
        assert {step_names.after(s.name) for s in statistics} <= set(given)


# ---------------------------------------------------------------- every operator

OPERATORS = sorted(
    name.removesuffix(".onnx") for name in recorded("operators.zip") if name.endswith(".onnx")
)


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_has_the_gradient_of_torch(name):
    model = onnx.load_model_from_string(recorded("operators.zip")[f"{name}.onnx"])
    at, _ = whole_step(inliner.inline_local_functions(model), "mse")
    expected = arrays("operators.zip", name.partition(".")[0])
    x = next(
        n for n in at.feeds if n not in at.parameters and n in {i.name for i in model.graph.input}
    )
    at.feeds.update({x: expected["x"], step_names.TARGET: expected["right"]})
    assert at.loss(at.parameters) == pytest.approx(float(expected["loss"]), rel=1e-5)
    gradients, right = at.gradients(), of(expected, "gradient.")
    assert set(gradients) == set(right)
    largest = max(np.abs(g).max() for g in right.values())
    for parameter, gradient in right.items():
        assert np.abs(gradients[parameter] - gradient).max() < 2e-5 * largest, parameter


def test_every_rule_torch_can_export_is_held_against_torch(monkeypatch):
    used = set()

    def noted(operator, rule):
        def noting(site):
            used.add(operator)
            return rule(site)

        return noting

    table = {operator: noted(operator, rule) for operator, rule in RULES.items()}
    monkeypatch.setattr(backpropagation, "RULES", table)
    for name in OPERATORS:
        model = onnx.load_model_from_string(recorded("operators.zip")[f"{name}.onnx"])
        whole_step(inliner.inline_local_functions(model), "mse")
    assert used == set(RULES) - set(NEVER_EXPORTED)
