"""One round against an oracle that shares nothing with it.

The oracle works in float64, one number at a time where it can, with gradients from finite
differences.
"""

import numpy as np
import pytest
from tests.edge_agent.federations import classifier, random_samples, regressor

from plantfed_agent.kernels import kernel_for
from plantfed_agent.local_round import RoundStart, run_round
from plantfed_agent.samples import Samples
from plantfed_shared.definition import FederationDefinition
from plantfed_shared.errors import TrainingError
from plantfed_shared.initial import initial_parameters
from plantfed_shared.parameters import flatten


def start_of(definition: FederationDefinition, seed: int = 3) -> RoundStart:
    shared, head = definition.parameter_specification().split(initial_parameters(definition))
    base = flatten(shared)
    dual = 0.1 * np.random.default_rng(seed).normal(size=base.size).astype(np.float32)
    return RoundStart(base, dual, flatten(head))


def reference_rows(n_rows: int, phase: int, epochs: int, batch: int) -> list[np.ndarray]:
    """Row numbers of client 5 in round 2 of seed 0, as the reference draws them."""
    rng = np.random.RandomState((0 * 7919 + 5 * 104729 + 2 * 31 + phase) % 2**32)
    steps = []
    for _ in range(epochs):
        order = rng.permutation(n_rows)
        steps += [order[first : first + batch] for first in range(0, n_rows, batch)]
    return steps


def never():
    """Rows that must not be asked for."""
    raise AssertionError
    yield


class Oracle:
    """The same round in float64: a loss written out, finite differences, a plain loop."""

    def __init__(self, definition: FederationDefinition, start: RoundStart, samples: Samples):
        self.definition, self.start, self.samples = definition, start, samples
        self.shared = start.base.astype(np.float64)
        self.head = start.head.astype(np.float64)

    def loss(self, rows: np.ndarray) -> float:
        h = self.samples.x[rows].astype(np.float64)
        flat = {False: list(self.shared), True: list(self.head)}
        arrays = []
        for p in self.definition.parameter_specification().parameters:
            taken = [flat[p.personal].pop(0) for _ in range(p.size)]
            arrays.append(np.array(taken).reshape(p.shape))
        while arrays:
            weight, bias = arrays.pop(0), arrays.pop(0)
            h = h @ weight + bias
            if arrays:
                relu = self.definition.model.activation == "relu"
                h = np.where(h > 0, h, 0) if relu else np.tanh(h)
        y = self.samples.y[rows]
        if self.definition.classes:
            chosen = [h[i, k] - np.log(np.exp(h[i]).sum()) for i, k in enumerate(y)]
            return -sum(chosen) / len(rows)
        return float(((h - y) ** 2).sum()) / h.size / 2

    def step(self, vector: np.ndarray, rows: np.ndarray, pull: list[float]) -> None:
        settings = self.definition.algorithm
        gradient = self.gradient(vector, rows)
        for i in range(vector.size):
            total = gradient[i] + settings.weight_decay * vector[i] + pull[i]
            vector[i] = vector[i] - settings.learning_rate * total

    def gradient(self, vector: np.ndarray, rows: np.ndarray) -> list[float]:
        found = []
        for i in range(vector.size):
            kept = vector[i]
            vector[i] = kept + 1e-6
            above = self.loss(rows)
            vector[i] = kept - 1e-6
            found.append((above - self.loss(rows)) / 2e-6)
            vector[i] = kept
        return found

    def run_together(self, rows_of_steps: list[np.ndarray], proximal: float) -> None:
        settings = self.definition.algorithm
        for rows in rows_of_steps:
            steps = [self.gradient(vector, rows) for vector in (self.head, self.shared)]
            for i in range(self.head.size):
                total = steps[0][i] + settings.weight_decay * self.head[i]
                self.head[i] -= settings.learning_rate * total
            for i in range(self.shared.size):
                total = steps[1][i] + settings.weight_decay * self.shared[i]
                total += proximal * (self.shared[i] - self.start.base[i])
                self.shared[i] -= settings.learning_rate * total

    def run(self, head_rows: list[np.ndarray], shared_rows: list[np.ndarray]) -> None:
        settings, start = self.definition.algorithm, self.start
        admm = settings.mode == "fedapm"
        sigma, rho = (settings.head_proximal, settings.penalty) if admm else (0.0, 0.0)
        for rows in head_rows:
            pull = [sigma * (v - a) for v, a in zip(self.head, start.head, strict=True)]
            self.step(self.head, rows, pull)
        for rows in shared_rows:
            triples = zip(start.dual, self.shared, start.base, strict=True)
            self.step(self.shared, rows, [rho * w + rho * (x - u) for w, x, u in triples])


