"""Writing ONNX graphs where the onnx package isn't; see :mod:`plantfed_shared.onnx_bytes`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from plantfed_shared.onnx_bytes import (
    ATTRIBUTE_INT,
    ATTRIBUTE_NAME,
    ATTRIBUTE_TYPE,
    ATTRIBUTE_TYPE_INT,
    FLOAT,
    GRAPH_NODES,
    GRAPH_TENSORS,
    INT64,
    MODEL_GRAPH,
    NODE_ATTRIBUTES,
    NODE_INPUTS,
    NODE_OPERATOR,
    NODE_OUTPUTS,
    encoded_field,
    encoded_number,
    encoded_tensor,
    fields_of,
)

DOUBLE = 11
TYPES = {"float32": FLOAT, "int64": INT64, "float64": DOUBLE}

GRAPH_NAME, GRAPH_INPUTS, GRAPH_OUTPUTS = 2, 11, 12
MODEL_PROPERTIES = 14
NODE_NAME = 3


@dataclass
class Graph:
    """A graph in the making; every value has a name of its own.

    Attributes:
        name: of the graph.
        nodes: encoded, each after those it depends on.
        tensors: encoded.
        inputs: encoded.
        outputs: encoded.
    """

    name: str
    nodes: list[bytes] = field(default_factory=list)
    tensors: list[bytes] = field(default_factory=list)
    inputs: list[bytes] = field(default_factory=list)
    outputs: list[bytes] = field(default_factory=list)

    def free(self, name: str) -> str:
        """This name, or where a node has a value of that name, one with lines behind it."""
        taken = {
            value
            for node in self.nodes
            for number, value in fields_of(node)
            if number in (NODE_INPUTS, NODE_OUTPUTS)
        }
        while name.encode() in taken:
            name += "_"
        return name

    def node(self, operator: str, inputs: Sequence[str], output: str, **integers: int) -> str:
        """Add a node of ``ai.onnx``; returns its output."""
        texts = [*((NODE_INPUTS, name) for name in inputs), (NODE_OUTPUTS, output)]
        texts += [(NODE_NAME, output), (NODE_OPERATOR, operator)]
        encoded = b"".join(encoded_field(number, text.encode()) for number, text in texts)
        for name, value in integers.items():
            attribute = encoded_field(ATTRIBUTE_NAME, name.encode())
            attribute += encoded_number(ATTRIBUTE_INT, value)
            attribute += encoded_number(ATTRIBUTE_TYPE, ATTRIBUTE_TYPE_INT)
            encoded += encoded_field(NODE_ATTRIBUTES, attribute)
        self.nodes.append(encoded)
        return output

    def cast(self, value: str, dtype: str, output: str) -> str:
        """Add a conversion; returns its output."""
        return self.node("Cast", [value], output, to=TYPES[dtype])

    def constant(self, name: str, values: NDArray[Any]) -> str:
        """Add a tensor; returns its name."""
        self.tensors.append(encoded_tensor(name, values, TYPES[values.dtype.name]))
        return name

    def take(self, name: str, shape: Sequence[int]) -> None:
        """Add an input: float32 (batch, *shape)."""
        self.inputs.append(_value(name, shape))

    def give(self, name: str, shape: Sequence[int]) -> None:
        """Add an output: float32 (batch, *shape)."""
        self.outputs.append(_value(name, shape))

    def encoded(self) -> bytes:
        """As a GraphProto."""
        parts = [
            *((GRAPH_NODES, node) for node in self.nodes),
            (GRAPH_NAME, self.name.encode()),
            *((GRAPH_TENSORS, tensor) for tensor in self.tensors),
            *((GRAPH_INPUTS, value) for value in self.inputs),
            *((GRAPH_OUTPUTS, value) for value in self.outputs),
        ]
        return b"".join(encoded_field(number, part) for number, part in parts)


def parts_of(model: bytes) -> Graph:
    """Nodes and tensors of a model, to be used in another graph.

    Raises:
        ValueError: it is no ONNX file.
    """
    graph = Graph("")
    for number, value in fields_of(model):
        if number != MODEL_GRAPH:
            continue
        for inner, part in fields_of(value):
            if inner == GRAPH_NODES:
                graph.nodes.append(part)
            elif inner == GRAPH_TENSORS:
                graph.tensors.append(part)
    return graph


def with_graph(model: bytes, graph: Graph, properties: Mapping[str, str]) -> bytes:
    """A model with the opset of another, but this graph and these properties."""
    kept = b""
    for number, value in fields_of(model):
        if number == MODEL_GRAPH:
            continue
        if isinstance(value, int):
            kept += encoded_number(number, value)
        else:
            kept += encoded_field(number, value)
    for key, text in properties.items():
        entry = encoded_field(1, key.encode()) + encoded_field(2, text.encode())
        kept += encoded_field(MODEL_PROPERTIES, entry)
    return kept + encoded_field(MODEL_GRAPH, graph.encoded())


def _value(name: str, shape: Sequence[int]) -> bytes:
    """A ValueInfoProto: float32 (batch, *shape)."""
    batch = encoded_field(1, encoded_field(2, b"batch"))
    sizes = b"".join(encoded_field(1, encoded_number(1, size)) for size in shape)
    tensor = encoded_number(1, FLOAT) + encoded_field(2, batch + sizes)
    return encoded_field(1, name.encode()) + encoded_field(2, encoded_field(1, tensor))
