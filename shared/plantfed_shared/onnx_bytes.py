"""ONNX files as bytes, where the onnx package isn't: what is in one, and adding weights to one.

An ONNX file is a protobuf message; numbers of fields are those of onnx.proto (onnx 1.23).  Its wire
format: https://protobuf.dev/programming-guides/encoding/.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

STANDARD_DOMAINS = (b"", b"ai.onnx")
FLOAT, INT64 = 1, 7

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5

MODEL_GRAPH, MODEL_OPSETS, MODEL_TRAINING, MODEL_FUNCTIONS = 7, 8, 20, 25
GRAPH_NODES, GRAPH_TENSORS, GRAPH_SPARSE_TENSORS = 1, 5, 15
NODE_INPUTS, NODE_OUTPUTS, NODE_OPERATOR, NODE_ATTRIBUTES, NODE_DOMAIN = 1, 2, 4, 5, 7
ATTRIBUTE_NAME, ATTRIBUTE_FLOAT, ATTRIBUTE_INT, ATTRIBUTE_TYPE = 1, 2, 3, 20
ATTRIBUTE_TYPE_FLOAT, ATTRIBUTE_TYPE_INT = 1, 2
ATTRIBUTE_TENSOR, ATTRIBUTE_GRAPH, ATTRIBUTE_TENSORS, ATTRIBUTE_GRAPHS = 5, 6, 10, 11
ATTRIBUTE_SPARSE = (22, 23)
TENSOR_SHAPE, TENSOR_TYPE, TENSOR_NAME, TENSOR_RAW = 1, 2, 8, 9
TENSOR_EXTERNAL, TENSOR_LOCATION = 13, 14
OPSET_DOMAIN = 1

Field = tuple[int, Any]


def fields_of(message: bytes) -> Iterator[Field]:
    """(number, value) of each field: int for numbers, bytes for everything else.

    Raises:
        ValueError: it is no protobuf message.
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind == _LENGTH:
            length, at = _varint(message, at)
        elif kind in (_FIXED32, _FIXED64):
            length = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {kind}")
        if at + length > len(message):
            raise ValueError("it is truncated")
        yield number, message[at : at + length]
        at += length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(message) or shift > 63:
            raise ValueError("it is truncated")
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at


def operators_in(model: bytes) -> set[str]:
    """Operators of a model that has nothing but nodes of ``ai.onnx`` and tensors of its own.

    Raises:
        ValueError: it is no ONNX file, or has nodes of other domains, functions, or tensors that
            are elsewhere.
    """
    found: set[str] = set()
    for number, value in fields_of(model):
        if number == MODEL_GRAPH:
            _look_at_graph(_message(value), found)
        elif number == MODEL_OPSETS:
            _refuse_other_domain(_message(value), OPSET_DOMAIN)
        elif number in (MODEL_TRAINING, MODEL_FUNCTIONS):
            raise ValueError("it has functions")
    if not found:
        raise ValueError("it has no nodes")
    return found


