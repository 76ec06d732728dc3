"""Steps whose parameters stay in onnxruntime: the same numbers as with parameters handed over."""

from collections.abc import Mapping

import numpy as np
import pytest
from tests.compiler.differentiation import whole_step
from tests.compiler.networks import Net, model

from plantfed_shared import step_names
from plantfed_shared.errors import ModelError
from plantfed_shared.onnx_session import Arrays, OnnxSession, Stepper

STEPS = 7


class Case:
    """A step of a small network with everything it is fed."""

    def __init__(self) -> None:
        at, _ = whole_step(model(Net("c = Gemm(a, v) y = Tanh(c)", given={"v": (6, 5)})), "mse")
        self.session: OnnxSession = at.session
        rng = np.random.RandomState(3)

        def drawn(like: np.ndarray) -> np.ndarray:
            return rng.standard_normal(like.shape).astype(np.float32)

        self.parameters = dict(at.parameters)
        batch = {"x", step_names.TARGET}
        self.held = {n: drawn(a) for n, a in at.feeds.items() if n not in batch}
        self.held[step_names.LEARNING_RATE] = np.array(0.1, np.float32)
        self.batches = [{n: drawn(at.feeds[n]) for n in batch} for _ in range(STEPS)]

    def stepper(self) -> Stepper:
        return self.session.stepper(self.parameters, self.held)

    def by_run(self, parameters: Arrays, batch: Mapping[str, np.ndarray]) -> tuple[Arrays, float]:
        found = self.session.run({**self.held, **batch, **parameters})
        return {n: found[step_names.after(n)] for n in parameters}, float(found[step_names.LOSS])


@pytest.fixture(scope="module")
def case() -> Case:
    return Case()


def test_steps_are_bit_for_bit_those_of_run(case):
    stepper, parameters = case.stepper(), case.parameters
    for batch in case.batches:
        stepper.step(batch)
        parameters, loss = case.by_run(parameters, batch)
        assert stepper.scalar(step_names.LOSS) == loss
        carried = stepper.carried()
        assert carried.keys() == parameters.keys()
        assert all(np.array_equal(carried[n], parameters[n]) for n in parameters)
    assert any(np.abs(parameters[n] - p).max() > 0.01 for n, p in case.parameters.items())


def test_batches_may_differ_in_size(case):
    stepper = case.stepper()
    stepper.step(case.batches[0])
    fewer = {n: a[:1] for n, a in case.batches[1].items()}
    before = stepper.carried()
    stepper.step(fewer)
    expected, _ = case.by_run(before, fewer)
    assert all(np.array_equal(stepper.carried()[n], expected[n]) for n in expected)


def test_arrays_given_and_taken_are_the_callers_own(case):
    held = {n: a.copy() for n, a in case.held.items()}
    parameters = {n: a.copy() for n, a in case.parameters.items()}
    stepper = case.session.stepper(parameters, held)
    for array in (*held.values(), *parameters.values(), *stepper.carried().values()):
        array[...] = np.nan
    stepper.step(case.batches[0])
    taken = stepper.carried()
    stepper.step(case.batches[1])
    expected, _ = case.by_run(case.parameters, case.batches[0])
    assert all(np.array_equal(taken[n], expected[n]) for n in expected)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda batch: {}, "in every step, not"),
        (lambda batch: {**batch, "z": batch["x"]}, "in every step, not"),
        (lambda batch: {**batch, "x": batch["x"].astype(np.float64)}, "data type"),
        (lambda batch: {**batch, "x": batch["x"][:1].repeat(3, 0)}, "3"),
    ],
)
def test_a_refused_batch_changes_nothing(case, change, said):
    stepper = case.stepper()
    stepper.step(case.batches[0])
    before = stepper.carried()
    with pytest.raises(ModelError, match=said):
        stepper.step(change(case.batches[1]))
    assert all(np.array_equal(stepper.carried()[n], a) for n, a in before.items())
    stepper.step(case.batches[1])
    expected, _ = case.by_run(before, case.batches[1])
    assert all(np.array_equal(stepper.carried()[n], expected[n]) for n in expected)


def test_unknown_inputs_are_refused(case):
    with pytest.raises(ModelError, match="has no inputs \\['nothing'\\]"):
        case.session.stepper(case.parameters, {**case.held, "nothing": np.zeros(1, "f4")})
