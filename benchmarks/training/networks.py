"""The networks that are trained, as ONNX files; made without torch."""

from dataclasses import dataclass
from itertools import pairwise
from math import prod, sqrt

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

OPSET = 20
Floats = NDArray[np.float32]
Layer = tuple[str, tuple[int, ...]]
"""``linear`` (in, out), ``conv`` (in, out, kernel), ``pool`` (size,), ``relu``, ``flatten``."""


@dataclass(frozen=True)
class Network:
    """A classifier: layers with torch's default initial weights, one after the other.

    Attributes:
        what: for the reader.
        sample: shape of one row.
        layers: in order; convolutions are padded to keep the size, strides are 1.
    """

    what: str
    sample: tuple[int, ...]
    layers: tuple[Layer, ...]

    @property
    def classes(self) -> int:
        return self.layers[-1][1][1]


def _dense(*sizes: int) -> list[Layer]:
    layers: list[Layer] = []
    for sides in pairwise(sizes):
        layers += [("linear", sides), ("relu", ())]
    return layers[:-1]


def _convolutions(kernel: int, *channels: int) -> list[Layer]:
    layers: list[Layer] = []
    for sides in pairwise(channels):
        layers += [("conv", (*sides, kernel)), ("relu", ()), ("pool", (2,))]
    return [*layers, ("flatten", ())]


NETWORKS = {
    "mlp": Network("MLP 561-128-64-6", (561,), tuple(_dense(561, 128, 64, 6))),
    "cnn1d": Network(
        "1-D CNN, 9x128", (9, 128), (*_convolutions(5, 9, 32, 64), *_dense(64 * 32, 64, 6))
    ),
    "cnn2d": Network(
        "2-D CNN, 3x32x32", (3, 32, 32), (*_convolutions(3, 3, 16, 32), *_dense(2048, 128, 10))
    ),
}


def parameters(network: Network) -> dict[str, Floats]:
    """By the names they have in a torch.nn.Sequential."""
    rng = np.random.RandomState(5)
    spatial = len(network.sample) - 1
    found: dict[str, Floats] = {}
    for place, (kind, sizes) in enumerate(network.layers):
        if kind not in ("linear", "conv"):
            continue
        n_in, n_out, *kernel = sizes
        shape = (n_out, n_in, *(kernel * spatial))
        bound = 1 / sqrt(prod(shape[1:]))
        for name, its_shape in (("weight", shape), ("bias", (n_out,))):
            found[f"{place}.{name}"] = rng.uniform(-bound, bound, its_shape).astype(np.float32)
    return found


def flops(network: Network) -> int:
    """Of the products in a training step of one row: forward, weights' and inputs' gradients.

    The first layer's input needs no gradient.
    """
    products: list[int] = []
    points = prod(network.sample[1:])
    spatial = len(network.sample) - 1
    for kind, sizes in network.layers:
        if kind == "pool":
            points //= prod(sizes * spatial)
        if kind == "conv":
            products.append(points * prod((*sizes[:2], *(sizes[2:] * spatial))))
        if kind == "linear":
            products.append(sizes[0] * sizes[1])
    return 2 * (3 * sum(products) - products[0])


def onnx_model(network: Network) -> ModelProto:
    """Of any batch, giving logits."""
    nodes: list[NodeProto] = []
    value = "x"
    for place, (kind, sizes) in enumerate(network.layers):
        after = f"v{place}"
        nodes.append(_node(network, kind, sizes, value, after, place))
        value = after
    tensors = [numpy_helper.from_array(a, n) for n, a in parameters(network).items()]
    take = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *network.sample])
    give = helper.make_tensor_value_info(value, TensorProto.FLOAT, ["batch", network.classes])
    graph = helper.make_graph(nodes, "network", [take], [give], tensors)
    imports = [helper.make_opsetid("", OPSET)]
    return helper.make_model(
        graph, opset_imports=imports, ir_version=helper.find_min_ir_version_for(imports)
    )


def _node(
    network: Network, kind: str, sizes: tuple[int, ...], before: str, after: str, place: int
) -> NodeProto:
    spatial, own = len(network.sample) - 1, [f"{place}.weight", f"{place}.bias"]
    match kind:
        case "linear":
            return helper.make_node("Gemm", [before, *own], [after], transB=1)
        case "conv":
            pads = [sizes[2] // 2] * 2 * spatial
            return helper.make_node("Conv", [before, *own], [after], pads=pads)
        case "pool":
            window = [sizes[0]] * spatial
            return helper.make_node(
                "MaxPool", [before], [after], kernel_shape=window, strides=window
            )
        case "flatten":
            return helper.make_node("Flatten", [before], [after])
        case _:
            return helper.make_node("Relu", [before], [after])
