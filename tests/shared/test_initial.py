"""The initial parameters: those of the executable reference, equal on all machines."""

from pathlib import Path

import numpy as np
import pytest

from plantfed_shared.definition import FederationDefinition
from plantfed_shared.initial import initial_parameters
from plantfed_shared.parameters import flatten

GOLDEN = Path(__file__).parents[1] / "golden" / "tep_seed0.npz"


def perceptron(n_inputs: int, hidden: list[int], n_classes: int, seed: int) -> FederationDefinition:
    return FederationDefinition.model_validate(
        {
            "federation": "reactors",
            "model": {"hidden": hidden, "seed": seed},
            "loss": {"kind": "cross-entropy"},
            "inputs": [{"name": f"x{i}"} for i in range(n_inputs)],
            "classes": [f"c{i}" for i in range(n_classes)],
        }
    )


def test_equal_to_the_reference():
    with np.load(GOLDEN) as golden:
        expected = golden["init"]
    values = initial_parameters(perceptron(52, [64, 32], 22, seed=0))
    assert all(v.dtype == np.float32 for v in values)
    np.testing.assert_array_equal(flatten(values), expected)


@pytest.mark.parametrize("hidden", [[], [3], [3, 4, 5]])
def test_shapes_are_those_of_the_specification(hidden):
    definition = perceptron(2, hidden, 2, seed=1)
    specification = definition.parameter_specification()
    shapes = [v.shape for v in initial_parameters(definition)]
    assert shapes == [p.shape for p in specification.parameters]


def test_only_the_seed_tells_two_draws_apart():
    same = [flatten(initial_parameters(perceptron(2, [3], 2, seed))) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(same[0], same[1])
    assert not np.any(same[0] == same[2])
