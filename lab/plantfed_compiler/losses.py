"""Losses as nodes: their value, and its gradient with respect to the outputs of the network.

The same as ``plantfed_agent.kernels.losses``: means over rows, or over rows and outputs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from plantfed_compiler.emitting import BATCH, FLOAT, Emitter, Known
from plantfed_shared.errors import ModelError
from plantfed_shared.model_manifest import (
    Array,
    LossOfModel,
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a loss is taken.

    Attributes:
        graph: to add to.
        outputs: of the network, (batch, ...).
        target: the right answers.
        rank: number of dimensions of the outputs.
        loss: which.
    """

    graph: Emitter
    outputs: str
    target: str
    rank: int
    loss: LossOfModel

    def size(self) -> str:
        """float32 (): rows times outputs."""
        return self.graph.op("Cast", self.graph.op("Size", self.outputs), to=FLOAT)

    def mean(self, values: str) -> str:
        """() over all elements."""
        return self.graph.op("ReduceMean", values, keepdims=0)

    def row_means(self, values: str) -> str:
        """(batch,)."""
        if self.rank == 1:
            return values
        axes = self.graph.integers(*range(1, self.rank))
        return self.graph.op("ReduceMean", values, axes, keepdims=0)


Parts = tuple[str, Callable[[], str]]
"""The loss of each element, and how to add the gradient of their sum."""


def _squares(at: Place) -> Parts:
    op = at.graph.op
    error = op("Sub", at.outputs, at.target)
    half = op("Mul", op("Mul", error, error), at.graph.number(0.5))
    return half, lambda: error


def _huber(at: Place) -> Parts:
    """H (e - h/2) with h = clip(e, -delta, delta), which is its gradient."""
    op, number, delta = at.graph.op, at.graph.number, at.loss.delta
    error = op("Sub", at.outputs, at.target)
    held = op("Clip", error, number(-delta), number(delta))
    value = op("Mul", held, op("Sub", error, op("Mul", held, number(0.5))))
    return value, lambda: held


def _binary_cross_entropy(at: Place) -> Parts:
    """log(1 + exp(x)) - t x."""
    op = at.graph.op
    value = op("Sub", op("Softplus", at.outputs), op("Mul", at.outputs, at.target))
    return value, lambda: op("Sub", op("Sigmoid", at.outputs), at.target)


ELEMENTWISE: dict[str, Callable[[Place], Parts]] = {
    "bce": _binary_cross_entropy,
    "huber": _huber,
    "mse": _squares,
    "reconstruction": _squares,
}


def mean_and_gradient(at: Place, factor: str) -> tuple[str, str]:
    """Add the mean loss, and its gradient with respect to the outputs times a factor.

    Args:
        at: where.
        factor: float32 ().

    Returns:
        Names of float32 (), and of float32 of the outputs' shape.
    """
    if at.loss.kind == "cross-entropy":
        return _cross_entropy(at, factor)
    op = at.graph.op
    values, gradient = ELEMENTWISE[at.loss.kind](at)
    return at.mean(values), op("Mul", gradient(), op("Div", factor, at.size()))


def _cross_entropy(at: Place, factor: str) -> tuple[str, str]:
    """In half as many nodes as onnxruntime makes of a SoftmaxCrossEntropyLoss."""
    op, integers = at.graph.op, at.graph.integers
    logarithms = op("LogSoftmax", at.outputs, axis=1)
    # unlike a OneHot, this refuses classes that do not exist
    column = op("Unsqueeze", at.target, integers(1))
    of_right = op("GatherElements", logarithms, column, axis=1)
    loss = op("Neg", op("ReduceMean", of_right, keepdims=0))
    zero_one = at.graph.constant(np.array([0, 1], np.float32))
    right = op("OneHot", at.target, integers(*at.graph.sizes(at.outputs, 1)), zero_one)
    rows = op("Cast", op("Size", at.target), to=FLOAT)
    wrong = op("Sub", op("Exp", logarithms), right)
    return loss, op("Mul", wrong, op("Div", factor, rows))


def rows_and_mean(at: Place, rows: str, mean: str) -> None:
    """Add the loss of each row, float32 (batch,), and their mean, float32 ()."""
    op = at.graph.op
    if at.loss.kind == "cross-entropy":
        inputs = [at.outputs, at.target]
        at.graph.ops("SoftmaxCrossEntropyLoss", inputs, [rows], reduction="none")
    else:
        values, _ = ELEMENTWISE[at.loss.kind](at)
        op("Identity", at.row_means(values), into=rows)
    op("ReduceMean", rows, into=mean, keepdims=0)


def target_of(loss: LossOfModel, outputs: Known, inputs: Array, name: str) -> Array | None:
    """What the right answers look like, without the batch; None where the input is the answer.

    Args:
        loss: which.
        outputs: of the network.
        inputs: of the network, without the batch.
        name: of the target.

    Raises:
        ModelError: the outputs do not fit the loss.
    """
    shape = tuple(d for d in (outputs.shape or ()) if d != BATCH and isinstance(d, int))
    said = f"({', '.join(['batch', *map(str, shape)])})"
    if len(shape) != len(outputs.shape or ()) - 1:
        raise ModelError(
            f"has outputs of shape {outputs.shape}; a loss needs (batch, ...)",
            hint="Give every sample one row of outputs",
        )
    if loss.kind == "cross-entropy":
        if len(shape) != 1 or shape[0] < 2:
            raise ModelError(
                f"has outputs of shape {said}; cross-entropy needs (batch, classes), 2 or more",
                hint="Use --loss bce for a single probability",
            )
        return Array(name=name, dtype="int64", shape=())
    if loss.kind == "reconstruction":
        if inputs.dtype != "float32" or shape != inputs.shape:
            raise ModelError(
                f"has outputs of shape {said} for inputs of shape (batch, "
                f"{', '.join(map(str, inputs.shape))}); reconstruction needs the same",
                hint="Use --loss mse with targets of your own",
            )
        return None
    return Array(name=name, shape=shape)
