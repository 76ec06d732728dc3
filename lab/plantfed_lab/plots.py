"""What all plots of our reports share: SVG that takes colours and fonts from the page."""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

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
"""More machines are shown as curves, without names."""
MANY_NAMES = 10
"""More machine names do not fit beside each other."""


@contextmanager
def figure(width: float, height: float) -> Iterator[Axes]:
    """One plot, to be drawn into.

    Args:
        width: inches; the text is 10 points high.
        height: inches.
    """
    with figure_of(1, width, height) as (axes,):
        yield axes


@contextmanager
def figure_of(n: int, width: float, height: float) -> Iterator[tuple[Axes, ...]]:
    """Plots below each other that share their horizontal axis; see :func:`figure`."""
    with matplotlib.rc_context(_SETTINGS):
        # without pyplot: no window system is looked for and nothing is left open
        whole = Figure(figsize=(width, height), layout="constrained")
        yield tuple(whole.subplots(n, 1, sharex=True, squeeze=False)[:, 0])


def named_by_machine(axes: Axes, names: Sequence[str]) -> None:
    """Put names under positions 0, 1, 2, ..., upright where they fit beside each other."""
    axes.set_xlim(-0.6, len(names) - 0.4)
    if len(names) > MANY_NAMES:
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    else:
        axes.set_xticks(range(len(names)), names)
    axes.tick_params(axis="x", length=0)


def in_percent(axes: Axes, what: str) -> None:
    """Let the vertical axis be a share, from 0 to 100 %."""
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    axes.set_ylabel(what)


def svg(axes: Axes, name: str, description: str) -> str:
    """The figure as an element of a page: no prologue, no foreign names, its own ids.

    Args:
        axes: one of its plots.
        name: begins every id, so that several figures fit into one page.
        description: for those who cannot see it.
    """
    buffer = io.StringIO()
    whole = axes.get_figure(root=True)
    assert whole is not None
    with matplotlib.rc_context({"svg.hashsalt": name}):
        whole.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # its style sheet would be that of the whole page
    text = re.sub(r"<(metadata|style)\b.*?</\1>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\1{name}-", text)
    for told, meant in _STYLE_OF.items():
        text = text.replace(told, meant)
    # the page decides how wide it is
    text = re.sub(r' (width|height)="[^"]*pt"', "", text)
    return text.replace("<svg", f'<svg role="img" aria-label="{description}"', 1)