@pytest.mark.parametrize("mode", ["fedapm", "fedalt", "fedbuff", "fedasync"])
@pytest.mark.parametrize("make", [classifier, regressor])
def test_a_whole_round_equals_the_oracle(mode, make):
    definition = make(algorithm={"mode": mode, "epochs": 2, "batch": 10})
    samples, start = random_samples(definition, 25), start_of(definition)
    head_rows, shared_rows = (reference_rows(25, phase, 2, 10) for phase in (0, 1))
    result = run_round(
        kernel_for(definition),
        definition.parameter_specification(),
        definition.algorithm,
        start,
        samples,
        head_rows,
        shared_rows,
    )
    oracle = Oracle(definition, start, samples)
    oracle.run(head_rows, shared_rows)
    np.testing.assert_allclose(result.head, oracle.head, rtol=0, atol=2e-6)
    np.testing.assert_allclose(result.shared, oracle.shared, rtol=0, atol=2e-6)
    assert np.abs(result.shared - start.base).max() > 1e-3
    assert np.abs(result.head - start.head).max() > 1e-3


def reference_update(definition, start: RoundStart, samples: Samples, m: int):
    """The client update of the reference, in its own words: a 64-32-like ReLU perceptron.

    It states rho, sigma and the step per federation of m: the gradient is divided by m, the pulls
    are not, and pi = rho w.
    """
    algorithm = definition.algorithm
    lr, mu = algorithm.learning_rate * m, algorithm.weight_decay
    rho, sigma = algorithm.penalty / m, algorithm.head_proximal / m
    specification = definition.parameter_specification()
    cuts = np.cumsum([p.size for p in specification.shared])[:-1]
    shapes = [p.shape for p in specification.parameters]

    def cut(flat):
        parts = np.split(flat.copy(), cuts)
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=False)]

    u, pi, mine = cut(start.base), cut(np.float32(rho) * start.dual), cut(start.base)
    head_size = shapes[4][0] * shapes[4][1]
    stay = [start.head[:head_size].reshape(shapes[4]).copy(), start.head[head_size:].copy()]
    head = [p.copy() for p in stay]

    def gradients(x, y):
        (w1, b1, w2, b2), (w3, b3) = mine, head
        h1 = np.maximum(x @ w1 + b1, 0)
        h2 = np.maximum(h1 @ w2 + b2, 0)
        logits = h2 @ w3 + b3
        d3 = np.exp(logits - logits.max(1, keepdims=True))
        d3 /= d3.sum(1, keepdims=True)
        d3[np.arange(len(y)), y] -= 1
        d3 /= len(y)
        d2 = (d3 @ w3.T) * (h2 > 0)
        d1 = (d2 @ w2.T) * (h1 > 0)
        return [x.T @ d1, d1.sum(0), h1.T @ d2, d2.sum(0)], [h2.T @ d3, d3.sum(0)]

    for rows in reference_rows(len(samples), 0, algorithm.epochs, algorithm.batch):
        _, grads = gradients(samples.x[rows], samples.y[rows])
        for p, g, anchor in zip(head, grads, stay, strict=True):
            p -= lr * ((g + mu * p) * (1 / m) + sigma * (p - anchor))
    for rows in reference_rows(len(samples), 1, algorithm.epochs, algorithm.batch):
        grads, _ = gradients(samples.x[rows], samples.y[rows])
        for p, g, dual, anchor in zip(mine, grads, pi, u, strict=True):
            p -= lr * ((g + mu * p) * (1 / m) + (dual + rho * (p - anchor)))
    return flatten(mine), flatten(head)


@pytest.mark.parametrize("m", [1, 20])
def test_equals_the_client_update_of_the_reference(m):
    definition = classifier(
        model={"hidden": [16, 8]}, algorithm={"batch": 20, "learning_rate": 0.05}
    )
    samples, start = random_samples(definition, 90), start_of(definition)
    result = run_round(
        kernel_for(definition),
        definition.parameter_specification(),
        definition.algorithm,
        start,
        samples,
        reference_rows(90, 0, 3, 20),
        reference_rows(90, 1, 3, 20),
    )
    shared, head = reference_update(definition, start, samples, m)
    tolerance = 0 if m == 1 else 5e-7
    np.testing.assert_allclose(result.shared, shared, rtol=0, atol=tolerance)
    np.testing.assert_allclose(result.head, head, rtol=0, atol=tolerance)


def run(definition, start, samples, epochs=1, batch=10):
    rows = [reference_rows(len(samples), phase, epochs, batch) for phase in (0, 1)]
    specification = definition.parameter_specification()
    kernel = kernel_for(definition)
    return run_round(kernel, specification, definition.algorithm, start, samples, *rows)


