"""Parameters: what is shared, what is personal, and one flat vector of them."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from plantfed_shared.parameters import (
    Parameter,
    ParameterSpecification,
    flatten,
    unflatten,
)

SHAPES = {
    "layer1.weight": (3, 2),
    "layer1.bias": (2,),
    "layer2.weight": (2, 1),
    "layer2.bias": (1,),
}

shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)
specifications = st.lists(st.tuples(shapes, st.booleans()), max_size=6).map(
    lambda drawn: ParameterSpecification(
        tuple(Parameter(f"p{i}", shape, personal) for i, (shape, personal) in enumerate(drawn))
    )
)


def numbered(specification):
    """Every element has a value of its own."""
    first, values = 0, []
    for parameter in specification.parameters:
        numbers = np.arange(first, first + parameter.size, dtype=np.float32)
        values.append(numbers.reshape(parameter.shape))
        first += parameter.size
    return values


def assert_equal(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert a.shape == b.shape
        np.testing.assert_array_equal(a, b)


@given(specifications)
def test_merge_is_the_inverse_of_split(specification):
    values = numbered(specification)
    shared, personal = specification.split(values)
    assert [v.shape for v in shared] == [p.shape for p in specification.shared]
    assert [v.shape for v in personal] == [p.shape for p in specification.personal]
    assert_equal(specification.merge(shared, personal), values)


@given(specifications)
def test_unflatten_is_the_inverse_of_flatten(specification):
    values = numbered(specification)
    vector = flatten(values)
    assert vector.dtype == np.float32
    # row by row, tensor after tensor: the numbers are in their order
    np.testing.assert_array_equal(vector, np.arange(vector.size))
    assert_equal(unflatten(vector, specification.parameters), values)


@given(specifications, st.integers(-3, 3))
def test_a_vector_of_another_length_does_not_fit(specification, more):
    size = sum(p.size for p in specification.parameters)
    assume(more != 0 and size + more >= 0)
    with pytest.raises(ValueError, match="does not fit"):
        unflatten(np.zeros(size + more, dtype=np.float32), specification.parameters)


def test_unflattened_tensors_are_views():
    specification = ParameterSpecification.from_shapes(SHAPES, [])
    vector = np.zeros(11, dtype=np.float32)
    unflatten(vector, specification.parameters)[1][0] = 7
    assert vector[6] == 7


@pytest.mark.parametrize(
    ("patterns", "personal"),
    [
        ([], []),
        (["layer2.*"], ["layer2.weight", "layer2.bias"]),
        (["*.bias"], ["layer1.bias", "layer2.bias"]),
        (["layer?.bias", "layer[2].weight"], ["layer1.bias", "layer2.weight", "layer2.bias"]),
    ],
)
def test_patterns_choose_what_is_personal(patterns, personal):
    specification = ParameterSpecification.from_shapes(SHAPES, patterns)
    assert [p.name for p in specification.parameters] == list(SHAPES)
    assert [p.name for p in specification.personal] == personal
    assert [p.name for p in specification.shared] == [n for n in SHAPES if n not in personal]


@pytest.mark.parametrize("pattern", ["layer3.*", "LAYER1.*", "layer1", ""])
def test_a_pattern_without_a_match_is_refused(pattern):
    with pytest.raises(ValueError, match="matches no parameter; there are: layer1"):
        ParameterSpecification.from_shapes(SHAPES, ["layer2.*", pattern])


def test_everything_may_be_personal():
    specification = ParameterSpecification.from_shapes(SHAPES, ["*"])
    assert specification.shared == ()
    assert [p.name for p in specification.personal] == list(SHAPES)
