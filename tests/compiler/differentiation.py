"""Gradients of compiled networks, and slopes to hold them against."""

from collections.abc import Mapping
from itertools import product
from math import erf
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from plantfed_compiler import steps
from plantfed_compiler.losses import target_of
from plantfed_compiler.network import network_of
from plantfed_compiler.numeric_check import Probe, probe
from plantfed_compiler.tracing import trace
from plantfed_shared import step_names
from plantfed_shared.model_manifest import (
    Array,
    LossOfModel,
)
from plantfed_shared.onnx_session import OnnxSession

LENGTH = 1e-5
"""Of a step along a direction, in float64."""


def whole_step(model: ModelProto, loss: str, **options: Any) -> tuple[Probe, ModelProto]:
    """A step of all parameters of a model, with a batch to try it on."""
    given = {"sizes": {}, "frozen": (), "output": None, "frozen_statistics": False} | options
    network = network_of(model, "net.onnx", **given)
    known = trace(network)
    of = LossOfModel.model_validate({"kind": loss, "delta": 0.5})
    outputs = known[network.output]
    source = Array(name=network.input, dtype=network.input_dtype, shape=network.input_shape)
    target = target_of(of, outputs, source, step_names.TARGET)
    plan = steps.Plan(network, known, of, target, frozenset(), False)
    built, _ = steps.step(plan, list(network.parameters))
    session = OnnxSession(built.SerializeToString())
    classes = int(outputs.shape[1]) if len(outputs.shape) > 1 else 0
    return probe(session, network, of, target, classes), built


class Erf(OpRun):
    """Onnx's own has the digits of float32."""

    def _run(self, x):
        return (np.vectorize(erf, otypes=["d"])(x),)


class Gelu(OpRun):
    """Onnx's own has the digits of float32."""

    def _run(self, x, approximate=None):
        if approximate == "tanh":
            return (x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),)
        return (x / 2 * (1 + np.vectorize(erf, otypes=["d"])(x / np.sqrt(2))),)


class GroupNormalization(OpRun):
    """Onnx's own has the digits of float32."""

    def _run(self, x, scale, offset, num_groups, epsilon, **_):
        grouped = x.reshape(len(x), num_groups, -1)
        centred = grouped - grouped.mean(-1, keepdims=True)
        z = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + (epsilon or 1e-5))
        channels = (1, -1, *[1] * (x.ndim - 2))
        return (z.reshape(x.shape) * scale.reshape(channels) + offset.reshape(channels),)


class ConvTranspose(OpRun):
    """Onnx's own has no groups."""

    def _run(self, x, w, b=None, **attributes):
        kernel, group = w.shape[2:], attributes.get("group") or 1
        rank = len(kernel)
        strides = attributes.get("strides") or [1] * rank
        dilations = attributes.get("dilations") or [1] * rank
        more = attributes.get("output_padding") or [0] * rank
        pads = attributes.get("pads") or [0] * (2 * rank)
        n_in, n_out = x.shape[1] // group, w.shape[1]
        full = [
            (x.shape[2 + i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 + more[i]
            for i in range(rank)
        ]
        y = np.zeros((len(x), group * n_out, *full))
        for place in product(*map(range, kernel)):
            spots = tuple(
                slice(at * d, at * d + (n - 1) * s + 1, s)
                for at, d, n, s in zip(place, dilations, x.shape[2:], strides, strict=True)
            )
            for g in range(group):
                taken, given = slice(g * n_in, (g + 1) * n_in), slice(g * n_out, (g + 1) * n_out)
                part = np.einsum("bi...,io->bo...", x[:, taken], w[(taken, slice(None), *place)])
                y[(slice(None), given, *spots)] += part
        inside = tuple(slice(pads[i], full[i] - pads[rank + i]) for i in range(rank))
        y = y[(slice(None), slice(None), *inside)]
        return (y if b is None else y + b.reshape(1, -1, *[1] * rank),)


def in_float64(model: ModelProto) -> ReferenceEvaluator:
    """The forward pass to the loss, by onnx's own implementation in numpy, in float64."""
    nodes, needed = [], {step_names.LOSS}
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept = type(node).FromString(node.SerializeToString())
            for attribute in kept.attribute:
                if kept.op_type == "Cast" and attribute.i == TensorProto.FLOAT:
                    attribute.i = TensorProto.DOUBLE
            nodes.append(kept)
    inputs = [
        helper.make_tensor_value_info(
            i.name,
            TensorProto.DOUBLE
            if i.type.tensor_type.elem_type == TensorProto.FLOAT
            else i.type.tensor_type.elem_type,
            None,
        )
        for i in model.graph.input
        if i.name in needed
    ]
    output = helper.make_tensor_value_info(step_names.LOSS, TensorProto.DOUBLE, None)
    tensors = [
        numpy_helper.from_array(wide(numpy_helper.to_array(t)), t.name)
        for t in model.graph.initializer
        if t.name in needed
    ]
    graph = helper.make_graph(nodes[::-1], "forward", inputs, [output], tensors)
    return ReferenceEvaluator(
        helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=10),
        new_ops=[ConvTranspose, Erf, Gelu, GroupNormalization],
    )


def wide(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(np.float64) if array.dtype == np.float32 else array


def slopes(
    at: Probe, forward: ReferenceEvaluator, directions: Mapping[str, NDArray[np.float64]]
) -> dict[str, float]:
    """Central differences of the loss along one direction for each parameter."""
    inputs = set(forward.input_names)
    feeds = {n: wide(a) for n, a in {**at.feeds, **at.parameters}.items() if n in inputs}

    def loss(name: str, length: float) -> float:
        moved = {**feeds, name: feeds[name] + length * directions[name]}
        return float(forward.run([step_names.LOSS], moved)[0])

    return {name: (loss(name, LENGTH) - loss(name, -LENGTH)) / (2 * LENGTH) for name in directions}
