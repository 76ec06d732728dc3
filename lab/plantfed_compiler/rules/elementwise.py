"""Element by element: arithmetic, with broadcasting, and functions of one number."""

from math import pi, sqrt

from plantfed_compiler.emitting import FLOAT, Refused
from plantfed_compiler.rules.site import Rule, Site


def _identity(site: Site) -> list[str | None]:
    if not (site.graph.is_float(site.x) and site.graph.is_float(site.y)):
        raise Refused("it converts between numbers other than float32", "Export in float32")
    return site.only_first(site.gradient)


def _add(site: Site) -> list[str | None]:
    return _broadcast(site, site.gradient, site.gradient)


def _sub(site: Site) -> list[str | None]:
    second = site.graph.op("Neg", site.gradient) if site.wants(1) else None
    return _broadcast(site, site.gradient, second)


def _mul(site: Site) -> list[str | None]:
    op, d = site.graph.op, site.gradient
    return _broadcast(
        site,
        op("Mul", d, site.input(1)) if site.wants(0) else None,
        op("Mul", d, site.x) if site.wants(1) else None,
    )


def _div(site: Site) -> list[str | None]:
    op, d = site.graph.op, site.gradient
    first = op("Div", d, site.input(1))
    second = op("Neg", op("Mul", first, site.y)) if site.wants(1) else None
    return _broadcast(site, first, second)


def _sum(site: Site) -> list[str | None]:
    return _broadcast(site, *[site.gradient] * len(site.node.input))


def _broadcast(site: Site, *gradients: str | None) -> list[str | None]:
    """Sum what broadcasting repeated, for each input that wants it."""
    graph = site.graph
    given = graph.shape(site.y)
    return [
        graph.unbroadcast(gradient, given, graph.shape(name)) if wanted and gradient else None
        for gradient, name, wanted in zip(gradients, site.node.input, site.wanted, strict=True)
    ]


def _larger_or_smaller(site: Site) -> list[str | None]:
    """Max and Min of any number of inputs; those that are equal share the gradient, as in torch."""
    graph, op = site.graph, site.graph.op
    chosen = [op("Cast", op("Equal", name, site.y), to=FLOAT) for name in site.node.input]
    shared = op("Div", site.gradient, op("Sum", *chosen) if len(chosen) > 1 else chosen[0])
    given = graph.shape(site.y)
    return [
        graph.unbroadcast(op("Mul", shared, mask), given, graph.shape(name)) if wanted else None
        for mask, name, wanted in zip(chosen, site.node.input, site.wanted, strict=True)
    ]


def _pow(site: Site) -> list[str | None]:
    if site.wants(1):
        raise Refused("its exponent depends on a parameter", "Use a constant exponent")
    exponent = site.graph.value(site.input(1), "exponent")
    if exponent.size != 1:
        raise Refused("its exponent is no single number", "Use one number for all elements")
    op, power = site.graph.op, float(exponent.reshape(()))
    factor = op("Mul", site.x, site.graph.number(2)) if power == 2 else _power(site, power)
    return site.only_first(op("Mul", site.gradient, factor))


def _power(site: Site, power: float) -> str:
    op, number = site.graph.op, site.graph.number
    return op("Mul", number(power), op("Pow", site.x, number(power - 1)))


def _where(site: Site) -> list[str | None]:
    graph, zero = site.graph, site.graph.number(0)
    given, d = graph.shape(site.y), site.gradient
    found: list[str | None] = [None, None, None]
    for position, chosen in ((1, (d, zero)), (2, (zero, d))):
        if site.wants(position):
            masked = graph.op("Where", site.x, *chosen)
            found[position] = graph.unbroadcast(masked, given, graph.shape(site.input(position)))
    return found


def _neg(site: Site) -> list[str | None]:
    return site.only_first(site.graph.op("Neg", site.gradient))


def _exp(site: Site) -> list[str | None]:
    return _times(site, site.y)


def _log(site: Site) -> list[str | None]:
    return site.only_first(site.graph.op("Div", site.gradient, site.x))


def _sqrt(site: Site) -> list[str | None]:
    op = site.graph.op
    half = op("Mul", site.gradient, site.graph.number(0.5))
    return site.only_first(op("Div", half, site.y))


def _reciprocal(site: Site) -> list[str | None]:
    op = site.graph.op
    return _times(site, op("Neg", op("Mul", site.y, site.y)))


def _abs(site: Site) -> list[str | None]:
    return _times(site, site.graph.op("Sign", site.x))


def _sin(site: Site) -> list[str | None]:
    return _times(site, site.graph.op("Cos", site.x))


def _cos(site: Site) -> list[str | None]:
    return _times(site, site.graph.op("Neg", site.graph.op("Sin", site.x)))


def _erf(site: Site) -> list[str | None]:
    """2/sqrt(pi) exp(-x^2)."""
    op, number = site.graph.op, site.graph.number
    bell = op("Exp", op("Neg", op("Mul", site.x, site.x)))
    return _times(site, op("Mul", number(2 / sqrt(pi)), bell))


def _times(site: Site, derivative: str) -> list[str | None]:
    return site.only_first(site.graph.op("Mul", site.gradient, derivative))


RULES: dict[str, Rule] = {
    "Abs": _abs,
    "Add": _add,
    "Cast": _identity,
    "CastLike": _identity,
    "Cos": _cos,
    "Div": _div,
    "Erf": _erf,
    "Exp": _exp,
    "Identity": _identity,
    "Log": _log,
    "Max": _larger_or_smaller,
    "Min": _larger_or_smaller,
    "Mul": _mul,
    "Neg": _neg,
    "Pow": _pow,
    "Reciprocal": _reciprocal,
    "Sin": _sin,
    "Sqrt": _sqrt,
    "Sub": _sub,
    "Sum": _sum,
    "Where": _where,
}
