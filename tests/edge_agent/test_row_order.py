from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from plantfed_agent.row_order import row_order

arguments = st.tuples(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["press-07", "press-08", "p"]),
    st.integers(0, 2**40),
    st.sampled_from([0, 1]),
    st.integers(1, 200),
    st.integers(1, 4),
    st.integers(1, 60),
)


@given(arguments)
@settings(deadline=None)
def test_every_row_occurs_once_per_epoch(given_arguments):
    *_, n_rows, epochs, batch = given_arguments
    steps = list(row_order(*given_arguments))
    per_epoch = -(-n_rows // batch)
    assert len(steps) == epochs * per_epoch
    bounds = range(0, len(steps) + 1, per_epoch)
    for first, end in pairwise(bounds):
        epoch = steps[first:end]
        assert sorted(np.concatenate(epoch).tolist()) == list(range(n_rows))
        assert all(len(step) == batch for step in epoch[:-1])


@given(arguments)
@settings(deadline=None)
def test_is_a_function_of_its_arguments(given_arguments):
    for one, other in zip(row_order(*given_arguments), row_order(*given_arguments), strict=True):
        assert one.dtype == np.int64
        np.testing.assert_array_equal(one, other)


def test_every_argument_matters():
    variants = [(1, "a", 1, 0), (2, "a", 1, 0), (1, "b", 1, 0), (1, "a", 2, 0), (1, "a", 1, 1)]
    orders = {tuple(next(row_order(*who, 50, 1, 50)).tolist()) for who in variants}
    assert len(orders) == len(variants)


def test_is_the_same_on_every_machine_and_version():
    """Frozen: a change of these numbers would make a repeated round another round."""
    order = next(row_order(3, "press-07", 12, 1, 10, 1, 10))
    assert order.tolist() == [1, 2, 0, 5, 4, 3, 8, 9, 7, 6]
