"""The plots of the report: SVG that takes colours and fonts from the page it goes into."""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from plantfed_lab.results import AgentResult, ReportedScore

Numbers = NDArray[Any]

INK, LINE, PERSONAL, LOCAL, GLOBAL = "#010101", "#020202", "#030303", "#040404", "#050505"
_STYLE_OF = {
    INK: "var(--ink)",
    LINE: "var(--line)",
    PERSONAL: "var(--personal)",
    LOCAL: "var(--local)",
    GLOBAL: "var(--global)",
}
"""Colours as matplotlib is told them -> as the page defines them, light or dark."""
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}
MANY_MACHINES = 40
MANY_NAMES = 10
"""More machine names do not fit beside each other."""
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
    with _figure(width=9.6, height=3.4) as axes:
        if len(agents) > MANY_MACHINES:
            _ranked(axes, ways)
        else:
            _grouped(axes, ways, [a.id for a in agents])
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        axes.set_ylabel("accuracy")
        axes.legend(ncols=3, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
        return _svg(axes, "accuracy", "Accuracy of every machine, trained in three ways")


def learning_chart(reported: Sequence[ReportedScore], local: float, of_global: float) -> str:
    """Mean accuracy that agents reported, over releases; what the alternatives reached as lines."""
    points = [(r.k, r.mean) for r in reported if r.mean is not None]
    with _figure(width=4.7, height=3.0) as axes:
        if points:
            k, mean = (np.array(column) for column in zip(*points, strict=True))
            axes.plot(k, mean, color=PERSONAL, linewidth=0.6, alpha=0.35)
            axes.plot(*_smoothed(k, mean), color=PERSONAL, linewidth=2, label="reported")
        axes.axhline(local, color=LOCAL, linewidth=1.4, linestyle="--", label="alone, at the end")
        axes.axhline(
            of_global, color=GLOBAL, linewidth=1.4, linestyle=":", label="global, at the end"
        )
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        axes.set_ylabel("accuracy")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_xlabel("release")
        axes.legend(loc="lower right", fontsize=9)
        return _svg(axes, "learning", "Mean reported accuracy over the releases")


def staleness_chart(counts: Sequence[int]) -> str:
    """How many updates were how many releases old when they arrived."""
    shown = [*counts[:LONG_TAIL], sum(counts[LONG_TAIL:])] if len(counts) > LONG_TAIL else counts
    with _figure(width=4.7, height=3.0) as axes:
        axes.bar(range(len(shown)), shown, color=PERSONAL, width=0.8)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        tail = f"; the last bar: {LONG_TAIL} or more" if len(counts) > LONG_TAIL else ""
        axes.set_xlabel(f"releases made meanwhile{tail}")
        axes.set_ylabel("updates")
        return _svg(axes, "staleness", "Updates by the number of releases made meanwhile")


def _grouped(axes: Axes, ways: Mapping[str, tuple[list[float], str]], names: Sequence[str]) -> None:
    at = np.arange(len(names))
    width = 0.8 / len(ways)
    for number, (label, (values, colour)) in enumerate(ways.items()):
        axes.bar(at + (number - 1) * width, values, width, color=colour, label=label)
    axes.set_xlim(-0.6, len(names) - 0.4)
    if len(names) > MANY_NAMES:
        axes.set_xticks(at, names, rotation=45, ha="right", rotation_mode="anchor")
    else:
        axes.set_xticks(at, names)
    axes.tick_params(axis="x", length=0)


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


@contextmanager
def _figure(width: float, height: float) -> Iterator[Axes]:
    with matplotlib.rc_context(_SETTINGS):
        # without pyplot: no window system is looked for and nothing is left open
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure.add_subplot()


def _svg(axes: Axes, name: str, description: str) -> str:
    """The figure as an element of a page: no prologue, no foreign names, its own ids."""
    buffer = io.StringIO()
    figure = axes.get_figure(root=True)
    assert figure is not None
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    # its style sheet would be that of the whole page
    svg = re.sub(r"<(metadata|style)\b.*?</\1>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\1{name}-", svg)
    for told, meant in _STYLE_OF.items():
        svg = svg.replace(told, meant)
    # the page decides how wide it is
    svg = re.sub(r' (width|height)="[^"]*pt"', "", svg)
    return svg.replace("<svg", f'<svg role="img" aria-label="{description}"', 1)
