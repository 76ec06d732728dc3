"""The plots of a simulation's report."""

from collections.abc import Callable, Sequence
from math import inf, nan

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from plantfed_lab.plots import (
    GLOBAL,
    INK,
    LOCAL,
    MANY_MACHINES,
    PERSONAL,
    figure,
    figure_of,
    in_percent,
    named_by_machine,
    svg,
)
from plantfed_lab.simulation.result import CurvePoint, MachineResult, SimulationResult

UNITS = ((600.0, 1.0, "s"), (9_000.0, 60.0, "min"), (172_800.0, 3600.0, "h"), (inf, 86_400.0, "d"))
"""Up to so many virtual seconds an axis of time is in units of so many seconds, called so."""

MARGIN = 0.04
"""Of the largest staleness, left of 0."""


def score_over_time(result: SimulationResult) -> str:
    """Mean and worst score against virtual time."""
    seconds, unit = _time_unit(result.seconds)
    return _score_chart(
        result,
        lambda point: point.seconds / seconds,
        f"virtual time, {unit}",
        "score-time",
        "Mean and worst score against virtual time",
    )


def score_over_bytes(result: SimulationResult) -> str:
    """Mean and worst score against the bytes of all machines."""
    return _score_chart(
        result,
        lambda point: (point.bytes_up + point.bytes_down) / 1e6,
        "MQTT bytes of all machines, up and down, MB",
        "score-bytes",
        "Mean and worst score against bytes",
    )


def by_lateness(machines: Sequence[MachineResult]) -> list[MachineResult]:
    """The latest first; one without any update is the latest of all."""

    def lateness(machine: MachineResult) -> tuple[float, str]:
        late = machine.mean_staleness
        return (-inf if late is None else -late), machine.id

    return sorted(machines, key=lateness)


def lateness_chart(machines: Sequence[MachineResult]) -> str:
    """Updates of each machine and how late they were; the latest machine first."""
    ordered = by_lateness(machines)
    late = [m.mean_staleness or 0.0 for m in ordered]
    updates = [m.updates for m in ordered]
    with figure_of(2, width=9.6, height=4.6) as (above, below):
        if len(ordered) > MANY_MACHINES:
            at = range(1, len(ordered) + 1)
            above.fill_between(at, late, step="mid", color=PERSONAL, linewidth=0)
            below.scatter(at, updates, s=9, color=LOCAL, linewidths=0)
            below.set_xlim(0.5, len(ordered) + 0.5)
            below.set_xlabel("machines, the latest first")
        else:
            above.bar(range(len(ordered)), late, color=PERSONAL, width=0.8)
            below.bar(range(len(ordered)), updates, color=LOCAL, width=0.8)
            named_by_machine(below, [m.id for m in ordered])
        above.set_ylabel("mean staleness,\nreleases")
        below.set_ylabel("updates")
        above.tick_params(axis="x", length=0)
        above.yaxis.set_major_locator(MaxNLocator(4))
        below.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        for axes in (above, below):
            axes.set_ylim(0, None)
        return svg(above, "late", "Mean staleness and updates of each machine, the latest first")


def score_by_lateness(result: SimulationResult) -> str:
    """Score of each machine at the end against its mean staleness."""
    sign = _sign(result)
    machines = [m for m in result.machines if m.score is not None]
    late = [m.mean_staleness for m in machines]
    scores = [sign * (m.score or 0.0) for m in machines]
    with figure(width=4.7, height=3.0) as axes:
        size = 9 if len(machines) > MANY_MACHINES else 18
        # a machine that delivered nothing has no place on the axis
        at = [nan if x is None else x for x in late]
        axes.scatter(at, scores, s=size, color=PERSONAL, linewidths=0)
        _score_axis(axes, result)
        # a dot at 0 must not be cut in half
        axes.set_xlim(-MARGIN * max((x for x in late if x), default=1.0), None)
        axes.set_xlabel("mean staleness, releases")
        return svg(axes, "price", "Score of each machine against its mean staleness")


def _score_chart(
    result: SimulationResult,
    across: Callable[[CurvePoint], float],
    across_name: str,
    name: str,
    description: str,
) -> str:
    scored = [p for p in result.curve if p.mean_score is not None and p.worst_score is not None]
    sign = _sign(result)
    x = [across(p) for p in scored]
    with figure(width=4.7, height=3.2) as axes:
        axes.plot(
            x,
            [sign * (p.mean_score or 0.0) for p in scored],
            color=PERSONAL,
            linewidth=2,
            label="mean",
        )
        axes.plot(
            x,
            [sign * (p.worst_score or 0.0) for p in scored],
            color=GLOBAL,
            linewidth=1.4,
            label="worst machine",
        )
        if result.target is not None:
            axes.axhline(
                sign * result.target.score, color=INK, linewidth=1, linestyle="--", label="target"
            )
        _score_axis(axes, result)
        # above the plot: no curve is ever there
        axes.legend(ncols=3, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
        axes.set_xlim(0, None)
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axes.set_xlabel(across_name)
        return svg(axes, name, description)


def _sign(result: SimulationResult) -> float:
    """An error is shown as one: low is good."""
    return 1.0 if result.score_kind == "accuracy" else -1.0


def _score_axis(axes: Axes, result: SimulationResult) -> None:
    if result.score_kind == "accuracy":
        in_percent(axes, "accuracy")
    else:
        axes.set_ylim(0, None)
        axes.set_ylabel("root mean square error, target units")


def _time_unit(seconds: float) -> tuple[float, str]:
    return next((length, name) for most, length, name in UNITS if seconds <= most)