def test_leaves_its_start_untouched():
    definition = classifier()
    start = start_of(definition)
    copies = [start.base.copy(), start.dual.copy(), start.head.copy()]
    for vector in (start.base, start.dual, start.head):
        vector.flags.writeable = False
    run(definition, start, random_samples(definition, 30))
    for vector, copy in zip((start.base, start.dual, start.head), copies, strict=True):
        np.testing.assert_array_equal(vector, copy)


def test_loss_is_the_mean_over_the_rows_of_the_last_epoch():
    definition = classifier(algorithm={"learning_rate": 1e-30, "epochs": 2, "batch": 20})
    samples, start = random_samples(definition, 50), start_of(definition)
    kernel = kernel_for(definition)
    expected, _ = kernel.loss_and_gradient(initial_parameters(definition), samples.x, samples.y, ())
    assert run(definition, start, samples, 2, 20).loss == pytest.approx(expected, rel=1e-5)


def test_without_a_head_the_head_rows_are_not_touched():
    definition = classifier(personal=[])
    result = run_round(
        kernel_for(definition),
        definition.parameter_specification(),
        definition.algorithm,
        start_of(definition),
        random_samples(definition, 10),
        never(),
        reference_rows(10, 1, 1, 5),
    )
    assert result.head.shape == (0,)


@pytest.mark.parametrize(
    ("mode", "personal"),
    [
        ("fedsim", ["layer2.*"]),
        ("fedsim", ["layer1.bias"]),
        ("fedavg", []),
        ("fedprox", []),
        ("local", ["*"]),
    ],
)
def test_all_parameters_together_equal_the_oracle(mode, personal):
    settings = {"mode": mode, "epochs": 2, "batch": 10, "proximal": 0.7}
    definition = regressor(personal=personal, algorithm=settings)
    samples, start = random_samples(definition, 25), start_of(definition)
    rows = reference_rows(25, 0, 2, 10)
    result = run_round(
        kernel_for(definition),
        definition.parameter_specification(),
        definition.algorithm,
        start,
        samples,
        rows,
        never(),
    )
    oracle = Oracle(definition, start, samples)
    oracle.run_together(rows, 0.7 if mode == "fedprox" else 0.0)
    np.testing.assert_allclose(result.head, oracle.head, rtol=0, atol=2e-6)
    np.testing.assert_allclose(result.shared, oracle.shared, rtol=0, atol=2e-6)
    moved = np.concatenate([result.shared - start.base, result.head - start.head])
    assert np.abs(moved).max() > 1e-3


def test_fedalt_ignores_dual_and_pulls():
    plain = {"mode": "fedalt", "penalty": 5.0, "head_proximal": 5.0}
    definition, start = classifier(algorithm=plain), start_of(classifier())
    samples = random_samples(definition, 30)
    other = classifier(algorithm=plain | {"penalty": 1.0})
    zero = RoundStart(start.base, np.zeros_like(start.dual), start.head)
    one, two = run(definition, start, samples), run(other, zero, samples)
    np.testing.assert_array_equal(one.shared, two.shared)


def test_numbers_that_diverge_are_one_clear_error():
    definition = regressor(algorithm={"learning_rate": 1e9})
    with pytest.raises(TrainingError, match=r"learning_rate = 1e\+09.*diverged.*[Ll]ower"):
        run(definition, start_of(definition), random_samples(definition, 30), epochs=5)


def test_no_rows_is_an_error():
    definition = classifier()
    with pytest.raises(ValueError, match="no rows"):
        run(definition, start_of(definition), random_samples(definition, 0))


@pytest.mark.parametrize("mode", ["fedapm", "fedalt", "fedsim"])
def test_the_head_alone_is_trained_as_in_a_whole_round_and_gets_better(mode):
    definition = classifier(algorithm={"mode": mode, "learning_rate": 0.1, "epochs": 3, "batch": 8})
    samples, start = random_samples(definition, 40), start_of(definition)
    specification, kernel = definition.parameter_specification(), kernel_for(definition)

    def run(begin, **how):
        rows = reference_rows(40, 1, 3, 8)
        return run_round(
            kernel, specification, definition.algorithm, begin, samples, rows, rows, **how
        )

    first = run(start, head_only=True)
    np.testing.assert_array_equal(first.shared, start.base)
    if mode != "fedsim":
        np.testing.assert_array_equal(first.head, run(start).head)
    losses = [first.loss]
    for _ in range(5):
        first = run(RoundStart(start.base, start.dual, first.head), head_only=True)
        losses.append(first.loss)
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]
