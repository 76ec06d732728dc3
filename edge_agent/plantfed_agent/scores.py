"""How good a model is, as one number of which more is better."""

import numpy as np

from plantfed_agent.kernels.port import Kernel
from plantfed_agent.samples import Samples
from plantfed_shared.definition import FederationDefinition, Target
from plantfed_shared.parameters import Floats, Parameters


def score(
    kernel: Kernel, definition: FederationDefinition, parameters: Parameters, samples: Samples
) -> float:
    """Accuracy for classes and bce; minus the root mean square error for targets and autoencoders.

    The error is a mean over rows and targets, each target in its own unit; that of an autoencoder
    one over rows and inputs, in scaled units.

    Args:
        kernel: of the definition.
        definition: of the federation.
        parameters: of the whole model.
        samples: at least one.
    """
    outputs = kernel.outputs(parameters, samples.x)
    if definition.classes:
        return float((outputs.argmax(1) == samples.y).mean())
    if definition.loss.kind == "reconstruction":
        return -float(np.sqrt(2 * kernel.mean_loss(parameters, samples.x, samples.y)))
    if definition.loss.kind == "bce":
        return float(((outputs > 0) == (samples.y > 0.5)).mean())
    scales = np.array([t.scale for t in definition.targets])
    error = (outputs.astype(np.float64) - samples.y) * scales
    return -float(np.sqrt(np.mean(error * error)))


def row_errors(
    kernel: Kernel, definition: FederationDefinition, parameters: Parameters, samples: Samples
) -> Floats:
    """How wrong a model is on each sample: what :func:`score` is a mean of, and less is better.

    1 or 0 for classes, the part of wrong answers for bce, otherwise the loss.

    Args:
        kernel: of the definition.
        definition: of the federation.
        parameters: of the whole model.
        samples: any number.

    Returns:
        float32 (samples,).
    """
    if definition.metric != "accuracy":
        return kernel.row_losses(parameters, samples.x, samples.y)
    outputs = kernel.outputs(parameters, samples.x)
    if definition.classes:
        wrong: Floats = (outputs.argmax(1) != samples.y).astype(np.float32)
    else:
        wrong = ((outputs > 0) != (samples.y > 0.5)).mean(1, dtype=np.float32)
    return wrong


def in_target_units(scaled: Floats, targets: tuple[Target, ...]) -> Floats:
    """The inverse of the scaling of targets: scaled * scale + centre.

    Args:
        scaled: float32 (rows, targets).
        targets: in order.

    Returns:
        float32 (rows, targets), computed in float64.
    """
    scales = np.array([t.scale for t in targets])
    centres = np.array([t.centre for t in targets])
    values: Floats = (scaled * scales + centres).astype(np.float32)
    return values
