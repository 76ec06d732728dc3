"""The personal model as an ONNX file that takes raw values.

    x (batch, window rows * inputs) --scale, clip--> network --> probabilities (batch, classes)
                                                             --> y (batch, targets)

The scaling is done in float64, as in training: a pressure of 101325 Pa with a centre beside it
would lose its digits in float32.  All operators are of the plain ``ai.onnx`` set, version 17.
"""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plantfed_agent import onnx_runtime
from plantfed_agent.compiled_export import export_compiled
from plantfed_agent.personal_model import PersonalModel
from plantfed_shared.definition import CompiledModel, FederationDefinition, Input
from plantfed_shared.errors import ConfigError, StorageError, TrainingError
from plantfed_shared.parameters import Floats

OPSET = 17
IR_VERSION = 8
TOLERANCE = 1e-5
"""Largest difference between the file and the model: of probabilities, or of scaled targets."""

ACTIVATIONS = {"relu": "Relu", "tanh": "Tanh"}


def export_onnx(model: PersonalModel, path: Path) -> None:
    """Write the model; where onnxruntime is installed, also compare what it computes.

    The file's only input is ``x``, float32 (batch, window rows * inputs), in the units of the
    definition; its only output ``probabilities``, float32 (batch, classes), or ``y``, float32
    (batch, targets), in target units.  Its metadata hold the manifest.

    A compiled model is written by :mod:`plantfed_agent.compiled_export`.

    Raises:
        ConfigError: onnx is not installed.
        StorageError: the file cannot be written.
        TrainingError: the file computes something else than the model.
    """
    if isinstance(model.definition.model, CompiledModel):
        export_compiled(model, path)
        return
    try:
        import onnx
    except ImportError:
        raise ConfigError(
            "exporting ONNX files is not installed", hint="pip install 'plantfed[compiler]'"
        ) from None
    graph = _Graph(onnx)
    answer = _network(graph, model)
    encoded = graph.finished(answer, model)
    written = path.with_name(path.name + ".part")
    try:
        written.write_bytes(encoded)
        if onnx_runtime.is_installed():
            _compare(model, written)
        written.replace(path)
    except OSError as error:
        raise StorageError(f"cannot be written: {error.strerror}", where=str(path)) from None
    finally:
        with suppress(OSError):
            written.unlink()


class _Graph:
    """A graph that grows node by node; every value has a name of its own."""

    def __init__(self, onnx: Any) -> None:
        self._onnx = onnx
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def constant(self, name: str, values: NDArray[Any]) -> str:
        self._constants.append(self._onnx.numpy_helper.from_array(values, name))
        return name

    def node(self, operator: str, *inputs: str, name: str, **attributes: Any) -> str:
        made = self._onnx.helper.make_node(operator, list(inputs), [name], name=name, **attributes)
        self._nodes.append(made)
        return name

    def cast(self, value: str, dtype: type[np.floating], name: str) -> str:
        kind = self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.node("Cast", value, name=name, to=kind)

    def finished(self, answer: str, model: PersonalModel) -> bytes:
        """The checked file."""
        helper, definition = self._onnx.helper, model.definition
        floats = self._onnx.TensorProto.FLOAT
        graph = helper.make_graph(
            self._nodes,
            definition.federation,
            [helper.make_tensor_value_info("x", floats, ["batch", definition.n_inputs])],
            [helper.make_tensor_value_info(answer, floats, ["batch", definition.n_outputs])],
            self._constants,
        )
        made = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="plantfed",
        )
        helper.set_model_props(made, {"plantfed": json.dumps(model.manifest())})
        self._onnx.checker.check_model(made, full_check=True)
        encoded: bytes = made.SerializeToString()
        return encoded


def _network(graph: _Graph, model: PersonalModel) -> str:
    """Add all nodes; returns the name of the answer."""
    definition = model.definition
    value = _scaled_inputs(graph, definition)
    names = [p.name for p in definition.parameter_specification().parameters]
    constants = [
        graph.constant(name, parameter)
        for name, parameter in zip(names, model.parameters, strict=True)
    ]
    n_layers = len(constants) // 2
    activations = definition.model.activations if definition.model.kind == "dense" else ()
    for layer in range(n_layers):
        weight, bias = constants[2 * layer : 2 * layer + 2]
        value = graph.node("Gemm", value, weight, bias, name=f"layer{layer + 1}")
        if layer < n_layers - 1:
            operator = ACTIVATIONS[activations[layer]]
            value = graph.node(operator, value, name=f"hidden{layer + 1}")
    if definition.classes:
        return graph.node("Softmax", value, name="probabilities", axis=-1)
    scale, centre = (
        graph.constant(f"target_{field}", np.array([getattr(t, field) for t in definition.targets]))
        for field in ("scale", "centre")
    )
    exact = graph.cast(value, np.float64, name="y_scaled")
    exact = graph.node("Mul", exact, scale, name="y_centred")
    exact = graph.node("Add", exact, centre, name="y_exact")
    return graph.cast(exact, np.float32, name="y")


def _scaled_inputs(graph: _Graph, definition: FederationDefinition) -> str:
    """clip((x - centre) / scale), feature by feature."""
    centre = graph.constant("centre", _per_feature(definition, "centre"))
    scale = graph.constant("scale", _per_feature(definition, "scale"))
    value = graph.cast("x", np.float64, name="x_exact")
    value = graph.node("Sub", value, centre, name="x_centred")
    value = graph.node("Div", value, scale, name="x_divided")
    if any(i.clip is not None for i in definition.inputs):
        bound = _per_feature(definition, "clip")
        value = graph.node("Min", value, graph.constant("clip", bound), name="x_below")
        value = graph.node("Max", value, graph.constant("minus_clip", -bound), name="x_clipped")
    return graph.cast(value, np.float32, name="x_scaled")


def _per_feature(definition: FederationDefinition, field: str) -> NDArray[np.float64]:
    """float64 (window rows * inputs,): a property of the input of each feature; no clip is inf."""

    def of(column: Input) -> float:
        value: float | None = getattr(column, field)
        return np.inf if value is None else value

    return np.tile([of(i) for i in definition.inputs], definition.window.rows).astype(np.float64)


def _compare(model: PersonalModel, path: Path) -> None:
    definition = model.definition
    rng = np.random.RandomState(0)
    centre, scale, clip = (_per_feature(definition, f) for f in ("centre", "scale", "clip"))
    raw: Floats = (centre + scale * rng.uniform(-4, 4, (64, centre.size))).astype(np.float32)
    x = np.clip((raw.astype(np.float64) - centre) / scale, -clip, clip).astype(np.float32)
    difference = np.abs(onnx_runtime.run_onnx(path, raw) - model.predict(x).astype(np.float64))
    if definition.targets:
        difference /= [t.scale for t in definition.targets]
    if not difference.max() <= TOLERANCE:
        raise TrainingError(
            f"the exported file computes something else: it differs by {difference.max():.2g}",
            where=str(path),
            hint="Report this with the versions of onnx and onnxruntime",
        )
