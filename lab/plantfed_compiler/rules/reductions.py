"""Sums, means and extremes along axes."""

from plantfed_compiler.emitting import FLOAT
from plantfed_compiler.rules.site import Rule, Site


def _axes(site: Site) -> list[int]:
    """In order, counted from the front; all of them where the node names none."""
    rank = site.graph.rank(site.x)
    if site.input(1):
        named = [int(axis) for axis in site.graph.value(site.input(1), "axes")]
    else:
        named = list(site.attributes.get("axes", ()))
    if not named and site.attributes.get("noop_with_empty_axes", 0):
        return []
    return sorted(axis % rank for axis in named) or list(range(rank))


def _kept(site: Site, value: str) -> str:
    """A value of the output's shape, with the axes that are gone put back as 1."""
    axes = _axes(site)
    if site.attributes.get("keepdims", 1) or not axes:
        return value
    return site.graph.op("Unsqueeze", value, site.graph.integers(*axes))


def _spread(site: Site, gradient: str) -> list[str | None]:
    graph = site.graph
    return site.only_first(graph.op("Expand", _kept(site, gradient), graph.op("Shape", site.x)))


def _reduce_sum(site: Site) -> list[str | None]:
    return _spread(site, site.gradient)


def _reduce_mean(site: Site) -> list[str | None]:
    count = site.graph.n_elements(site.x, _axes(site))
    return _spread(site, site.graph.op("Div", site.gradient, count))


def _extreme(site: Site) -> list[str | None]:
    """Elements that are equal share the gradient, as in torch's amax and amin."""
    graph, op = site.graph, site.graph.op
    chosen = op("Cast", op("Equal", site.x, _kept(site, site.y)), to=FLOAT)
    share = op("Div", _kept(site, site.gradient), graph.sum(chosen, _axes(site), keep=True))
    return site.only_first(op("Mul", chosen, share))


def _reduce_l1(site: Site) -> list[str | None]:
    op = site.graph.op
    return site.only_first(op("Mul", op("Sign", site.x), _kept(site, site.gradient)))


def _reduce_l2(site: Site) -> list[str | None]:
    op = site.graph.op
    share = op("Div", _kept(site, site.gradient), _kept(site, site.y))
    return site.only_first(op("Mul", site.x, share))


def _reduce_sum_square(site: Site) -> list[str | None]:
    op = site.graph.op
    doubled = op("Mul", site.x, site.graph.number(2))
    return site.only_first(op("Mul", doubled, _kept(site, site.gradient)))


def _reduce_log_sum_exp(site: Site) -> list[str | None]:
    """Softmax along the axes."""
    op = site.graph.op
    weight = op("Exp", op("Sub", site.x, _kept(site, site.y)))
    return site.only_first(op("Mul", weight, _kept(site, site.gradient)))


RULES: dict[str, Rule] = {
    "ReduceL1": _reduce_l1,
    "ReduceL2": _reduce_l2,
    "ReduceLogSumExp": _reduce_log_sum_exp,
    "ReduceMax": _extreme,
    "ReduceMean": _reduce_mean,
    "ReduceMin": _extreme,
    "ReduceSum": _reduce_sum,
    "ReduceSumSquare": _reduce_sum_square,
}
