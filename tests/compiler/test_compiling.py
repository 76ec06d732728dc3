"""What is in an artefact, and what its graphs do."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.compiler.networks import Net, model
from tests.compiler.test_against_torch import compiled as architecture
from tests.compiler.training import ARCHITECTURES, EXPORTERS

from benchmarks.training.networks import NETWORKS, onnx_model
from plantfed_compiler import backpropagation
from plantfed_compiler.compiling import Options, compile_model
from plantfed_compiler.rules import RULES
from plantfed_shared import step_names
from plantfed_shared.artefact import Artefact, read_artefact
from plantfed_shared.errors import ModelError
from plantfed_shared.model_manifest import (
    LossOfModel,
    sampled,
)
from plantfed_shared.onnx_bytes import operators_in, with_tensors
from plantfed_shared.onnx_session import OnnxSession

TWO_PARTS = Net("h = Tanh(a) y = Gemm(h, v, c)", given={"v": (6, 3), "c": (3,)})
NORMED = Net(
    "n = BatchNormalization(a, g, c, m, s) f = Flatten(n) y = Gemm(f, v)", (3, 2),
    {"g": (3,), "c": (3,), "m": (3,), "s": np.array([1, 2, 0.5], "f4"), "v": (6, 2)},
)  # fmt: skip


def compiled(folder: Path, net: Net, kind="mse", **options) -> Artefact:
    return whole(folder, net, kind, **options).artefact


def whole(folder: Path, net: Net, kind="mse", **options):
    path = folder / "net.onnx"
    path.write_bytes(model(net).SerializeToString())
    return compile_model(path, Options(loss=LossOfModel(kind=kind), **options))


def feeds_of(artefact: Artefact, graph: str, rows=5, **numbers) -> dict[str, np.ndarray]:
    """Random ones for everything a graph takes."""
    rng = np.random.RandomState(3)
    manifest = artefact.manifest
    feeds = {manifest.input.name: rng.standard_normal((rows, *manifest.input.shape)).astype("f4")}
    if manifest.target is not None:
        shape = (rows, *manifest.target.shape)
        drawn = rng.randint(0, 2, shape) if manifest.target.dtype == "int64" else rng.rand(*shape)
        feeds[manifest.target.name] = drawn.astype(manifest.target.dtype)
    feeds |= artefact.initial()
    for p in manifest.parameters:
        for role in (step_names.anchor, step_names.dual, step_names.velocity):
            feeds[role(p.name)] = rng.standard_normal(p.shape).astype("f4")
    scalars = (step_names.LEARNING_RATE, step_names.HEAD_PULL, step_names.BODY_PULL)
    feeds |= {n: np.array(0, "f4") for n in (*scalars, step_names.MOMENTUM)}
    feeds |= {n: np.array(v, "f4") for n, v in numbers.items()}
    return {n: feeds[n] for n in manifest.graphs[graph].inputs}


def run(artefact: Artefact, graph: str, feeds) -> dict[str, np.ndarray]:
    return OnnxSession(artefact.graph(graph)).run(feeds)


@pytest.fixture
def two_parts(tmp_path) -> Artefact:
    return compiled(tmp_path, TWO_PARTS, personal=("v", "c"))


# ---------------------------------------------------------------- the step


def gradient_of(artefact, graph, feeds):
    numbers = {step_names.LEARNING_RATE: 1, step_names.HEAD_PULL: 0, step_names.BODY_PULL: 0}
    plain = {n: np.array(numbers[n], "f4") if n in numbers else a for n, a in feeds.items()}
    plain |= {n: np.zeros_like(a) for n, a in feeds.items() if n.startswith(step_names.dual(""))}
    found = run(artefact, graph, plain)
    trains = artefact.manifest.graphs[graph].trains
    return {n: feeds[n] - found[step_names.after(n)] for n in trains}


@pytest.mark.parametrize("graph", ["head_step", "body_step", "whole_step"])
def test_a_step_is_the_formula(two_parts, graph):
    lr, k = 0.3, {True: 0.7, False: 1.9}
    numbers = {step_names.LEARNING_RATE: lr, step_names.HEAD_PULL: k[True]}
    feeds = feeds_of(two_parts, graph, **numbers, **{step_names.BODY_PULL: k[False]})
    gradients, found = gradient_of(two_parts, graph, feeds), run(two_parts, graph, feeds)
    personal = {p.name: p.personal for p in two_parts.manifest.parameters}
    for name, gradient in gradients.items():
        p, anchor, dual = (feeds[n] for n in (name, step_names.anchor(name), step_names.dual(name)))
        expected = p - lr * (gradient + dual + k[personal[name]] * (p - anchor))
        np.testing.assert_allclose(found[step_names.after(name)], expected, rtol=1e-5, atol=1e-6)


def test_a_step_with_momentum_is_the_formula(tmp_path):
    artefact = compiled(tmp_path, TWO_PARTS, momentum=True)
    numbers = {step_names.LEARNING_RATE: 0.3, step_names.BODY_PULL: 0.5, step_names.MOMENTUM: 0.8}
    feeds = feeds_of(artefact, "whole_step", **numbers)
    found = run(artefact, "whole_step", feeds)
    still = {n: np.zeros_like(a) if "velocity" in n else a for n, a in feeds.items()}
    without = run(artefact, "whole_step", still)
    for p in artefact.manifest.parameters:
        velocity, after = step_names.velocity(p.name), step_names.after(p.name)
        slope = without[step_names.after(velocity)]
        expected = 0.8 * feeds[velocity] + slope
        np.testing.assert_allclose(
            found[step_names.after(velocity)], expected, rtol=1e-5, atol=1e-6
        )
        np.testing.assert_allclose(
            found[after], feeds[p.name] - 0.3 * expected, rtol=1e-5, atol=1e-6
        )


def test_a_graph_takes_what_it_needs_and_no_more(two_parts):
    graphs = two_parts.manifest.graphs
    assert graphs["head_step"].trains == ("v", "c")
    assert graphs["body_step"].trains == ("w", "b")
    assert graphs["whole_step"].trains == ("v", "c", "w", "b")
    lr, head, body = step_names.LEARNING_RATE, step_names.HEAD_PULL, step_names.BODY_PULL
    assert {lr, head} <= set(graphs["head_step"].inputs)
    assert body not in graphs["head_step"].inputs
    assert head not in graphs["body_step"].inputs
    assert graphs["predict"].inputs == ("x", "v", "c", "w", "b")
    assert graphs["predict"].outputs == (step_names.OUTPUT,)
    for name, graph in graphs.items():
        session = OnnxSession(two_parts.graph(name))
        assert (session.inputs, session.outputs) == (graph.inputs, graph.outputs)


def test_the_head_step_stops_at_the_head(tmp_path):
    artefact = architecture("cnn2d", "dynamo", tmp_path)
    head, body = (operators_in(artefact.graph(f"{part}_step")) for part in ("head", "body"))
    backwards = {"ConvTranspose", "Equal", "ScatterElements"}
    assert backwards <= body
    assert not backwards & head
    nodes = [
        len(onnx.load_from_string(artefact.graph(g)).graph.node) for g in ("head_step", "body_step")
    ]
    assert nodes[0] < nodes[1] / 1.5


@pytest.mark.parametrize("name", ["residual", "gru", "transformer", "autoencoder"])
def test_no_graph_changes_what_it_is_fed(name, tmp_path):
    artefact = architecture(name, "script", tmp_path)
    for graph in artefact.manifest.graphs:
        feeds = feeds_of(artefact, graph, **{step_names.LEARNING_RATE: 0.1})
        before = {n: a.tobytes() for n, a in feeds.items()}
        first, second = (run(artefact, graph, feeds) for _ in range(2))
        assert {n: a.tobytes() for n, a in feeds.items()} == before
        for output, array in first.items():
            np.testing.assert_array_equal(array, second[output])


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_graph_is_standard_and_takes_batches_of_any_size(name, exporter, tmp_path):
    artefact = architecture(name, exporter, tmp_path)
    for graph in artefact.manifest.graphs:
        session = OnnxSession(artefact.graph(graph))
        for rows in (1, 7):
            feeds = feeds_of(artefact, graph, rows, **{step_names.LEARNING_RATE: 0.1})
            found = session.run(feeds)
            assert all(np.isfinite(a).all() for a in found.values())
            if step_names.OUTPUT in found:
                assert found[step_names.OUTPUT].shape == (rows, *artefact.manifest.output.shape)


# ---------------------------------------------------------------- evaluation, self-test, export


def test_the_loss_of_the_rows_is_that_of_the_batch(tmp_path):
    for kind in ("cross-entropy", "bce", "mse", "huber"):
        artefact = compiled(tmp_path, TWO_PARTS, kind)
        feeds = feeds_of(artefact, "evaluate")
        found = run(artefact, "evaluate", feeds)
        rows = found[step_names.ROW_LOSS]
        assert rows.shape == (5,)
        assert found[step_names.LOSS] == pytest.approx(rows.mean(), rel=1e-6)
        step_feeds = feeds_of(artefact, "whole_step") | feeds
        step = run(artefact, "whole_step", step_feeds)
        assert step[step_names.LOSS] == pytest.approx(float(found[step_names.LOSS]), rel=1e-5)
        alone = [
            run(artefact, "evaluate", {n: a[row : row + 1] if n in ("x", step_names.TARGET) else a
                for n, a in feeds.items()})[step_names.LOSS]
            for row in range(5)
        ]  # fmt: skip
        np.testing.assert_allclose(rows, alone, rtol=1e-5)


def test_an_autoencoder_has_a_score_and_no_target(tmp_path):
    artefact = architecture("autoencoder", "dynamo", tmp_path)
    assert artefact.manifest.target is None
    feeds = feeds_of(artefact, "evaluate")
    found = run(artefact, "evaluate", feeds)
    error = found[step_names.OUTPUT] - feeds[artefact.manifest.input.name]
    expected = (error**2).mean((1, 2, 3)) / 2
    np.testing.assert_allclose(found[step_names.ROW_LOSS], expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["mlp", "residual", "autoencoder"])
def test_the_self_test_is_what_the_whole_step_gives(name, tmp_path):
    artefact = architecture(name, "dynamo", tmp_path)
    manifest, tests = artefact.manifest, artefact.self_test_arrays()
    feeds = feeds_of(artefact, "whole_step")
    feeds |= {n: a for n, a in tests.items() if n in feeds}
    found = gradient_of(artefact, "whole_step", feeds)
    largest = max(np.abs(a).max() for n, a in tests.items() if n.startswith("gradient."))
    for parameter, gradient in found.items():
        expected = tests[f"gradient.{parameter}"]
        assert np.abs(sampled(gradient) - expected).max() < manifest.self_test.tolerance * largest
    loss = run(artefact, "whole_step", feeds)[step_names.LOSS]
    assert loss == pytest.approx(manifest.self_test.loss, rel=manifest.self_test.tolerance)


@pytest.mark.parametrize("name", ["cnn1d", "residual", "lstm"])
def test_a_model_with_its_weights_is_a_file_of_its_own(name, tmp_path):
    """What an agent can export without the onnx package."""
    artefact = architecture(name, "script", tmp_path)
    feeds = feeds_of(artefact, "predict")
    x = artefact.manifest.input.name
    tensors = {n: a + np.float32(0.01) for n, a in artefact.initial().items()}
    alone = with_tensors(artefact.graph("predict"), tensors)
    onnx.checker.check_model(onnx.load_from_string(alone), full_check=True)
    session = OnnxSession(alone)
    assert session.inputs == (x,)
    found = session.run({x: feeds[x]})[step_names.OUTPUT]
    expected = run(artefact, "predict", {**feeds, **tensors})[step_names.OUTPUT]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


MACHINE = """
import sys
sys.modules.update(dict.fromkeys(("onnx", "torch", "google", "plantfed_compiler")))
from pathlib import Path
import numpy as np
from plantfed_shared import step_names
from plantfed_shared.artefact import read_artefact
from plantfed_shared.onnx_session import OnnxSession
artefact = read_artefact(Path(sys.argv[1]))
manifest, tests, now = artefact.manifest, artefact.self_test_arrays(), artefact.initial()
session = OnnxSession(artefact.graph("whole_step"))
numbers = {step_names.LEARNING_RATE: 0.1, step_names.BODY_PULL: 0, step_names.HEAD_PULL: 0}
feeds = {n: np.array(v, "f4") for n, v in numbers.items()}
for p in manifest.parameters:
    feeds[step_names.dual(p.name)] = feeds[step_names.anchor(p.name)] = np.zeros(p.shape, "f4")
