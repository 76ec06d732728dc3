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

    One product for each row of the kernel, whatever lies along its last axis: one for the whole
    kernel would have to gather all its columns first, twice over in memory.

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
    op, n_windows, n_row = graph.op, prod(lie.small), lie.kernel[-1]
    n_out, n_in = channels
    last, padded = lie.rank - 1, _padded(graph, lie, data)
    shifted = [_elements(graph, lie, padded, {last: place}) for place in range(n_row)]
    # (batch, elements of a row * channels, *large but along the last axis as small)
    row = op("Concat", *shifted, axis=1) if n_row > 1 else shifted[0]
    places = product(*map(range, lie.kernel[:-1]))
    columns = [_elements(graph, lie, row, dict(enumerate(place))) for place in places]
    if group == 1:
        shape = graph.integers(0, n_row * n_in, n_windows)
        columns = [op("Reshape", part, shape) for part in columns]
        rows = op("Reshape", small, graph.integers(0, n_out, n_windows))
    else:
        by_group = graph.integers(0, n_row, group, n_in * n_windows)
        shape = graph.integers(0, group, n_row * n_in, n_windows)
        columns = [
            op("Reshape", op("Transpose", op("Reshape", part, by_group), perm=[0, 2, 1, 3]), shape)
            for part in columns
        ]
        rows = op("Reshape", small, graph.integers(0, group, n_out // group, n_windows))
    axes = 3 if group == 1 else 4
    products = [op("MatMul", rows, graph.swapped(part, axes)) for part in columns]
    summed = [graph.sum(product, [0], keep=False) for product in products]
    whole = op("Concat", *summed, axis=-1) if len(summed) > 1 else summed[0]
    apart = op("Reshape", whole, graph.integers(n_out, *lie.kernel, n_in))
    return op("Transpose", apart, perm=[0, lie.rank + 1, *range(1, lie.rank + 1)])


def _padded(graph: Emitter, lie: Windows, data: str) -> str:
    """With the zeros that windows reach over."""
    outside = [max(-over, 0) for over in lie.uncovered]
    if not any(lie.pads) and not any(outside):
        return data
    after = [pad + more for pad, more in zip(lie.after, outside, strict=True)]
    pads = graph.integers(0, 0, *lie.before, 0, 0, *after)
    return graph.op("Pad", data, pads, graph.number(0))


def _elements(graph: Emitter, lie: Windows, data: str, places: dict[int, int]) -> str:
    """One element of every window along some spatial axes: their places in it, by axis."""
    if not places:
        return data
    starts = [place * lie.dilations[axis] for axis, place in places.items()]
    reach = zip(starts, places, strict=True)
    ends = [start + (lie.small[axis] - 1) * lie.strides[axis] + 1 for start, axis in reach]
    return graph.op(
        "Slice",
        data,
        graph.integers(*starts),
        graph.integers(*ends),
        graph.integers(*(2 + axis for axis in places)),
        graph.integers(*(lie.strides[axis] for axis in places)),
    )


RULES: dict[str, Rule] = {"Conv": _conv, "ConvTranspose": _conv_transpose}
