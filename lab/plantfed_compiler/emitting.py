"""Growing a graph node by node, with what is known of the values it starts from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from plantfed_shared.step_names import RESERVED

Dim = int | str
"""A size: a number, or ``batch*3`` for what grows with the batch."""

BATCH = "batch"

FLOAT = TensorProto.FLOAT
INT64 = TensorProto.INT64


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a value before it is run.

    Attributes:
        dtype: of its elements.
        shape: its dimensions; None where they follow no rule in the batch.
        constant: its elements, where neither parameters nor data nor the batch can change them.
    """

    dtype: np.dtype[Any]
    shape: tuple[Dim, ...] | None
    constant: NDArray[Any] | None = None


class Refused(Exception):
    """A node has no gradient in this form.

    Args:
        why: in a few words.
        advice: what to do about it.
    """

    def __init__(self, why: str, advice: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.advice = advice


class Emitter:
    """Nodes and constants that are added to a graph.

    Args:
        known: values of the graph by name.
    """

    def __init__(self, known: Mapping[str, Known]) -> None:
        self._known = known
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}
        self._names: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._numbers = count(1)

    def nested(self) -> "Emitter":
        """For the graph within a node: its own nodes, but names and constants of this one."""
        inner = Emitter(self._known)
        inner.constants, inner._names, inner._numbers = self.constants, self._names, self._numbers
        return inner

    # ------------------------------------------------------------------ adding

    def fresh(self, what: str) -> str:
        """A name no other value has."""
        return f"{RESERVED}{what.lower()}_{next(self._numbers)}"

    def op(self, operator: str, *inputs: str, into: str = "", **attributes: Any) -> str:
        """Add a node with one output and return that; an empty input is left out.

        Args:
            operator: of ``ai.onnx``.
            inputs: names of values.
            into: name of the output; one is made up.
            attributes: of the node; those that are None are left out.
        """
        return self.ops(operator, inputs, [into or self.fresh(operator)], **attributes)[0]

    def ops(
        self, operator: str, inputs: Sequence[str], outputs: int | list[str], **attributes: Any
    ) -> list[str]:
        """Add a node with any number of outputs and return those."""
        if isinstance(outputs, int):
            outputs = [self.fresh(operator) for _ in range(outputs)]
        given = {name: value for name, value in attributes.items() if value is not None}
        self.nodes.append(
            helper.make_node(operator, list(inputs), outputs, name=outputs[0], **given)
        )
        return outputs

    def constant(self, values: NDArray[Any]) -> str:
        """A constant; equal ones are there once."""
        key = (values.dtype.str, values.shape, values.tobytes())
        if key not in self._names:
            name = self.fresh("constant")
            self._names[key] = name
            self.constants[name] = numpy_helper.from_array(values, name)
        return self._names[key]

    def number(self, value: float) -> str:
        """A float32 scalar."""
        return self.constant(np.array(value, np.float32))

    def integers(self, *values: int) -> str:
        """int64 (n,)."""
        return self.constant(np.array(values, np.int64))

    def taken_back_product(self, name: str) -> NodeProto | None:
        """Remove the Gemm that makes a value nothing else takes; None where it is none such."""
        makers = [node for node in self.nodes if name in node.output]
        takers = sum(node.input[:].count(name) for node in self.nodes)
        if takers or not makers or makers[0].op_type != "Gemm" or len(makers[0].input) != 2:
            return None
        self.nodes.remove(makers[0])
        return makers[0]

    def added_to(self, product: NodeProto, value: str, into: str) -> None:
        """Add a Gemm back that adds its product to a value of the same shape."""
        self.op("Gemm", *product.input, value, into=into, **attributes_of(product))

    # ------------------------------------------------------------------ looking up

    def shape(self, name: str) -> tuple[Dim, ...]:
        """Of a value of the graph.

        Raises:
            Refused: it depends on the data.
        """
        found = self._known[name].shape
        if found is None:
            raise Refused(
                f"the shape of {name!r} depends on the data",
                "Use operators whose shapes follow from the batch alone",
            )
        return found

    def rank(self, name: str) -> int:
        """Number of dimensions."""
        return len(self.shape(name))

    def sizes(self, name: str, start: int = 0, stop: int | None = None) -> list[int]:
        """Dimensions that must not depend on the batch.

        Raises:
            Refused: one does.
        """
        found = self.shape(name)[start:stop]
        fixed = [d for d in found if isinstance(d, int)]
        if len(fixed) != len(found):
            raise Refused(f"dimensions {list(found)} of {name!r} depend on the batch")
        return fixed

    def value(self, name: str, what: str) -> NDArray[Any]:
        """Elements of a constant.

        Args:
            name: of the value.
            what: what it is to the node, for the error.

        Raises:
            Refused: it is none.
        """
        found = self._known[name].constant
        if found is None:
            raise Refused(f"its {what} are no constants", f"Make its {what} constants")
        return found

    def is_float(self, name: str) -> bool:
        """Whether a value is float32."""
        return bool(self._known[name].dtype == np.float32)

    # ------------------------------------------------------------------ often needed

    def sum(self, value: str, axes: Sequence[int], *, keep: bool) -> str:
        """Over some axes; the value itself for none."""
        if not axes:
            return value
        return self.op("ReduceSum", value, self.integers(*axes), keepdims=int(keep))

    def unbroadcast(self, gradient: str, given: Sequence[Dim], wanted: Sequence[Dim]) -> str:
        """Sum a gradient over what broadcasting repeated.

        Args:
            gradient: of shape ``given``.
            given: shape after broadcasting.
            wanted: shape before.
        """
        more = len(given) - len(wanted)
        repeated = [
            more + axis for axis, size in enumerate(wanted) if size == 1 and given[more + axis] != 1
        ]
        summed = self.sum(gradient, repeated, keep=True)
        return self.sum(summed, range(more), keep=False)

    def as_shape_of(self, gradient: str, value: str) -> str:
        """Reshape a gradient to the shape of a value of the graph."""
        shape = self.shape(value)
        if sum(not isinstance(size, int) for size in shape) <= 1 and 0 not in shape:
            fixed = [size if isinstance(size, int) else -1 for size in shape]
            return self.op("Reshape", gradient, self.integers(*fixed))
        return self.op("Reshape", gradient, self.op("Shape", value))

    def swapped(self, value: str, rank: int) -> str:
        """The last two of ``rank`` axes exchanged."""
        order = list(range(rank))
        order[-1], order[-2] = order[-2], order[-1]
        return self.op("Transpose", value, perm=order)

    def n_elements(self, value: str, axes: Sequence[int]) -> str:
        """float32 (): the number of elements along some axes of a value of the graph."""
        shape = self.shape(value)
        fixed = [size for size in (shape[axis] for axis in axes) if isinstance(size, int)]
        if len(fixed) == len(axes):
            return self.number(float(np.prod(fixed)))
        sizes = self.op("Gather", self.op("Shape", value), self.integers(*axes))
        product = self.op("ReduceProd", sizes, keepdims=0)
        return self.op("Cast", product, to=FLOAT)


def inputs_that_count(node: NodeProto) -> list[str]:
    """Names of what the outputs' elements follow from: of the second of CastLike only its type."""
    named = node.input[:1] if node.op_type == "CastLike" else node.input
    return [name for name in named if name]


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """By name; text as str."""
    found = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return {n: v.decode() if isinstance(v, bytes) else v for n, v in found.items()}