losses = []
for _ in range(20):
    every = {**tests, **feeds, **now}
    found = session.run({n: every[n] for n in session.inputs})
    losses.append(float(found[step_names.LOSS]))
    now = {n: found[step_names.after(n)] for n in now}
assert abs(losses[0] - manifest.self_test.loss) < manifest.self_test.tolerance
sys.stdout.write(f"{losses[0]} {losses[-1]}")
"""


def test_a_machine_without_onnx_and_torch_reads_and_trains(tmp_path):
    path = tmp_path / "net.pfm"
    path.write_bytes(architecture("residual", "dynamo", tmp_path).to_bytes())
    done = subprocess.run(
        [sys.executable, "-c", MACHINE, path], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    first, last = map(float, done.stdout.split())
    assert last < first / 1.5


# ---------------------------------------------------------------- options


def test_batch_norm_with_the_statistics_of_the_file(tmp_path):
    artefact = compiled(tmp_path, NORMED, batch_norm="frozen")
    assert artefact.manifest.statistics == ()
    assert [p.name for p in artefact.manifest.parameters] == ["g", "c", "v", "w", "b"]
    feeds = feeds_of(artefact, "whole_step")
    evaluated = run(artefact, "evaluate", feeds_of(artefact, "evaluate") | {"x": feeds["x"]})
    step = run(artefact, "whole_step", feeds)
    assert step[step_names.LOSS] == pytest.approx(float(evaluated[step_names.LOSS]), rel=1e-6)


def test_statistics_stay_with_the_machine_unless_a_pattern_says_otherwise(tmp_path):
    alone = compiled(tmp_path, NORMED).manifest.statistics
    assert [(s.name, s.personal) for s in alone] == [("m", True), ("s", True)]
    shared = compiled(tmp_path, NORMED, shared_statistics=("m",)).manifest.statistics
    assert [(s.name, s.personal) for s in shared] == [("m", False), ("s", True)]


def test_running_statistics_of_one_row_stay_finite(tmp_path):
    flat = Net("n = BatchNormalization(a, g, c, m, s) y = Gemm(n, v)", (3,), {
        "g": (3,), "c": (3,), "m": (3,), "s": np.ones(3, "f4"), "v": (3, 2)})  # fmt: skip
    artefact = compiled(tmp_path, flat)
    found = run(artefact, "whole_step", feeds_of(artefact, "whole_step", 1))
    np.testing.assert_allclose(found[step_names.after("s")], np.full(3, 0.9), rtol=1e-6)


@pytest.mark.parametrize(("end", "kind"), [("Softmax", "cross-entropy"), ("Sigmoid", "bce")])
def test_probabilities_at_the_end_are_left_out_once(tmp_path, end, kind):
    logits = whole(tmp_path, Net(f"z = Gemm(a, v) y = {end}(z)", given={"v": (6, 3)}), kind)
    said = f"{end} at the end is left out: the loss has it; outputs are logits"
    assert said in logits.notes
    assert end not in operators_in(logits.artefact.graph("predict"))


def test_dropout_is_off_and_equal_weights_are_trained_apart(tmp_path):
    made = model(Net("d = Dropout(a, ratio) e = Add(d, twin) y = Mul(e, v)", given={
        "ratio": np.array(0.5, "f4"), "v": (6,)}))  # fmt: skip
    made.graph.node.insert(0, onnx.helper.make_node("Identity", ["v"], ["twin"]))
    path = tmp_path / "net.onnx"
    path.write_bytes(made.SerializeToString())
    found = compile_model(path, Options(loss=LossOfModel(kind="mse")))
    assert found.notes == (
        "dropout is off in training: Dropout_3",
        "once in the file, but trained apart: twin and v",
    )
    assert {p.name for p in found.artefact.manifest.parameters} == {"v", "twin", "w", "b"}


@pytest.mark.parametrize(("given", "made"), [(13, 18), (17, 18), (18, 18), (20, 20), (22, 21)])
def test_an_artefact_has_an_opset_that_machines_know(tmp_path, given, made):
    net = Net("r = Relu(a) y = Softmax <axis = -1> (r)", (3, 4), opset=given)
    artefact = compiled(tmp_path, net)
    assert artefact.manifest.opset == made
    for graph in artefact.manifest.graphs:
        (known,) = onnx.load_from_string(artefact.graph(graph)).opset_import
        assert (known.domain, known.version) == ("", made)


def test_equal_models_give_equal_artefacts(tmp_path):
    assert compiled(tmp_path, NORMED).to_bytes() == compiled(tmp_path, NORMED).to_bytes()


def test_a_wrong_gradient_is_not_compiled(tmp_path, monkeypatch):
    """The compiler itself compares slopes with finite differences."""

    def doubled(site):
        return [site.graph.op("Mul", g, site.graph.number(2)) for g in RULES["Tanh"](site)]

    monkeypatch.setattr(backpropagation, "RULES", {**RULES, "Tanh": doubled})
    with pytest.raises(ModelError, match="is compiled wrongly: its loss has another slope than"):
        compiled(tmp_path, TWO_PARTS)


def test_a_network_that_lies_close_to_a_kink_is_compiled(tmp_path):
    """So near to kinks of ReLU and MaxPool that only short steps show its slope."""
    drawn = onnx_model(NETWORKS["cnn2d"])
    rng, fan = np.random.RandomState(26), 1
    for tensor in drawn.graph.initializer:
        shape = tuple(tensor.dims)
        if len(shape) > 1:
            fan = np.prod(shape[1:])
        values = (rng.uniform(-1, 1, shape) / np.sqrt(fan)).astype("f4")
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    path = tmp_path / "net.onnx"
    onnx.save(drawn, path)
    compile_model(path, Options(loss=LossOfModel(kind="cross-entropy")))


# ---------------------------------------------------------------- the command


def test_the_command_tells_what_it_made(tmp_path):
    (tmp_path / "net.onnx").write_bytes(model(NORMED).SerializeToString())
    command = [sys.executable, "-m", "plantfed_compiler", "net.onnx", "--loss", "mse"]
    done = subprocess.run(
        [*command, "--personal", "v"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[:7] == [
        "parameter: g  3  shared",
        "parameter: c  3  shared",
        "parameter: v  6x2  personal",
        "parameter: w  3x2  shared",
        "parameter: b  3x2  shared",
        "statistic: m  3  personal",
        "statistic: s  3  personal",
    ]
    assert lines[7].startswith("slopes: agree with finite differences to ")
    assert lines[8].startswith("written: net.pfm, ")
    manifest = read_artefact(tmp_path / "net.pfm").manifest
    assert manifest.loss.kind == "mse"
    assert [p.name for p in manifest.parameters if p.personal] == ["v"]
