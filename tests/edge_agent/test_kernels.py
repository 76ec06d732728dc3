import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.edge_agent.federations import classifier, random_samples, regressor

from plantfed_agent.kernels import Kernel, kernel_for
from plantfed_agent.kernels.losses import cross_entropy, half_squared_error, huber, softmax
from plantfed_shared.definition import FederationDefinition
from plantfed_shared.initial import initial_parameters


def in_float64(definition: FederationDefinition, n_rows: int, seed: int) -> tuple[list, list]:
    """Parameters and (x, y) as float64: the kernels keep the type they are given."""
    rng = np.random.default_rng(seed)
    shapes = [p.shape for p in definition.parameter_specification().parameters]
    samples = random_samples(definition, n_rows, seed)
    y = samples.y if definition.classes else samples.y.astype(np.float64)
    return [rng.normal(size=shape) for shape in shapes], [samples.x.astype(np.float64), y]


def slopes(kernel: Kernel, parameters: list, x, y, index: int) -> np.ndarray:
    """Central differences of the loss, element by element of one parameter."""
    found = np.empty(parameters[index].shape)
    for at in np.ndindex(found.shape):
        losses = []
        for step in (1e-6, -1e-6):
            moved = [p.copy() for p in parameters]
            moved[index][at] += step
            losses.append(kernel.loss_and_gradient(moved, x, y, ())[0])
        found[at] = (losses[0] - losses[1]) / 2e-6
    return found


@given(
    hidden=st.lists(st.integers(1, 4), max_size=3),
    activation=st.sampled_from(["relu", "tanh"]),
    loss=st.sampled_from(["cross-entropy", "mse", "huber"]),
    n_rows=st.integers(1, 6),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=40, deadline=None)
def test_gradients_equal_finite_differences(hidden, activation, loss, n_rows, seed):
    make = classifier if loss == "cross-entropy" else regressor
    definition = make(
        model={"hidden": hidden, "activation": activation},
        loss={"kind": loss, "delta": 0.7},
        personal=[],
    )
    kernel = kernel_for(definition)
    parameters, (x, y) = in_float64(definition, n_rows, seed)
    names = [p.name for p in definition.parameter_specification().parameters]
    _, gradients = kernel.loss_and_gradient(parameters, x, y, names)
    for index, gradient in enumerate(gradients):
        expected = slopes(kernel, parameters, x, y, index)
        assert gradient == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    "wanted",
    [("layer3.bias",), ("layer3.weight", "layer3.bias"), ("layer1.bias", "layer3.weight"), ()],
)
def test_gives_the_wanted_gradients_in_the_order_of_the_specification(wanted):
    definition = classifier()
    kernel, samples = kernel_for(definition), random_samples(definition, 9)
    parameters = initial_parameters(definition)
    names = [p.name for p in definition.parameter_specification().parameters]
    loss, everything = kernel.loss_and_gradient(parameters, samples.x, samples.y, names)
    for asked in (wanted, frozenset(wanted), tuple(reversed(wanted))):
        same_loss, some = kernel.loss_and_gradient(parameters, samples.x, samples.y, asked)
        assert same_loss == loss
        expected = [g for name, g in zip(names, everything, strict=True) if name in wanted]
        assert len(some) == len(expected)
        for gradient, other in zip(some, expected, strict=True):
            np.testing.assert_array_equal(gradient, other)


def test_goes_back_no_further_than_the_lowest_wanted_layer():
    definition = classifier()
    samples = random_samples(definition, 4)
    kernel = kernel_for(definition)
    parameters = initial_parameters(definition)
    used: list[str] = []

    class Watched(np.ndarray):
        @property
        def T(self):
            used.append("transposed")
            return super().T

    watched = [p.view(Watched) for p in parameters]
    kernel.loss_and_gradient(watched, samples.x, samples.y, ["layer3.bias"])
    assert not used
    kernel.loss_and_gradient(watched, samples.x, samples.y, ["layer2.bias"])
    assert used


def test_refuses_a_name_that_is_no_parameter():
    definition = classifier()
    samples = random_samples(definition, 4)
    with pytest.raises(ValueError, match=r"'layer9.bias' is not a parameter"):
        kernel_for(definition).loss_and_gradient(
            initial_parameters(definition), samples.x, samples.y, ["layer9.bias"]
        )


@pytest.mark.parametrize("definition", [classifier(), regressor()])
def test_everything_stays_float32_and_parameters_untouched(definition):
    samples = random_samples(definition, 8)
    parameters = initial_parameters(definition)
    before = [p.copy() for p in parameters]
    kernel = kernel_for(definition)
    names = [p.name for p in definition.parameter_specification().parameters]
    _, gradients = kernel.loss_and_gradient(parameters, samples.x, samples.y, names)
    assert {g.dtype for g in gradients} == {np.dtype(np.float32)}
    assert kernel.outputs(parameters, samples.x).dtype == np.float32
    for parameter, original in zip(parameters, before, strict=True):
        np.testing.assert_array_equal(parameter, original)


def test_cross_entropy_of_equal_logits_is_log_of_the_number_of_classes():
    loss, gradient = cross_entropy(np.zeros((2, 4), np.float32), np.array([0, 3]))
    assert loss == pytest.approx(np.log(4))
    np.testing.assert_allclose(gradient[0], np.array([-0.75, 0.25, 0.25, 0.25]) / 2)


def test_cross_entropy_survives_huge_logits():
    loss, gradient = cross_entropy(np.array([[1e4, -1e4]], np.float32), np.array([1]))
    assert loss == pytest.approx(2e4)
    np.testing.assert_allclose(gradient, [[1, -1]])
    np.testing.assert_allclose(softmax(np.array([[1e4, -1e4]], np.float32)), [[1, 0]])


def test_half_squared_error_by_hand():
    loss, gradient = half_squared_error(np.float32([[1, 2], [3, 4]]), np.float32([[0, 2], [3, 2]]))
    assert loss == (0.5 + 2.0) / 4
    np.testing.assert_array_equal(gradient, [[0.25, 0], [0, 0.5]])


def test_huber_is_half_squared_within_delta_and_linear_beyond():
    outputs, targets = np.float32([[0.5], [3.0]]), np.float32([[0], [0]])
    loss, gradient = huber(1.0)(outputs, targets)
    assert loss == pytest.approx((0.125 + 2.5) / 2)
    np.testing.assert_array_equal(gradient, [[0.25], [0.5]])
