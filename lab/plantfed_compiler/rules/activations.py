"""Activation functions, and softmax."""

from math import pi, sqrt

from plantfed_compiler.emitting import FLOAT, Refused
from plantfed_compiler.rules.site import Rule, Site


def _masked(site: Site, condition: str) -> str:
    # a Where with a scalar took 3.3 times as long on onnxruntime's CPU
    return site.graph.op("Mul", site.gradient, site.graph.op("Cast", condition, to=FLOAT))


def _relu(site: Site) -> list[str | None]:
    positive = site.graph.op("Greater", site.y, site.graph.number(0))
    return site.only_first(_masked(site, positive))


def _leaky_relu(site: Site) -> list[str | None]:
    slope = site.attributes.get("alpha", 0.01)
    return site.only_first(_with_slope(site, site.graph.number(slope)))


def _with_slope(site: Site, slope: str) -> str:
    op, d = site.graph.op, site.gradient
    return op("Where", op("Greater", site.x, site.graph.number(0)), d, op("Mul", d, slope))


def _p_relu(site: Site) -> list[str | None]:
    graph, slope = site.graph, site.input(1)
    found: list[str | None] = [None, None]
    if site.wants(0):
        found[0] = _with_slope(site, slope)
    if site.wants(1):
        below = graph.op("Min", site.x, graph.number(0))
        of_each = graph.op("Mul", site.gradient, below)
        found[1] = graph.unbroadcast(of_each, graph.shape(site.y), graph.shape(slope))
    return found


def _elu(site: Site) -> list[str | None]:
    """1 above zero, else alpha exp(x) = y + alpha."""
    op, number, d = site.graph.op, site.graph.number, site.gradient
    below = op("Mul", d, op("Add", site.y, number(site.attributes.get("alpha", 1.0))))
    return site.only_first(op("Where", op("Greater", site.x, number(0)), d, below))


def _selu(site: Site) -> list[str | None]:
    """Gamma above zero, else gamma alpha exp(x) = y + gamma alpha."""
    op, number, d = site.graph.op, site.graph.number, site.gradient
    gamma = site.attributes.get("gamma", 1.0507010221481323)
    alpha = site.attributes.get("alpha", 1.6732631921768188)
    above = op("Mul", d, number(gamma))
    below = op("Mul", d, op("Add", site.y, number(gamma * alpha)))
    return site.only_first(op("Where", op("Greater", site.x, number(0)), above, below))


def _clip(site: Site) -> list[str | None]:
    if site.wants(1) or site.wants(2):
        raise Refused("its bounds depend on a parameter", "Use constant bounds")
    return site.only_first(_masked(site, site.graph.op("Equal", site.x, site.y)))


def _sigmoid(site: Site) -> list[str | None]:
    op = site.graph.op
    slope = op("Mul", site.y, op("Sub", site.graph.number(1), site.y))
    return site.only_first(op("Mul", site.gradient, slope))


def _hard_sigmoid(site: Site) -> list[str | None]:
    inside = _between(site, site.y, 0, 1)
    slope = site.graph.number(site.attributes.get("alpha", 0.2))
    return site.only_first(site.graph.op("Mul", _masked(site, inside), slope))


def _hard_swish(site: Site) -> list[str | None]:
    """It is x times clip(x/6 + 1/2, 0, 1)."""
    op, number = site.graph.op, site.graph.number
    gate = op("HardSigmoid", site.x, alpha=1 / 6, beta=0.5)
    inside = op("Cast", _between(site, gate, 0, 1), to=FLOAT)
    slope = op("Add", gate, op("Mul", op("Mul", site.x, inside), number(1 / 6)))
    return site.only_first(op("Mul", site.gradient, slope))


def _between(site: Site, value: str, low: float, high: float) -> str:
    op, number = site.graph.op, site.graph.number
    return op("And", op("Greater", value, number(low)), op("Less", value, number(high)))


def _tanh(site: Site) -> list[str | None]:
    op = site.graph.op
    slope = op("Sub", site.graph.number(1), op("Mul", site.y, site.y))
    return site.only_first(op("Mul", site.gradient, slope))


def _softplus(site: Site) -> list[str | None]:
    op = site.graph.op
    return site.only_first(op("Mul", site.gradient, op("Sigmoid", site.x)))


def _softsign(site: Site) -> list[str | None]:
    """1 / (1 + |x|)^2."""
    op = site.graph.op
    root = op("Add", site.graph.number(1), op("Abs", site.x))
    return site.only_first(op("Div", site.gradient, op("Mul", root, root)))


def _gelu(site: Site) -> list[str | None]:
    form = site.attributes.get("approximate", "none")
    slope = _gelu_slope(site) if form == "none" else _gelu_tanh_slope(site)
    return site.only_first(site.graph.op("Mul", site.gradient, slope))


def _gelu_slope(site: Site) -> str:
    """Phi(x) + x phi(x), with the normal distribution's Phi and density phi."""
    op, number, x = site.graph.op, site.graph.number, site.x
    erf = op("Erf", op("Mul", x, number(sqrt(0.5))))
    below = op("Mul", number(0.5), op("Add", number(1), erf))
    density = op("Exp", op("Mul", number(-0.5), op("Mul", x, x)))
    return op("Add", below, op("Mul", x, op("Mul", number(1 / sqrt(2 * pi)), density)))


def _gelu_tanh_slope(site: Site) -> str:
    """Of x/2 (1 + tanh(u)), u = sqrt(2/pi) (x + 0.044715 x^3)."""
    op, number, x = site.graph.op, site.graph.number, site.x
    square = op("Mul", x, x)
    c = sqrt(2 / pi)
    inner = op("Add", number(1), op("Mul", number(0.044715), square))
    tanh = op("Tanh", op("Mul", number(c), op("Mul", x, inner)))
    inner_slope = op("Mul", number(c), op("Add", number(1), op("Mul", number(0.134145), square)))
    tanh_slope = op("Mul", op("Sub", number(1), op("Mul", tanh, tanh)), inner_slope)
    doubled = op("Add", op("Add", number(1), tanh), op("Mul", x, tanh_slope))
    return op("Mul", number(0.5), doubled)


def _softmax(site: Site) -> list[str | None]:
    op, d = site.graph.op, site.gradient
    axis = site.attributes.get("axis", -1)
    mean = site.graph.sum(op("Mul", d, site.y), [axis], keep=True)
    return site.only_first(op("Mul", site.y, op("Sub", d, mean)))


def _log_softmax(site: Site) -> list[str | None]:
    op, d = site.graph.op, site.gradient
    total = site.graph.sum(d, [site.attributes.get("axis", -1)], keep=True)
    return site.only_first(op("Sub", d, op("Mul", op("Exp", site.y), total)))


RULES: dict[str, Rule] = {
    "Clip": _clip,
    "Elu": _elu,
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "LeakyRelu": _leaky_relu,
    "LogSoftmax": _log_softmax,
    "PRelu": _p_relu,
    "Relu": _relu,
    "Selu": _selu,
    "Sigmoid": _sigmoid,
    "Softmax": _softmax,
    "Softplus": _softplus,
    "Softsign": _softsign,
    "Tanh": _tanh,
}
