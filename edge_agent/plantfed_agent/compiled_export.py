"""The personal model of a compiled network as an ONNX file, without the onnx package.

    x (batch, *input) raw --scale, clip--> network --> probabilities | y | anomaly_score

The graph is the artefact's own, with this machine's weights in it.  Scaling is done in float64, as
in training.
"""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plantfed_agent import onnx_runtime
from plantfed_agent.personal_model import PersonalModel
from plantfed_shared import step_names
from plantfed_shared.artefact import Artefact
from plantfed_shared.definition import CompiledModel, FederationDefinition, Input
from plantfed_shared.errors import StorageError, TrainingError
from plantfed_shared.onnx_writing import Graph, parts_of, with_graph
from plantfed_shared.parameters import Floats

RAW = "x"
TOLERANCE = 1e-5
"""Largest difference between the file and the model: of probabilities, or of scaled targets."""


def export_compiled(model: PersonalModel, path: Path) -> None:
    """Write the model; where onnxruntime is installed, also compare what it computes.

    The file's only input is ``x`` (with a line behind it where the network has an ``x``), float32
    (batch, *input shape of the network), in the units of the definition.  Its output is
    ``probabilities`` (batch, classes or targets of bce), ``y`` (batch, targets) in target units, or
    ``anomaly_score`` (batch, 1).  Its metadata hold the manifest.

    Raises:
        ModelError: the artefact is not here.
        StorageError: the file cannot be written.
        TrainingError: the file computes something else than the model.
    """
    definition = model.definition
    if not isinstance(definition.model, CompiledModel):
        raise ValueError("a dense model has no artefact")
    artefact = model.kernels.artefact(definition, definition.model)
    encoded = _encoded(model, artefact, definition.model)
    written = path.with_name(path.name + ".part")
    try:
        written.write_bytes(encoded)
        if onnx_runtime.is_installed():
            _compare(model, definition.model, written)
        written.replace(path)
    except OSError as error:
        raise StorageError(f"cannot be written: {error.strerror}", where=str(path)) from None
    finally:
        with suppress(OSError):
            written.unlink()


def _encoded(model: PersonalModel, artefact: Artefact, shapes: CompiledModel) -> bytes:
    definition, manifest = model.definition, artefact.manifest
    network = parts_of(artefact.graph("predict"))
    graph = Graph(definition.federation)
    raw = network.free(RAW)
    graph.take(raw, shapes.input_shape)
    scaled = _scaled(graph, definition, shapes, raw)
    if manifest.input.dtype == "int64":
        scaled = graph.cast(scaled, "int64", "plantfed.x")
    graph.node("Identity", [scaled], manifest.input.name)
    graph.nodes += network.nodes
    graph.tensors += network.tensors
    names = [t.name for t in (*manifest.parameters, *manifest.statistics)]
    for name, values in zip(names, model.parameters, strict=True):
        graph.constant(name, values)
    name, width = _answer(graph, definition, scaled)
    graph.give(name, (width,))
    properties = {"plantfed": json.dumps(model.manifest())}
    return with_graph(artefact.graph("predict"), graph, properties)


def _answer(graph: Graph, definition: FederationDefinition, scaled: str) -> tuple[str, int]:
    """Add what makes the answer of the network's outputs; its name and width."""
    flat = graph.node("Flatten", [step_names.OUTPUT], "plantfed.flat")
    if definition.classes:
        return graph.node("Softmax", [flat], graph.free("probabilities")), len(definition.classes)
    if definition.loss.kind == "bce":
        return graph.node("Sigmoid", [flat], graph.free("probabilities")), len(definition.targets)
    if definition.loss.kind == "reconstruction":
        wide = graph.node("Flatten", [scaled], "plantfed.wide")
        error = graph.node("Sub", [flat, wide], "plantfed.error")
        square = graph.node("Mul", [error, error], "plantfed.square")
        n = definition.n_inputs
        mean = graph.constant("plantfed.mean", np.full((n, 1), 0.5 / n, np.float32))
        return graph.node("MatMul", [square, mean], graph.free("anomaly_score")), 1
    targets = definition.targets
    exact = graph.cast(flat, "float64", "plantfed.y_scaled")
    for operator, field in (("Mul", "scale"), ("Add", "centre")):
        values = np.array([getattr(t, field) for t in targets], dtype=np.float64)
        constant = graph.constant(f"plantfed.target_{field}", values)
        exact = graph.node(operator, [exact, constant], f"plantfed.y_{field}")
    return graph.cast(exact, "float32", graph.free("y")), len(targets)


def _scaled(graph: Graph, definition: FederationDefinition, shapes: CompiledModel, raw: str) -> str:
    """Add clip((x - centre) / scale), number by number."""

    def of(field: str) -> str:
        return graph.constant(f"plantfed.{field}", _per_number(definition, shapes, field))

    value = graph.cast(raw, "float64", "plantfed.exact")
    value = graph.node("Sub", [value, of("centre")], "plantfed.centred")
    value = graph.node("Div", [value, of("scale")], "plantfed.divided")
    if any(i.clip is not None for i in definition.inputs):
        value = graph.node("Min", [value, of("clip")], "plantfed.below")
        below = graph.constant("plantfed.minus_clip", -_per_number(definition, shapes, "clip"))
        value = graph.node("Max", [value, below], "plantfed.clipped")
    return graph.cast(value, "float32", "plantfed.scaled")


def _per_number(
    definition: FederationDefinition, shapes: CompiledModel, field: str
) -> NDArray[np.float64]:
    """float64, of the shape of the network's input: a property of the input of each number."""

    def of(quantity: Input) -> float:
        value: float | None = getattr(quantity, field)
        return np.inf if value is None else value

    by_input = np.array([of(i) for i in definition.inputs], dtype=np.float64)
    rows = np.tile(by_input, (definition.window.rows, 1))
    found = rows.T if shapes.layout == "columns" else rows
    return found.reshape(shapes.input_shape)


def _compare(model: PersonalModel, shapes: CompiledModel, path: Path) -> None:
    definition = model.definition
    rng = np.random.RandomState(0)
    centre, scale, clip = (_per_number(definition, shapes, f) for f in ("centre", "scale", "clip"))
    noise = rng.uniform(-4, 4, (16, *shapes.input_shape))
    raw: Floats = (centre + scale * noise).astype(np.float32)
    shaped = np.clip((raw.astype(np.float64) - centre) / scale, -clip, clip).astype(np.float32)
    x = as_samples(shaped, definition, shapes)
    difference: NDArray[Any] = np.abs(
        onnx_runtime.run_onnx(path, raw) - model.predict(x).astype(np.float64)
    )
    if definition.targets:
        difference /= [t.scale for t in definition.targets]
    if not difference.max() <= TOLERANCE:
        raise TrainingError(
            f"the exported file computes something else: it differs by {difference.max():.2g}",
            where=str(path),
            hint="Report this with the version of onnxruntime",
        )


def as_samples(
    shaped: NDArray[Any], definition: FederationDefinition, shapes: CompiledModel
) -> NDArray[Any]:
    """The inverse of what a kernel does with samples: (n, *input shape) -> (n, rows * inputs)."""
    n, n_inputs = len(shaped), len(definition.inputs)
    if shapes.layout == "columns":
        shaped = shaped.reshape(n, n_inputs, -1).transpose(0, 2, 1)
    return shaped.reshape(n, -1)
