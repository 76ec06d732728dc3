"""Operators that only move numbers."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from plantfed_compiler.emitting import Dim, Emitter, Refused
from plantfed_compiler.rules.site import Rule, Site

EVERYTHING = 2**31 - 1
"""An end of a slice that exporters write for no end."""


def _reshaped(site: Site) -> list[str | None]:
    return site.only_first(site.graph.as_shape_of(site.gradient, site.x))


def _transpose(site: Site) -> list[str | None]:
    order = site.attributes.get("perm") or range(site.graph.rank(site.x))[::-1]
    back = [int(axis) for axis in np.argsort(order)]
    return site.only_first(site.graph.op("Transpose", site.gradient, perm=back))


def _expand(site: Site) -> list[str | None]:
    graph = site.graph
    given, wanted = graph.shape(site.y), graph.shape(site.x)
    return site.only_first(graph.unbroadcast(site.gradient, given, wanted))


def _tile(site: Site) -> list[str | None]:
    """Every axis becomes two, the repeats and what is repeated; then the repeats are summed."""
    graph = site.graph
    repeats = [int(n) for n in graph.value(site.input(1), "repeats")]
    shape: list[Dim] = []
    for n, size in zip(repeats, graph.shape(site.x), strict=True):
        shape += [n, size]
    split = _to_shape(graph, site.gradient, shape)
    return site.only_first(graph.sum(split, range(0, len(shape), 2), keep=False))


def _to_shape(graph: Emitter, value: str, shape: Sequence[Dim]) -> str:
    if sum(not isinstance(size, int) for size in shape) > 1:
        raise Refused("two of its dimensions depend on the batch")
    return graph.op(
        "Reshape", value, graph.integers(*(s if isinstance(s, int) else -1 for s in shape))
    )


def _concat(site: Site) -> list[str | None]:
    graph, axis = site.graph, site.attributes["axis"] % site.graph.rank(site.y)
    sizes = [graph.sizes(name, axis, axis + 1)[0] for name in site.node.input]
    if len(sizes) == 1:
        return site.only_first(site.gradient)
    split = graph.integers(*sizes)
    parts = graph.ops("Split", [site.gradient, split], len(sizes), axis=axis)
    return [part if wanted else None for part, wanted in zip(parts, site.wanted, strict=True)]


def _split(site: Site) -> list[str | None]:
    graph = site.graph
    parts = [
        graph.op("Expand", graph.number(0), graph.op("Shape", name))
        if gradient is None
        else gradient
        for gradient, name in zip(site.upstream, site.node.output, strict=True)
    ]
    return site.only_first(graph.op("Concat", *parts, axis=site.attributes.get("axis", 0)))


def _slice(site: Site) -> list[str | None]:
    """Pad with zeros where nothing was taken; with a step other than 1 axis by axis."""
    graph, x = site.graph, site.x
    starts, ends = (graph.value(site.input(n), what) for n, what in ((1, "starts"), (2, "ends")))
    axes = graph.value(site.input(3), "axes") if site.input(3) else np.arange(len(starts))
    steps = graph.value(site.input(4), "steps") if site.input(4) else np.ones_like(starts)
    rank = graph.rank(x)
    before, after = [0] * rank, [0] * rank
    gradient = site.gradient
    for start, end, axis, step in zip(starts, ends, axes % rank, steps, strict=True):
        if start == 0 and step == 1 and end >= EVERYTHING:
            continue
        (size,) = graph.sizes(x, axis, axis + 1)
        taken = np.arange(size)[slice(*_bounds(int(start), int(end), int(step), size))]
        if int(step) == 1 and taken.size:
            before[axis], after[axis] = int(taken[0]), size - 1 - int(taken[-1])
        else:
            gradient = _put_back(graph, gradient, taken, int(axis), size, rank)
    if any(before) or any(after):
        gradient = graph.op("Pad", gradient, graph.integers(*before, *after), graph.number(0))
    return site.only_first(gradient)


def _bounds(start: int, end: int, step: int, size: int) -> tuple[int, int | None, int]:
    """ONNX's bounds as Python's slice takes them: an end before the first element is None."""
    start = max(start + size, 0) if start < 0 else start
    if step < 0:
        start, end = min(start, size - 1), max(end + size, -1) if end < 0 else end
        return start, None if end < 0 else end, step
    return start, max(end + size, 0) if end < 0 else end, step


def _put_back(
    graph: Emitter, gradient: str, taken: NDArray[np.int64], axis: int, size: int, rank: int
) -> str:
    """Put parts of an axis back to where each was taken from, once at most; zeros elsewhere."""
    origin = np.full(size, len(taken), np.int64)
    origin[taken] = np.arange(len(taken))
    more = [0] * (2 * rank)
    more[rank + axis] = 1
    with_zero = graph.op("Pad", gradient, graph.integers(*more), graph.number(0))
    return graph.op("Gather", with_zero, graph.constant(origin), axis=axis)


def _pad(site: Site) -> list[str | None]:
    graph, rank = site.graph, site.graph.rank(site.x)
    mode = site.attributes.get("mode", "constant")
    pads = graph.value(site.input(1), "pads")
    if mode != "constant" or (pads < 0).any() or site.wants(2):
        raise Refused(f"its mode is {mode!r}, or it cuts", "Pad with constants, by 0 or more")
    axes = graph.value(site.input(3), "axes") % rank if site.input(3) else np.arange(rank)
    starts = graph.integers(*pads[: len(axes)])
    chosen = graph.constant(axes.astype(np.int64))
    sizes = graph.op("Gather", graph.op("Shape", site.x), chosen)
    ends = graph.op("Add", starts, sizes)
    return site.only_first(graph.op("Slice", site.gradient, starts, ends, chosen))


def _gather(site: Site) -> list[str | None]:
    graph, x, indices = site.graph, site.x, site.input(1)
    axis = site.attributes.get("axis", 0) % graph.rank(x)
    try:
        chosen = graph.value(indices, "indices")
    except Refused:
        return site.only_first(_scatter_rows(site, axis))
    shape = graph.shape(x)
    (size,) = graph.sizes(x, axis, axis + 1)
    flat = chosen.astype(np.int64).ravel() % size
    merged = (*shape[:axis], flat.size, *shape[axis + 1 :])
    gradient = site.gradient
    if chosen.ndim == 0:
        gradient = graph.op("Unsqueeze", gradient, graph.integers(axis))
    elif chosen.ndim > 1:
        gradient = _to_shape(graph, gradient, merged)
    if len(set(flat)) == len(flat):
        return site.only_first(_put_back(graph, gradient, flat, axis, size, len(shape)))
    along = flat.reshape([-1] + [1] * (len(shape) - axis - 1))
    places = graph.op("Expand", graph.constant(along), graph.op("Shape", gradient))
    zeros = graph.op("Expand", graph.number(0), graph.op("Shape", x))
    added = graph.op("ScatterElements", zeros, places, gradient, axis=axis, reduction="add")
    return site.only_first(added)


def _scatter_rows(site: Site, axis: int) -> str:
    """Of an embedding: the rows that were looked up several times sum their gradients."""
    if axis:
        raise Refused("its indices are data and its axis is not the first", "Gather on axis 0")
    graph = site.graph
    places = graph.op("Unsqueeze", site.input(1), graph.integers(-1))
    zeros = graph.op("Expand", graph.number(0), graph.op("Shape", site.x))
    return graph.op("ScatterND", zeros, places, site.gradient, reduction="add")


def _resize(site: Site) -> list[str | None]:
    """Nearest-neighbour enlarging by whole numbers: every axis becomes two, one is summed."""
    graph = site.graph
    form = [site.attributes.get(name) for name in ("mode", "coordinate_transformation_mode")]
    big, small = graph.shape(site.y), graph.shape(site.x)
    times: list[int] = []
    for larger, smaller in zip(big, small, strict=True):
        if isinstance(larger, int) and isinstance(smaller, int) and larger % smaller == 0:
            times.append(larger // smaller)
        elif larger == smaller:
            times.append(1)
    right = form in (["nearest", "asymmetric"], ["nearest", "half_pixel"], ["nearest", None])
    # floor of asymmetric coordinates, and round of half-pixel ones, repeat every element in place
    rounding = site.attributes.get("nearest_mode", "round_prefer_floor")
    floors = rounding == "floor" if form[1] == "asymmetric" else rounding.startswith("round")
    if not right or not floors or len(times) != len(small):
        raise Refused(
            "it is not nearest-neighbour enlarging by whole numbers",
            "Use nn.Upsample(scale_factor=2, mode='nearest') or a transposed convolution",
        )
    shape: list[Dim] = []
    for size, n in zip(small, times, strict=True):
        shape += [size, n]
    split = _to_shape(graph, site.gradient, shape)
    return site.only_first(graph.sum(split, range(1, len(shape), 2), keep=False))


def _gather_nd(site: Site) -> list[str | None]:
    """What was taken several times sums its gradients."""
    if site.attributes.get("batch_dims", 0):
        raise Refused("it has batch dimensions", "Index with a list of numbers")
    graph = site.graph
    zeros = graph.op("Expand", graph.number(0), graph.op("Shape", site.x))
    return site.only_first(
        graph.op("ScatterND", zeros, site.input(1), site.gradient, reduction="add")
    )


RULES: dict[str, Rule] = {
    "Concat": _concat,
    "Expand": _expand,
    "Flatten": _reshaped,
    "Gather": _gather,
    "GatherND": _gather_nd,
    "Pad": _pad,
    "Reshape": _reshaped,
    "Resize": _resize,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _reshaped,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _reshaped,
}
