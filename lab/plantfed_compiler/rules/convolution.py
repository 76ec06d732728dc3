"""Convolutions of any number of spatial axes, with groups, strides, dilation and padding."""

from itertools import product
from math import prod

from plantfed_compiler.emitting import Emitter, Refused
from plantfed_compiler.rules.site import Rule, Site
from plantfed_compiler.rules.windows import Windows, windows


def _conv(site: Site) -> list[str | None]:
    graph, weight = site.graph, site.input(1)
    lie = windows(site, graph.sizes(weight)[2:], small=site.y, large=site.x)
    group = site.attributes.get("group", 1)
    found: list[str | None] = [None] * len(site.node.input)
    if site.wants(0):
        found[0] = graph.op(
            "ConvTranspose",
            site.gradient,
            weight,
            kernel_shape=lie.kernel,
            strides=lie.strides,
            dilations=lie.dilations,
            pads=lie.pads,
            group=group,
            # a transposed convolution ends where the last window did
            output_padding=lie.uncovered if any(lie.uncovered) else None,
        )
    if site.wants(1):
        found[1] = _weight_gradient(
            graph, lie, group, graph.sizes(weight)[:2], data=site.x, small=site.gradient
        )
    if site.wants(2):
        found[2] = _bias_gradient(site, lie)
    return found


def _conv_transpose(site: Site) -> list[str | None]:
    """A convolution read backwards: its gradient is that convolution."""
    graph, weight = site.graph, site.input(1)
    if site.attributes.get("auto_pad", "NOTSET") != "NOTSET" or "output_shape" in site.attributes:
        raise Refused("it has auto_pad or output_shape", "Use explicit padding")
    lie = windows(site, graph.sizes(weight)[2:], small=site.x, large=site.y)
    group = site.attributes.get("group", 1)
    found: list[str | None] = [None] * len(site.node.input)
    if site.wants(0):
        found[0] = graph.op(
            "Conv",
            site.gradient,
            weight,
            kernel_shape=lie.kernel,
            strides=lie.strides,
            dilations=lie.dilations,
            pads=lie.pads,
            group=group,
        )
        if any(over >= step for over, step in zip(lie.uncovered, lie.strides, strict=True)):
            raise Refused("its output_padding is not below its stride", "Use a smaller one")
    if site.wants(1):
        found[1] = _weight_gradient(
            graph, lie, group, graph.sizes(weight)[:2], data=site.gradient, small=site.x
        )
    if site.wants(2):
        found[2] = _bias_gradient(site, lie)
    return found


def _bias_gradient(site: Site, lie: Windows) -> str:
    return site.graph.sum(site.gradient, [0, *range(2, 2 + lie.rank)], keep=False)


def _weight_gradient(
    graph: Emitter, lie: Windows, group: int, channels: list[int], *, data: str, small: str
) -> str:
    """Products of every window's elements with what belongs to the window, summed.

    Args:
        graph: to add to.
        lie: the windows over ``data``.
        group: number of groups.
        channels: of the weight: (of ``small``, of ``data`` in one group).
        data: (batch, group * channels[1], *large).
        small: (batch, channels[0], *small).

    Returns:
        Of the weight's shape (*channels, *kernel).
    """
    op, n_windows, n_kernel = graph.op, prod(lie.small), prod(lie.kernel)
    n_out, n_in = channels
    columns = _im2col(graph, lie, data)
    if group == 1:
        columns = op("Reshape", columns, graph.integers(0, n_kernel * n_in, n_windows))
        rows = op("Reshape", small, graph.integers(0, n_out, n_windows))
    else:
        by_group = graph.integers(0, n_kernel, group, n_in * n_windows)
        columns = op("Transpose", op("Reshape", columns, by_group), perm=[0, 2, 1, 3])
        columns = op("Reshape", columns, graph.integers(0, group, n_kernel * n_in, n_windows))
        rows = op("Reshape", small, graph.integers(0, group, n_out // group, n_windows))
    products = op("MatMul", rows, graph.swapped(columns, 3 if group == 1 else 4))
    summed = graph.sum(products, [0], keep=False)
    apart = op("Reshape", summed, graph.integers(n_out, *lie.kernel, n_in))
    return op("Transpose", apart, perm=[0, lie.rank + 1, *range(1, lie.rank + 1)])


def _im2col(graph: Emitter, lie: Windows, data: str) -> str:
    """(batch, kernel elements * channels, *small): for each of a window's elements a slice."""
    outside = [max(-over, 0) for over in lie.uncovered]
    if any(lie.pads) or any(outside):
        after = [pad + more for pad, more in zip(lie.after, outside, strict=True)]
        pads = graph.integers(0, 0, *lie.before, 0, 0, *after)
        data = graph.op("Pad", data, pads, graph.number(0))
    axes, steps = graph.integers(*range(2, 2 + lie.rank)), graph.integers(*lie.strides)
    slices = []
    for place in product(*map(range, lie.kernel)):
        starts = [at * d for at, d in zip(place, lie.dilations, strict=True)]
        reach = zip(starts, lie.small, lie.strides, strict=True)
        ends = [start + (n - 1) * step + 1 for start, n, step in reach]
        slices.append(
            graph.op("Slice", data, graph.integers(*starts), graph.integers(*ends), axes, steps)
        )
    return graph.op("Concat", *slices, axis=1) if len(slices) > 1 else slices[0]


RULES: dict[str, Rule] = {"Conv": _conv, "ConvTranspose": _conv_transpose}
