"""Losses: their value and their gradient with respect to the outputs of the network."""

from collections.abc import Callable

import numpy as np

from plantfed_agent.kernels.port import Truth
from plantfed_shared.parameters import Floats
from plantfed_shared.section import LossKind

LossFunction = Callable[[Floats, Truth], tuple[float, Floats]]
"""(outputs (rows, outputs), right answers) -> (mean loss, its gradient (rows, outputs))."""


def softmax(logits: Floats) -> Floats:
    """Probabilities of the classes.

    Args:
        logits: float32 (rows, classes).

    Returns:
        float32 (rows, classes); each row sums to 1.
    """
    # the largest logit is taken off so that exp cannot overflow
    probabilities: Floats = np.exp(logits - logits.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    return probabilities


def sigmoid(logits: Floats) -> Floats:
    """Probabilities of yes.

    Args:
        logits: float32, any shape.

    Returns:
        float32, the same shape.
    """
    # of a large negative logit exp overflows, and 1 / inf is the 0 it should be
    with np.errstate(over="ignore"):
        return (1 / (1 + np.exp(-logits))).astype(np.float32)


def cross_entropy(logits: Floats, classes: Truth) -> tuple[float, Floats]:
    """Softmax cross-entropy: the mean over rows of -log p(class).

    Args:
        logits: float32 (rows, classes).
        classes: int64 (rows,), class numbers.

    Returns:
        The loss, and its gradient (softmax - one_hot) / rows.
    """
    n_rows = len(classes)
    shifted = logits - logits.max(1, keepdims=True)
    gradient: Floats = np.exp(shifted)
    totals = gradient.sum(1, keepdims=True)
    right = np.arange(n_rows), classes
    loss = np.mean(np.log(totals[:, 0]) - shifted[right])
    gradient /= totals
    gradient[right] -= 1
    gradient /= n_rows
    return float(loss), gradient


def half_squared_error(outputs: Floats, targets: Truth) -> tuple[float, Floats]:
    """The mean over rows and outputs of (output - target)^2 / 2.

    Args:
        outputs: float32 (rows, targets).
        targets: float32 (rows, targets).

    Returns:
        The loss, and its gradient (output - target) / (rows * targets).
    """
    error: Floats = outputs - targets
    loss = float(np.mean(error * error)) / 2
    error /= error.size
    return loss, error


def huber(delta: float) -> LossFunction:
    """Huber's loss (Ann. Math. Statist. 35, 1964, p. 73): square within delta, linear beyond.

    The mean over rows and outputs of e^2/2 for |e| <= delta and delta (|e| - delta/2) otherwise;
    its gradient is clip(e, -delta, delta) / (rows * targets).
    """

    def of(outputs: Floats, targets: Truth) -> tuple[float, Floats]:
        error: Floats = outputs - targets
        held: Floats = np.clip(error, -delta, delta)
        loss = float(np.mean(held * (error - held / 2)))
        held /= held.size
        return loss, held

    return of


def loss_function(kind: LossKind, delta: float) -> LossFunction:
    """The loss of this kind.

    Raises:
        ValueError: it has no form in numpy.
    """
    match kind:
        case "cross-entropy":
            return cross_entropy
        case "mse":
            return half_squared_error
        case "huber":
            return huber(delta)
        case _:
            raise ValueError(f"the loss {kind!r} has no form in numpy")
