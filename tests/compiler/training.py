"""Forty steps in each phase, the same numbers in torch and in compiled graphs.  No torch here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

STEPS = 40
BATCH = 8
LEARNING_RATE = 0.05
PULL = 0.2
MOMENTUM = 0.9

Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Shape:
    """What a recorded architecture looks like from outside.

    Attributes:
        sample: shape of one row of x.
        loss: kind of its loss.
        personal: shell patterns of its head.
        outputs: shape of one row of outputs.
    """

    sample: tuple[int, ...]
    loss: str
    personal: tuple[str, ...]
    outputs: tuple[int, ...] = (3,)


ARCHITECTURES = {
    "mlp": Shape((9,), "cross-entropy", ("4.*",)),
    "mlp-norm": Shape((9,), "huber", ("6.*",), (2,)),
    "cnn1d": Shape((3, 16), "cross-entropy", ("7.*",)),
    "separable": Shape((3, 16), "cross-entropy", ("head.*",)),
    "cnn2d": Shape((3, 8, 8), "cross-entropy", ("7.*", "9.*")),
    "residual": Shape((2, 8, 8), "cross-entropy", ("head.*",)),
    "gru": Shape((7, 4), "mse", ("head.*",), (2,)),
    "lstm": Shape((7, 4), "cross-entropy", ("head.*",)),
    "transformer": Shape((5, 8), "cross-entropy", ("head.*",)),
    "autoencoder": Shape((2, 8, 8), "reconstruction", ("decoder.2.*",), (2, 8, 8)),
}
"""The ten of issue E."""

EXPORTERS = ("dynamo", "script")


class Pulls(NamedTuple):
    """Where the pull goes, and the dual, by parameter."""

    anchor: Tensors
    dual: Tensors


def pulls(name: str, parameters: Tensors) -> Pulls:
    rng = np.random.RandomState(crc32(name.encode()) % 2**31)
    drawn = [
        {n: (scale * rng.standard_normal(p.shape)).astype("f4") for n, p in parameters.items()}
        for scale in (0.1, 0.02)
    ]
    return Pulls({n: parameters[n] + d for n, d in drawn[0].items()}, drawn[1])


def batch(name: str, step: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """x and the right answers of one step."""
    shape = ARCHITECTURES[name]
    rng = np.random.RandomState(1000 + step)
    x = rng.standard_normal((BATCH, *shape.sample)).astype(np.float32)
    if shape.loss == "cross-entropy":
        return x, rng.randint(0, shape.outputs[0], BATCH).astype(np.int64)
    if shape.loss == "reconstruction":
        return x, x
    return x, rng.standard_normal((BATCH, *shape.outputs)).astype(np.float32)


def relative_difference(found: Tensors, expected: Tensors, names: Sequence[str]) -> float:
    """Largest over tensors, in parts of each tensor's largest element."""
    return max(
        float(np.abs(found[n] - expected[n]).max() / max(np.abs(expected[n]).max(), 1e-3))
        for n in names
    )
