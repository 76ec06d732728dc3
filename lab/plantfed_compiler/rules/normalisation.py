"""Normalisation over a batch, a layer or an instance."""

from collections.abc import Sequence

from plantfed_compiler.emitting import Emitter, Refused
from plantfed_compiler.rules.site import Rule, Site

EPSILON = 1e-5
"""ONNX's default for all of them."""


def _layer(site: Site) -> list[str | None]:
    graph, op, d = site.graph, site.graph.op, site.gradient
    scale, rank = site.input(1), site.graph.rank(site.x)
    axes = range(site.attributes.get("axis", -1) % rank, rank)
    mean, inverse_deviation = site.output(1), site.output(2)
    standard = op("Mul", op("Sub", site.x, mean), inverse_deviation)
    found: list[str | None] = [None] * len(site.node.input)
    if site.wants(0):
        found[0] = _through(graph, op("Mul", d, scale), standard, inverse_deviation, axes)
    shape = graph.shape(site.x)
    if site.wants(1):
        found[1] = graph.unbroadcast(op("Mul", d, standard), shape, graph.shape(scale))
    if site.wants(2):
        found[2] = graph.unbroadcast(d, shape, graph.shape(site.input(2)))
    return found


def _through(
    graph: Emitter, d: str, standard: str, inverse_deviation: str, axes: Sequence[int]
) -> str:
    """Back through z = (x - mean) / deviation, where both depend on x.

    (d - mean(d) - z mean(d z)) / deviation, with means over ``axes``.
    """
    op, along = graph.op, graph.integers(*axes)
    means = op("ReduceMean", d, along, keepdims=1)
    slopes = op("ReduceMean", op("Mul", d, standard), along, keepdims=1)
    centred = op("Sub", op("Sub", d, means), op("Mul", standard, slopes))
    return op("Mul", centred, inverse_deviation)


def _batch(site: Site) -> list[str | None]:
    """With the batch's own statistics, or with running ones that are constant."""
    axes = [axis for axis in range(site.graph.rank(site.x)) if axis != 1]
    if not site.attributes.get("training_mode", 0):
        mean, variance = (_per_channel(site, site.input(n)) for n in (3, 4))
        standard, inverse = _standard(site, site.graph.op("Sub", site.x, mean), variance)
        d = site.graph.op("Mul", site.gradient, _per_channel(site, site.input(1)))
        through = site.graph.op("Mul", d, inverse) if site.wants(0) else None
        return _with_affine(site, standard, axes, through)
    # what batch_norm.py writes out gives them
    standard, inverse = site.output(1), site.output(2)
    through = None
    if site.wants(0):
        d = site.graph.op("Mul", site.gradient, _per_channel(site, site.input(1)))
        through = _through(site.graph, d, standard, inverse, axes)
    return _with_affine(site, standard, axes, through)


def _instance(site: Site) -> list[str | None]:
    """By the statistics of each channel of each sample."""
    rank = site.graph.rank(site.x)
    standard, inverse = _standardised(site, site.x, range(2, rank))
    through = None
    if site.wants(0):
        d = site.graph.op("Mul", site.gradient, _per_channel(site, site.input(1)))
        through = _through(site.graph, d, standard, inverse, range(2, rank))
    return _with_affine(site, standard, [0, *range(2, rank)], through)


def _group(site: Site) -> list[str | None]:
    """By the statistics of each group of channels of each sample."""
    graph, op = site.graph, site.graph.op
    channels = graph.sizes(site.x, 1, 2)
    if graph.sizes(site.input(1)) != channels:
        raise Refused("it has a scale for each group", "Export with opset_version=21 or more")
    groups = graph.integers(0, site.attributes["num_groups"], -1)
    standard, inverse = _standardised(site, op("Reshape", site.x, groups), [2])
    through = None
    if site.wants(0):
        d = op("Mul", site.gradient, _per_channel(site, site.input(1)))
        through = _through(graph, op("Reshape", d, groups), standard, inverse, [2])
        through = graph.as_shape_of(through, site.x)
    others = [0, *range(2, graph.rank(site.x))]
    return _with_affine(site, graph.as_shape_of(standard, site.x), others, through)


def _standardised(site: Site, x: str, axes: Sequence[int]) -> tuple[str, str]:
    """(x - mean) / deviation and 1 / deviation, with statistics over ``axes``."""
    op, along = site.graph.op, site.graph.integers(*axes)
    centred = op("Sub", x, op("ReduceMean", x, along, keepdims=1))
    variance = op("ReduceMean", op("Mul", centred, centred), along, keepdims=1)
    return _standard(site, centred, variance)


def _standard(site: Site, centred: str, variance: str) -> tuple[str, str]:
    """(x - mean) / deviation, and 1 / deviation."""
    op = site.graph.op
    epsilon = site.graph.number(site.attributes.get("epsilon", EPSILON))
    inverse = op("Reciprocal", op("Sqrt", op("Add", variance, epsilon)))
    return op("Mul", centred, inverse), inverse


def _per_channel(site: Site, value: str) -> str:
    """(channels,) -> (1, channels, 1, ...)."""
    shape = [1, -1] + [1] * (site.graph.rank(site.x) - 2)
    return site.graph.op("Reshape", value, site.graph.integers(*shape))


def _with_affine(
    site: Site, standard: str, axes: Sequence[int], through: str | None
) -> list[str | None]:
    graph, d = site.graph, site.gradient
    found: list[str | None] = [through, None, None]
    if site.wants(1):
        found[1] = graph.sum(graph.op("Mul", d, standard), axes, keep=False)
    if site.wants(2):
        found[2] = graph.sum(d, axes, keep=False)
    return found


RULES: dict[str, Rule] = {
    "BatchNormalization": _batch,
    "GroupNormalization": _group,
    "InstanceNormalization": _instance,
    "LayerNormalization": _layer,
}
