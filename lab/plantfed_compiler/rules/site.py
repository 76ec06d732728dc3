"""What a rule is given: one node, and the gradient that reaches it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from onnx import NodeProto

from plantfed_compiler.emitting import Emitter, Refused, attributes_of


@dataclass(frozen=True)
class Site:
    """A node of the network whose inputs want their gradients.

    Attributes:
        graph: grows by what the rule adds; values of the network may be used in it.
        node: of the network; a rule may only give it further outputs.
        upstream: for each output the gradient of the loss with respect to it, None where the loss
            does not depend on it.
        wanted: for each input whether its gradient is needed.
    """

    graph: Emitter
    node: NodeProto
    upstream: Sequence[str | None]
    wanted: Sequence[bool]

    @property
    def gradient(self) -> str:
        """With respect to the first output, which is the only one the loss may depend on.

        Raises:
            Refused: the loss depends on another one.
        """
        first, *others = self.upstream
        if first is None or any(others):
            raise Refused("the loss depends on an output other than the first")
        return first

    @property
    def x(self) -> str:
        """The first input."""
        return str(self.node.input[0])

    @property
    def y(self) -> str:
        """The first output."""
        return str(self.node.output[0])

    @property
    def attributes(self) -> dict[str, Any]:
        """Of the node, by name."""
        return attributes_of(self.node)

    def input(self, position: int) -> str:
        """An input's name; empty where it is left out."""
        return str(self.node.input[position]) if position < len(self.node.input) else ""

    def wants(self, position: int) -> bool:
        """Whether an input is there and its gradient needed."""
        return position < len(self.wanted) and self.wanted[position]

    def output(self, position: int) -> str:
        """An output's name; the node is made to give it."""
        while len(self.node.output) <= position:
            self.node.output.append("")
        if not self.node.output[position]:
            self.node.output[position] = self.graph.fresh(f"{self.node.op_type}_output")
        return str(self.node.output[position])

    def only_first(self, gradient: str) -> list[str | None]:
        """The gradient of the first input; the others have none."""
        return [gradient]


Rule = Callable[[Site], Sequence[str | None]]
"""Gives the gradient for each input; those that are left out at the end have none.

Raises:
    Refused: the node has no gradient in this form.
"""
