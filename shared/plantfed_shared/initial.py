"""The parameters every member of a federation begins with."""

import numpy as np

from plantfed_shared.definition import FederationDefinition
from plantfed_shared.parameters import Parameters


def initial_parameters(definition: FederationDefinition) -> Parameters:
    """Uniform(-k, k) with k = 1/sqrt(inputs of the layer), equal on all machines.

    Drawn as float64 in the order of the specification and rounded to float32.  ``RandomState`` on
    purpose: NumPy froze its streams (NEP 19), so that two machines with different NumPy versions
    draw the same numbers; those of ``Generator`` may change.

    Returns:
        One float32 array per parameter, in the order of the specification.

    Raises:
        ValueError: the model is compiled: its artefact has them.
    """
    layers = definition.layer_shapes()
    rng = np.random.RandomState(definition.model.seed)
    values: Parameters = []
    for n_in, n_out in layers:
        bound = 1 / np.sqrt(n_in)
        values.append(rng.uniform(-bound, bound, (n_in, n_out)).astype(np.float32))
        values.append(rng.uniform(-bound, bound, n_out).astype(np.float32))
    return values
