"""Every rule against finite differences: the slope by onnx's numpy implementation in float64, the
gradient by the compiled step in onnxruntime.  No torch."""

import numpy as np
import pytest
from tests.compiler.differentiation import in_float64, slopes, whole_step
from tests.compiler.networks import NETS, Net, model

from plantfed_compiler import backpropagation
from plantfed_compiler.rules import RULES

TOLERANCE = 2e-5
"""In parts of the longest the slope along a direction can be."""


def largest_difference(net: Net, loss: str = "mse") -> float:
    at, built = whole_step(model(net), loss)
    assert {node.domain for node in built.graph.node} == {""}
    gradients = at.gradients()
    assert set(gradients) == set(at.parameters) != set()
    rng = np.random.RandomState(7)
    worst = 0.0
    for _ in range(2):
        directions = {n: rng.standard_normal(p.shape) for n, p in at.parameters.items()}
        for name, slope in slopes(at, in_float64(built), directions).items():
            gradient, direction = gradients[name].astype(np.float64), directions[name]
            assert np.abs(gradient).max() > 1e-4, f"{name} has no gradient to be compared"
            possible = np.linalg.norm(gradient) * np.linalg.norm(direction)
            worst = max(worst, abs(slope - float(np.vdot(gradient, direction))) / possible)
    return worst


@pytest.mark.parametrize("name", NETS)
def test_the_gradient_is_the_slope(name):
    assert largest_difference(NETS[name]) < TOLERANCE


@pytest.mark.parametrize("loss", ["cross-entropy", "bce", "mse", "huber", "reconstruction"])
def test_the_gradient_of_each_loss_is_its_slope(loss):
    assert largest_difference(Net("y = Gemm(a, v)", given={"v": (6, 6)}), loss) < TOLERANCE


@pytest.mark.parametrize("strides", [2, 1])
def test_of_equal_maxima_the_first_takes_all(strides):
    """As in torch; after a ReLU whole windows are 0."""
    net = Net(
        f"y = MaxPool <kernel_shape = [2, 2], strides = [{strides}, {strides}]> (a)", (1, 2, 2)
    )
    at, _ = whole_step(model(net), "mse")
    at.feeds["x"] = np.ones_like(at.feeds["x"])
    at.parameters.update(w=np.full((1, 2, 2), 3, "f4"), b=np.zeros((1, 2, 2), "f4"))
    gradient = at.gradients()["b"].ravel()
    assert abs(gradient[0]) > 0.1
    assert not gradient[1:].any()


def test_every_rule_is_gone_through(monkeypatch):
    used = set()

    def noted(operator, rule):
        def noting(site):
            used.add(operator)
            return rule(site)

        return noting

    table = {operator: noted(operator, rule) for operator, rule in RULES.items()}
    monkeypatch.setattr(backpropagation, "RULES", table)
    for net in NETS.values():
        whole_step(model(net), "mse")
    assert used == set(RULES)


@pytest.mark.parametrize("operator", ["Relu", "Conv", "GRU"])
def test_a_wrong_rule_is_found(operator, monkeypatch):
    """The comparison can fail: with gradients that are a thousandth too large it does."""

    def wrong(site):
        factor = site.graph.number(1.001)
        found = RULES[operator](site)
        return [None if g is None else site.graph.op("Mul", g, factor) for g in found]

    monkeypatch.setattr(backpropagation, "RULES", {**RULES, operator: wrong})
    name = {"Relu": "relu", "Conv": "conv-1d", "GRU": "gru-last"}[operator]
    assert largest_difference(NETS[name]) > TOLERANCE
