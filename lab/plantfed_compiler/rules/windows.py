"""Where the windows of convolutions and pools lie."""

from dataclasses import dataclass
from typing import Any

from plantfed_compiler.emitting import Refused
from plantfed_compiler.rules.site import Site


@dataclass(frozen=True)
class Windows:
    """Windows over the spatial axes of (batch, channels, ...) data.

    Attributes:
        kernel: elements of a window along each spatial axis.
        strides: from one window to the next.
        dilations: from one element of a window to the next.
        before: zeros put before the data.
        after: zeros put after.
        small: number of windows along each spatial axis.
        large: elements of the data.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    small: tuple[int, ...]
    large: tuple[int, ...]

    @property
    def rank(self) -> int:
        """Number of spatial axes."""
        return len(self.kernel)

    @property
    def pads(self) -> list[int]:
        """As ONNX has them."""
        return [*self.before, *self.after]

    @property
    def spans(self) -> list[int]:
        """From the first to the last element of a window, both included."""
        return [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True)]

    @property
    def overlap(self) -> bool:
        """Whether an element may be in two windows."""
        return any(s < span for s, span in zip(self.strides, self.spans, strict=True))

    @property
    def uncovered(self) -> list[int]:
        """Elements at the end that no window reaches; negative where windows stick out."""
        return [
            self.large[axis]
            + self.before[axis]
            + self.after[axis]
            - ((self.small[axis] - 1) * self.strides[axis] + self.spans[axis])
            for axis in range(self.rank)
        ]


def windows(site: Site, kernel: list[int], small: str, large: str) -> Windows:
    """Of a node.

    Args:
        site: the node.
        kernel: elements of a window along each spatial axis.
        small: name of the value with one element per window.
        large: name of the value the windows lie over.

    Raises:
        Refused: a spatial size depends on the batch.
    """
    attributes, ones = site.attributes, [1] * len(kernel)
    strides = attributes.get("strides", ones)
    dilations = attributes.get("dilations", ones)
    fewer, more = site.graph.sizes(small, 2), site.graph.sizes(large, 2)
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    gaps = zip(fewer, more, strides, spans, strict=True)
    missing = [max((few - 1) * step + span - many, 0) for few, many, step, span in gaps]
    before, after = _pads(attributes, missing)
    return Windows(
        *(tuple(part) for part in (kernel, strides, dilations, before, after, fewer, more))
    )


def _pads(attributes: dict[str, Any], missing: list[int]) -> tuple[list[int], list[int]]:
    match attributes.get("auto_pad", "NOTSET"):
        case "NOTSET":
            pads = attributes.get("pads", [0] * (2 * len(missing)))
            return list(pads[: len(missing)]), list(pads[len(missing) :])
        case "VALID":
            return [0] * len(missing), [0] * len(missing)
        case "SAME_UPPER":
            return [n // 2 for n in missing], [n - n // 2 for n in missing]
        case "SAME_LOWER":
            return [n - n // 2 for n in missing], [n // 2 for n in missing]
        case other:
            raise Refused(f"auto_pad {other!r} is unknown")