def _message(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a number is where a message should be")
    return value


def _look_at_graph(graph: bytes, found: set[str]) -> None:
    for number, value in fields_of(graph):
        if number == GRAPH_NODES:
            _look_at_node(_message(value), found)
        elif number == GRAPH_TENSORS:
            _look_at_tensor(_message(value))
        elif number == GRAPH_SPARSE_TENSORS:
            raise ValueError("it has sparse tensors")


def _look_at_node(node: bytes, found: set[str]) -> None:
    _refuse_other_domain(node, NODE_DOMAIN)
    for number, value in fields_of(node):
        if number == NODE_OPERATOR:
            found.add(_message(value).decode())
        elif number == NODE_ATTRIBUTES:
            _look_at_attribute(_message(value), found)


def _look_at_attribute(attribute: bytes, found: set[str]) -> None:
    for number, value in fields_of(attribute):
        if number in (ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS):
            _look_at_graph(_message(value), found)
        elif number in (ATTRIBUTE_TENSOR, ATTRIBUTE_TENSORS):
            _look_at_tensor(_message(value))
        elif number in ATTRIBUTE_SPARSE:
            raise ValueError("it has sparse tensors")


def _look_at_tensor(tensor: bytes) -> None:
    for number, value in fields_of(tensor):
        if number == TENSOR_EXTERNAL or (number == TENSOR_LOCATION and value):
            raise ValueError("it has tensors in other files")


def _refuse_other_domain(message: bytes, field: int) -> None:
    for number, value in fields_of(message):
        if number == field and value not in STANDARD_DOMAINS:
            raise ValueError(
                f"it has operators of domain {_message(value).decode(errors='replace')}"
            )


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a graph.

    Attributes:
        operator: of ``ai.onnx``.
        inputs: names of values.
        outputs: names of values.
        attributes: those that are numbers; None for any other.
    """

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, float | None]


def nodes_in(model: bytes) -> list[Node]:
    """The nodes of a model's graph, in order.

    Raises:
        ValueError: it is no ONNX file.
    """
    graphs = [_message(value) for number, value in fields_of(model) if number == MODEL_GRAPH]
    parts = [part for graph in graphs for part in fields_of(graph)]
    return [_node(_message(value)) for number, value in parts if number == GRAPH_NODES]


def _node(node: bytes) -> Node:
    texts: dict[int, list[str]] = {NODE_INPUTS: [], NODE_OUTPUTS: [], NODE_OPERATOR: []}
    attributes: dict[str, float | None] = {}
    for number, value in fields_of(node):
        if number in texts:
            texts[number].append(_message(value).decode())
        elif number == NODE_ATTRIBUTES:
            found = dict(fields_of(_message(value)))
            attributes[_message(found.get(ATTRIBUTE_NAME, b"")).decode()] = _number_in(found)
    operator = "".join(texts[NODE_OPERATOR])
    return Node(operator, tuple(texts[NODE_INPUTS]), tuple(texts[NODE_OUTPUTS]), attributes)


def _number_in(attribute: Mapping[int, Any]) -> float | None:
    match attribute.get(ATTRIBUTE_TYPE):
        case code if code == ATTRIBUTE_TYPE_FLOAT:
            said = _message(attribute.get(ATTRIBUTE_FLOAT, bytes(4)))
            if len(said) != struct.calcsize("<f"):
                raise ValueError("it has a number of another length")
            return float(struct.unpack("<f", said)[0])
        case code if code == ATTRIBUTE_TYPE_INT:
            whole = attribute.get(ATTRIBUTE_INT, 0)
            if not isinstance(whole, int):
                raise ValueError("bytes are where a number should be")
            return whole
    return None


def with_tensors(model: bytes, tensors: Mapping[str, NDArray[Any]]) -> bytes:
    """A model whose inputs of these names have values, which may still be fed.

    Two protobuf messages one after the other are read as one (the graph of the second is merged
    into that of the first), so nothing has to be understood of the model.

    Args:
        model: an ONNX file.
        tensors: float32 or int64, by the names of inputs.
    """
    kinds = {"float32": FLOAT, "int64": INT64}
    encoded = (encoded_tensor(n, a, kinds[a.dtype.name]) for n, a in tensors.items())
    added = b"".join(encoded_field(GRAPH_TENSORS, tensor) for tensor in encoded)
    return model + encoded_field(MODEL_GRAPH, added)


def encoded_tensor(name: str, array: NDArray[Any], kind: int) -> bytes:
    """A TensorProto.

    Args:
        name: of it.
        array: its elements.
        kind: number of its type in onnx.proto.
    """
    sizes = b"".join(encoded_number(TENSOR_SHAPE, size) for size in array.shape)
    raw = array.astype(array.dtype.newbyteorder("<")).tobytes()
    named = encoded_field(TENSOR_NAME, name.encode())
    return sizes + encoded_number(TENSOR_TYPE, kind) + named + encoded_field(TENSOR_RAW, raw)


def encoded_field(number: int, content: bytes) -> bytes:
    """A field of a protobuf message that holds bytes, a text or another message."""
    return _encoded(number << 3 | _LENGTH) + _encoded(len(content)) + content


def encoded_number(number: int, value: int) -> bytes:
    """A field of a protobuf message that holds a whole number, at least 0."""
    return _encoded(number << 3 | _VARINT) + _encoded(value)


def _encoded(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
