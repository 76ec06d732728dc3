"""Pools over windows, and over everything."""

from itertools import product

import numpy as np
from numpy.typing import NDArray

from plantfed_compiler.emitting import FLOAT, Emitter
from plantfed_compiler.rules.site import Rule, Site
from plantfed_compiler.rules.windows import Windows, windows


def _max_pool(site: Site) -> list[str | None]:
    """To where the maximum was found; of equal ones to the first, as in torch."""
    graph, op = site.graph, site.graph.op
    lie = windows(site, site.attributes["kernel_shape"], small=site.y, large=site.x)
    if _tiles(lie):
        return site.only_first(_by_comparison(site, lie))
    places = site.output(1)
    # MaxUnpool knows where a window begins only where there is no padding
    if not lie.overlap and not any(lie.pads) and min(lie.uncovered) >= 0:
        size = op("Shape", site.x)
        return site.only_first(
            op(
                "MaxUnpool",
                site.gradient,
                places,
                size,
                kernel_shape=lie.kernel,
                strides=lie.strides,
            )
        )
    flat = graph.integers(-1)
    zeros = op("Expand", graph.number(0), op("Reshape", op("Size", site.x), flat))
    parts = (op("Reshape", value, flat) for value in (places, site.gradient))
    added = op("ScatterElements", zeros, *parts, axis=0, reduction="add")
    return site.only_first(graph.as_shape_of(added, site.x))


def _tiles(lie: Windows) -> bool:
    """Whether the windows cover the data and meet nowhere."""
    plain = lie.strides == lie.kernel and max(lie.dilations) == 1
    return plain and not any(lie.pads) and not any(lie.uncovered)


def _by_comparison(site: Site, lie: Windows) -> str:
    """Where windows tile the data: compare each of their elements with the maximum.

    Asked for indices, onnxruntime's MaxPool leaves its fast kernel: a third of a step of a small
    CNN.  Of equal elements the first takes all, as in torch.
    """
    graph, op = site.graph, site.graph.op
    axes, steps = graph.integers(*range(2, 2 + lie.rank)), graph.integers(*lie.strides)
    ends = graph.integers(*lie.large)
    left = site.gradient
    parts: list[str] = []
    for place in product(*map(range, lie.kernel)):
        if parts:
            left = op("Sub", left, parts[-1])
        element = op("Slice", site.x, graph.integers(*place), ends, axes, steps)
        parts.append(op("Mul", left, op("Cast", op("Equal", element, site.y), to=FLOAT)))
    return _interleaved(graph, lie, parts, graph.sizes(site.x, 1, 2)[0])


def _interleaved(graph: Emitter, lie: Windows, parts: list[str], channels: int) -> str:
    """(batch, channels, *large) from its every n-th elements, axis by axis from the last."""
    shape = list(lie.small)
    for axis in reversed(range(lie.rank)):
        n = lie.kernel[axis]
        shape[axis] *= n
        between = graph.integers(axis + 3)
        whole = graph.integers(-1, channels, *shape)
        parts = [
            graph.op(
                "Reshape",
                graph.op(
                    "Concat",
                    *(graph.op("Unsqueeze", p, between) for p in parts[at : at + n]),
                    axis=axis + 3,
                ),
                whole,
            )
            for at in range(0, len(parts), n)
        ]
    return parts[0]


def _average_pool(site: Site) -> list[str | None]:
    """Each window gives its share to every element: a transposed convolution with ones."""
    graph, op = site.graph, site.graph.op
    lie = windows(site, site.attributes["kernel_shape"], small=site.y, large=site.x)
    share = op("Div", site.gradient, graph.constant(_elements(site, lie)[None, None]))
    alone = op("Reshape", share, graph.integers(-1, 1, *lie.small))
    over = lie.uncovered
    spread = op(
        "ConvTranspose",
        alone,
        graph.constant(np.ones((1, 1, *lie.kernel), np.float32)),
        kernel_shape=lie.kernel,
        strides=lie.strides,
        dilations=lie.dilations,
        pads=[*lie.before, *(a + max(-o, 0) for a, o in zip(lie.after, over, strict=True))],
        output_padding=[max(o, 0) for o in over] if any(o > 0 for o in over) else None,
    )
    channels = graph.sizes(site.x, 1, 2)
    return site.only_first(op("Reshape", spread, graph.integers(-1, *channels, *lie.large)))


def _elements(site: Site, lie: Windows) -> NDArray[np.float32]:
    """float32 (*small): how many elements each window is the mean of."""
    counts = np.ones(lie.small, np.float32)
    with_pads = site.attributes.get("count_include_pad", 0)
    for axis in range(lie.rank):
        first = np.arange(lie.small[axis]) * lie.strides[axis] - lie.before[axis]
        inside = first[:, None] + np.arange(lie.kernel[axis]) * lie.dilations[axis]
        low = -lie.before[axis] if with_pads else 0
        high = lie.large[axis] + (lie.after[axis] if with_pads else 0)
        along = ((inside >= low) & (inside < high)).sum(1)
        counts *= along.reshape([-1 if a == axis else 1 for a in range(lie.rank)])
    return counts


def _global_average_pool(site: Site) -> list[str | None]:
    graph, op = site.graph, site.graph.op
    count = graph.n_elements(site.x, range(2, graph.rank(site.x)))
    return site.only_first(op("Expand", op("Div", site.gradient, count), op("Shape", site.x)))


def _global_max_pool(site: Site) -> list[str | None]:
    """Elements that are equal share the gradient, as in torch's amax."""
    graph, op = site.graph, site.graph.op
    chosen = op("Cast", op("Equal", site.x, site.y), to=FLOAT)
    number = graph.sum(chosen, range(2, graph.rank(site.x)), keep=True)
    return site.only_first(op("Mul", chosen, op("Div", site.gradient, number)))


RULES: dict[str, Rule] = {
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_average_pool,
    "GlobalMaxPool": _global_max_pool,
    "MaxPool": _max_pool,
}
