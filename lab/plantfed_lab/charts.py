"""The plots of the demo's report."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from plantfed_lab.plots import (
    GLOBAL,
    LOCAL,
    MANY_MACHINES,
    PERSONAL,
    figure,
    in_percent,
    named_by_machine,
    svg,
)
from plantfed_lab.results import AgentResult, ReportedScore

Numbers = NDArray[Any]

LONG_TAIL = 20
"""Updates at least so many releases old share one bar."""
SMOOTHED_OVER = 30
"""The smooth curve is a mean over so many parts of the run."""


def accuracy_chart(agents: Sequence[AgentResult]) -> str:
    """Accuracy of each machine, three bars each; for many machines curves sorted by height."""
    ways = {
        "personal": ([a.accuracy.personal for a in agents], PERSONAL),
        "alone": ([a.accuracy.local for a in agents], LOCAL),
        "one global model": ([a.accuracy.of_global for a in agents], GLOBAL),
    }
    with figure(width=9.6, height=3.4) as axes:
        if len(agents) > MANY_MACHINES:
            _ranked(axes, ways)
        else:
            _grouped(axes, ways, [a.id for a in agents])
        in_percent(axes, "accuracy")
        axes.legend(ncols=3, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
        return svg(axes, "accuracy", "Accuracy of every machine, trained in three ways")


def learning_chart(reported: Sequence[ReportedScore], local: float, of_global: float) -> str:
    """Mean accuracy that agents reported, over releases; what the alternatives reached as lines."""
    points = [(r.k, r.mean) for r in reported if r.mean is not None]
    with figure(width=4.7, height=3.0) as axes:
        if points:
            k, mean = (np.array(column) for column in zip(*points, strict=True))
            axes.plot(k, mean, color=PERSONAL, linewidth=0.6, alpha=0.35)
            axes.plot(*_smoothed(k, mean), color=PERSONAL, linewidth=2, label="reported")
        axes.axhline(local, color=LOCAL, linewidth=1.4, linestyle="--", label="alone, at the end")
        axes.axhline(
            of_global, color=GLOBAL, linewidth=1.4, linestyle=":", label="global, at the end"
        )
        in_percent(axes, "accuracy")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_xlabel("release")
        axes.legend(loc="lower right", fontsize=9)
        return svg(axes, "learning", "Mean reported accuracy over the releases")


def staleness_chart(counts: Sequence[int]) -> str:
    """How many updates were how many releases old when they arrived."""
    shown = [*counts[:LONG_TAIL], sum(counts[LONG_TAIL:])] if len(counts) > LONG_TAIL else counts
    with figure(width=4.7, height=3.0) as axes:
        axes.bar(range(len(shown)), shown, color=PERSONAL, width=0.8)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        tail = f"; the last bar: {LONG_TAIL} or more" if len(counts) > LONG_TAIL else ""
        axes.set_xlabel(f"releases made meanwhile{tail}")
        axes.set_ylabel("updates")
        return svg(axes, "staleness", "Updates by the number of releases made meanwhile")


def _grouped(axes: Axes, ways: Mapping[str, tuple[list[float], str]], names: Sequence[str]) -> None:
    at = np.arange(len(names))
    width = 0.8 / len(ways)
    for number, (label, (values, colour)) in enumerate(ways.items()):
        axes.bar(at + (number - 1) * width, values, width, color=colour, label=label)
    named_by_machine(axes, names)


def _ranked(axes: Axes, ways: Mapping[str, tuple[list[float], str]]) -> None:
    for label, (values, colour) in ways.items():
        axes.plot(range(1, len(values) + 1), sorted(values), color=colour, label=label, linewidth=2)
    axes.set_xlim(1, None)
    axes.set_xlabel("machines, each curve from its worst to its best")


def _smoothed(k: Numbers, mean: Numbers) -> tuple[Numbers, Numbers]:
    """A running mean, shorter at both ends."""
    half = max(1, len(k) // SMOOTHED_OVER) // 2
    sums = np.concatenate([[0.0], np.cumsum(mean)])
    first = np.maximum(np.arange(len(k)) - half, 0)
    last = np.minimum(np.arange(len(k)) + half + 1, len(k))
    return k, (sums[last] - sums[first]) / (last - first)
