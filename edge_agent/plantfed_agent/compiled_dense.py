"""Compiled networks that are dense ones, in numpy: for machines without onnxruntime."""

from collections.abc import Collection
from dataclasses import dataclass
from itertools import chain

from plantfed_agent.kernels.dense import ACTIVATIONS, DenseKernel
from plantfed_agent.kernels.descent import descend
from plantfed_agent.kernels.losses import loss_function
from plantfed_agent.kernels.port import Batches, Part, Rates, Truth
from plantfed_shared import step_names
from plantfed_shared.artefact import Artefact
from plantfed_shared.onnx_bytes import Node, nodes_in
from plantfed_shared.parameters import Floats, Parameters

OPERATORS = {"Relu": "relu", "Tanh": "tanh"}
LOSSES = ("cross-entropy", "mse", "huber")


@dataclass(frozen=True, slots=True)
class NamedDense:
    """A dense network whose parameters come in the order and form of an artefact.

    Implements :class:`plantfed_agent.kernels.port.Kernel`.

    Attributes:
        names: of the parameters, in the order of the artefact.
        dense: the network, with the same names in the order of its layers.
        transposed: weights that are (outputs, inputs).
    """

    names: tuple[str, ...]
    dense: DenseKernel
    transposed: frozenset[str]

    def outputs(self, parameters: Parameters, x: Floats) -> Floats:
        """See :meth:`Kernel.outputs`."""
        return self.dense.outputs(self._by_layer(parameters), x)

    def mean_loss(self, parameters: Parameters, x: Floats, y: Truth) -> float:
        """See :meth:`Kernel.mean_loss`."""
        return self.dense.mean_loss(self._by_layer(parameters), x, y)

    def row_losses(self, parameters: Parameters, x: Floats, y: Truth) -> Floats:
        """See :meth:`Kernel.row_losses`."""
        return self.dense.row_losses(self._by_layer(parameters), x, y)

    def descend(
        self, parameters: Parameters, parts: tuple[Part, ...], rates: Rates, batches: Batches
    ) -> list[float]:
        """See :meth:`Kernel.descend`."""
        return descend(self, self.names, parameters, parts, rates, batches)

    def loss_and_gradient(
        self, parameters: Parameters, x: Floats, y: Truth, wanted: Collection[str]
    ) -> tuple[float, list[Floats]]:
        """See :meth:`Kernel.loss_and_gradient`."""
        loss, found = self.dense.loss_and_gradient(self._by_layer(parameters), x, y, wanted)
        by_layer = [name for name in self.dense.names if name in wanted]
        gradients = {n: self._turned(n, g) for n, g in zip(by_layer, found, strict=True)}
        return loss, [gradients[name] for name in self.names if name in gradients]

    def _by_layer(self, parameters: Parameters) -> Parameters:
        named = dict(zip(self.names, parameters, strict=True))
        return [self._turned(name, named[name]) for name in self.dense.names]

    def _turned(self, name: str, values: Floats) -> Floats:
        return values.T if name in self.transposed else values


def dense_kernel(artefact: Artefact) -> NamedDense | None:
    """The network in numpy, if it is a chain of Gemm, Relu and Tanh with a loss that numpy has."""
    manifest = artefact.manifest
    if len(manifest.input.shape) != 1 or manifest.statistics or manifest.loss.kind not in LOSSES:
        return None
    nodes = [n for n in nodes_in(artefact.graph("predict")) if n.operator != "Identity"]
    layers, activations = nodes[::2], nodes[1::2]
    if not _is_chain(manifest.input.name, nodes) or len(layers) != len(activations) + 1:
        return None
    if not all(map(_is_layer, layers)) or any(a.operator not in OPERATORS for a in activations):
        return None
    names = tuple(p.name for p in manifest.parameters)
    by_layer = tuple(chain.from_iterable(layer.inputs[1:] for layer in layers))
    if sorted(by_layer) != sorted(names):
        return None
    dense = DenseKernel(
        names=by_layer,
        activations=tuple(ACTIVATIONS[OPERATORS[a.operator]] for a in activations),
        loss=loss_function(manifest.loss.kind, manifest.loss.delta),
    )
    turned = frozenset(layer.inputs[1] for layer in layers if layer.attributes.get("transB"))
    return NamedDense(names, dense, turned)


def _is_chain(value: str, nodes: list[Node]) -> bool:
    for node in nodes:
        if not node.inputs or not node.outputs:
            return False
        if node.inputs[0] != value or value == step_names.OUTPUT:
            return False
        value = node.outputs[0]
    return True


def _is_layer(node: Node) -> bool:
    """Whether it is value @ weight + bias."""
    usual = {"alpha": 1.0, "beta": 1.0, "transA": 0}
    plain = all(node.attributes.get(name, value) == value for name, value in usual.items())
    return node.operator == "Gemm" and len(node.inputs) == 3 and plain
