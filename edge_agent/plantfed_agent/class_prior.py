"""The personal part of a machine in mode ``auto``: which classes occur here.

Most of what a personal head learns where machines see different classes is how often each occurs.
So the network is one for all, and the machine adds to its logits, in training and in use,

    a_c = log min(4 C q_c, 1),     q_c = (count_c + eps) / sum (count + eps)

from its own counts: 0 for every class with at least a quarter of its even share, so that a class is
never argued up, only down.  These C numbers never leave the machine and cost no bytes; with it in
training, the shared network need not learn what is rare here.
"""

import numpy as np

from plantfed_agent.kernels.port import Truth
from plantfed_shared.definition import FederationDefinition
from plantfed_shared.parameters import Floats, Parameters

UNSEEN = 0.1
"""eps: rows that each class counts for beside its own."""
ENOUGH = 0.25
"""Of the even share 1 / C."""


def class_prior(definition: FederationDefinition, y: Truth) -> Floats | None:
    """What this machine adds to its logits; None where there are no classes.

    Args:
        definition: of the federation.
        y: int64 (rows,), class numbers of its training rows.

    Returns:
        float32 (classes,), none above 0.
    """
    n_classes = len(definition.classes)
    if not n_classes:
        return None
    counts = np.bincount(y, minlength=n_classes) + UNSEEN
    frequencies = counts / counts.sum()
    prior: Floats = np.log(np.minimum(frequencies * n_classes / ENOUGH, 1)).astype(np.float32)
    return prior


def with_prior(parameters: Parameters, prior: Floats | None) -> Parameters:
    """The network that gives the logits with the prior added: it is part of the last bias.

    Args:
        parameters: of the whole model, in order; not changed.
        prior: float32 (classes,), or None for none.
    """
    if prior is None:
        return parameters
    return [*parameters[:-1], parameters[-1] + prior]
