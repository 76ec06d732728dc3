"""Batch norm in training, written out in plain operators.

onnxruntime's own operator in training mode (1.32, on the CPU) overwrites the running statistics it
is fed, wherever their new values are no outputs of the graph themselves.  And what is worked out
here is needed again on the way back.
"""

from onnx import NodeProto, helper

from plantfed_compiler.emitting import Emitter, attributes_of
from plantfed_compiler.rules.normalisation import EPSILON


def in_training(graph: Emitter, node: NodeProto) -> None:
    """Mark a node: its outputs then are y, (x - mean) / deviation, 1 / deviation, mean, variance.

    Args:
        graph: gives names.
        node: of the operator BatchNormalization; :func:`written_out` makes it real.
    """
    del node.output[1:]
    node.output.extend(graph.fresh("batch_norm") for _ in range(4))
    node.attribute.append(helper.make_attribute("training_mode", 1))


def written_out(graph: Emitter, node: NodeProto) -> list[NodeProto]:
    """The nodes that give what a marked node says it gives.

    Args:
        graph: of which names and constants are used.
        node: marked by :func:`in_training`.
    """
    inner, rank = graph.nested(), graph.rank(node.input[0])
    x, scale, offset = node.input[:3]
    y, standard, inverse, mean, variance = node.output
    axes = inner.integers(*(axis for axis in range(rank) if axis != 1))
    inner.op("ReduceMean", x, axes, into=mean, keepdims=1)
    centred = inner.op("Sub", x, mean)
    inner.op("ReduceMean", inner.op("Mul", centred, centred), axes, into=variance, keepdims=1)
    epsilon = inner.number(attributes_of(node).get("epsilon", EPSILON))
    deviation = inner.op("Sqrt", inner.op("Add", variance, epsilon))
    inner.op("Reciprocal", deviation, into=inverse)
    inner.op("Mul", centred, inverse, into=standard)
    channels = inner.integers(1, -1, *[1] * (rank - 2))
    wide_scale, wide_offset = (inner.op("Reshape", v, channels) for v in (scale, offset))
    inner.op("Add", inner.op("Mul", standard, wide_scale), wide_offset, into=y)
    return inner.nodes


def running_statistics(graph: Emitter, node: NodeProto) -> tuple[str, str]:
    """Add the running mean and variance after a step: m * old + (1 - m) * of the batch.

    The variance is that with n - 1, as torch and Keras have it; ONNX's operator has n.

    Args:
        graph: to add to.
        node: marked by :func:`in_training`.
    """
    op = graph.op
    stays = graph.number(attributes_of(node).get("momentum", 0.9))
    enters = graph.number(1 - attributes_of(node).get("momentum", 0.9))
    others = [axis for axis in range(graph.rank(node.input[0])) if axis != 1]
    n = graph.n_elements(node.input[0], others)
    unbiased = op("Div", n, op("Max", op("Sub", n, graph.number(1)), graph.number(1)))
    found = []
    for old, now, factor in ((3, 3, enters), (4, 4, op("Mul", enters, unbiased))):
        flat = op("Reshape", node.output[now], graph.integers(-1))
        found.append(op("Add", op("Mul", node.input[old], stays), op("Mul", flat, factor)))
    return found[0], found[1]
