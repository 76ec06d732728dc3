"""Does a compiled step follow its loss?  The self-test of an artefact, and finite differences."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plantfed_compiler.network import Network
from plantfed_compiler.tracing import example_rows
from plantfed_shared import step_names
from plantfed_shared.errors import ModelError
from plantfed_shared.model_manifest import (
    Array,
    LossOfModel,
)
from plantfed_shared.onnx_session import Arrays, OnnxSession
from plantfed_shared.parameters import Floats

ROWS = 4
DIRECTIONS = 3
LARGE_RATE = 1024.0
"""With it p - p' has the digits of the gradient and not those of p."""

STEPS = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5)
"""Lengths to go along a direction, in parts of each parameter.

Long ones are for networks whose loss hardly changes, where float32 has no digits for short ones;
short ones for those with thousands of ReLU and MaxPool, that soon pass a kink.
"""

LARGEST_DIFFERENCE = 0.03
"""Between slope and finite difference, in parts of the slope along all parameters together."""


@dataclass(frozen=True)
class Probe:
    """A batch, and how to get loss and gradients of it.

    Attributes:
        session: of a step of all parameters.
        feeds: the batch and everything else but parameters.
        parameters: where to look.
    """

    session: OnnxSession
    feeds: Arrays
    parameters: dict[str, Floats]

    def loss(self, parameters: dict[str, Floats]) -> float:
        """Of the batch at other parameters."""
        found = self.session.run({**self.feeds, **parameters}, [step_names.LOSS])
        return float(found[step_names.LOSS])

    def gradients(self) -> dict[str, Floats]:
        """Of the loss, by parameter."""
        names = {name: step_names.after(name) for name in self.parameters}
        found = self.session.run({**self.feeds, **self.parameters}, list(names.values()))
        # the quotient of two numbers of the same size loses nothing
        rate = np.float64(LARGE_RATE)
        return {
            name: ((self.parameters[name].astype(np.float64) - found[after]) / rate).astype("f4")
            for name, after in names.items()
        }


def probe(
    session: OnnxSession,
    network: Network,
    loss: LossOfModel,
    target: Array | None,
    classes: int,
) -> Probe:
    """A batch of :data:`ROWS` rows for a step of all parameters.

    Args:
        session: of the step.
        network: with its initial parameters.
        loss: what is minimised.
        target: of the network.
        classes: of cross-entropy.
    """
    feeds: Arrays = {network.input: example_rows(network, ROWS), **network.statistics}
    if target is not None:
        feeds[target.name] = _example_target(loss, target, classes)
    zero = np.zeros((), np.float32)
    for name in session.inputs:
        if name in (step_names.HEAD_PULL, step_names.BODY_PULL, step_names.MOMENTUM):
            feeds[name] = zero
    feeds[step_names.LEARNING_RATE] = np.array(LARGE_RATE, np.float32)
    for name, parameter in network.parameters.items():
        for role in (step_names.anchor, step_names.dual, step_names.velocity):
            if role(name) in session.inputs:
                feeds[role(name)] = np.zeros_like(parameter)
    return Probe(session, feeds, dict(network.parameters))


def _example_target(loss: LossOfModel, target: Array, classes: int) -> NDArray[Any]:
    rng = np.random.RandomState(ROWS + 1)
    if loss.kind == "cross-entropy":
        return rng.randint(0, classes, ROWS).astype(np.int64)
    drawn = rng.standard_normal((ROWS, *target.shape))
    return (drawn > 0 if loss.kind == "bce" else drawn).astype(np.float32)


def refuse_wrong_gradients(at: Probe, gradients: dict[str, Floats], where: str) -> float:
    """Compare slopes along random directions with finite differences.

    Returns:
        The largest relative difference.

    Raises:
        ModelError: the loss is not finite, or a gradient is not its slope.
    """
    loss = at.loss(at.parameters)
    if not np.isfinite(loss):
        raise ModelError(
            f"has a loss of {loss} for a batch of random numbers",
            where=where,
            hint="Look for logarithms, divisions and roots without an epsilon",
        )
    if not all(np.isfinite(g).all() for g in gradients.values()):
        raise ModelError(
            "has a gradient that is not finite for a batch of random numbers",
            where=where,
            hint="Look at its weights, and for roots and divisions without an epsilon",
        )
    # losses far away may overflow; some step is short enough
    with np.errstate(over="ignore", invalid="ignore"):
        worst = max(_difference(at, gradients, seed) for seed in range(DIRECTIONS))
    if not worst <= LARGEST_DIFFERENCE:
        raise ModelError(
            f"is compiled wrongly: its loss has another slope than its gradient, by {worst:.1%}",
            where=where,
            hint="Report this with the model file",
        )
    return worst


def _difference(at: Probe, gradients: dict[str, Floats], seed: int) -> float:
    """Along one direction, at the step length that agrees best."""
    rng = np.random.RandomState(seed)
    direction = {n: _direction(p, gradients[n], rng) for n, p in at.parameters.items()}
    slope = sum(float(np.vdot(gradients[n], d)) for n, d in direction.items())
    found = np.abs([_finite(at, direction, step) - slope for step in STEPS])
    # one that is no number agrees with nothing
    return float(np.nan_to_num(found, nan=np.inf).min()) / max(abs(slope), 1e-12)


def _direction(parameter: Floats, gradient: Floats, rng: np.random.RandomState) -> Floats:
    """As long as the parameter, half at random and half along the gradient.

    At random alone it would be nearly level, and the difference of two losses all rounding.
    """
    drawn = rng.standard_normal(parameter.shape)
    uphill = gradient * rng.uniform(0.5, 1.5, parameter.shape)
    parts = [part / max(float(np.linalg.norm(part)), 1e-30) for part in (drawn, uphill)]
    length = max(float(np.linalg.norm(parameter.astype(np.float64))), 1e-3)
    mixed: Floats = ((parts[0] + parts[1]) * length).astype(np.float32)
    return mixed


def _finite(at: Probe, direction: dict[str, Floats], length: float) -> float:
    ends = [
        at.loss({n: p + np.float32(s * length) * direction[n] for n, p in at.parameters.items()})
        for s in (1, -1)
    ]
    return (ends[0] - ends[1]) / (2 * length)
