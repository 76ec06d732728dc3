"""``report.html`` of a simulation: one file that says what a roll-out would be like."""

from collections.abc import Sequence
from math import inf

from markupsafe import Markup

from plantfed_lab.charts import staleness_chart
from plantfed_lab.plots import MANY_MACHINES
from plantfed_lab.simulation.charts import (
    lateness_chart,
    score_by_lateness,
    score_over_bytes,
    score_over_time,
)
from plantfed_lab.simulation.rates import DAY_S, training_s
from plantfed_lab.simulation.result import MachineResult, SimulationResult
from plantfed_lab.simulation.wording import (
    duration,
    headline,
    mean_staleness,
    milestone_name,
    rounds_until_rest,
    score_text,
    short_milestone_name,
    short_score,
    still_rising,
    volume,
    worst_machine,
)
from plantfed_lab.templating import fill

SHOWN_AT_EACH_END = 10
"""Of many machines the table shows so many of the worst and of the best."""


def render_simulation_report(result: SimulationResult) -> str:
    """The whole page; nothing in it is loaded from elsewhere."""
    kind = result.score_kind
    ordered = by_score(result.machines)
    many = len(ordered) > MANY_MACHINES
    return fill(
        "simulation.html.j2",
        r=result,
        headline=headline(result),
        scored=result.mean_score is not None,
        worst=worst_machine(result),
        late=mean_staleness(result),
        duration=duration,
        volume=volume,
        score_text=lambda score: score_text(score, kind),
        short_score=lambda score: short_score(score, kind),
        rising=still_rising(result.curve),
        short_milestone_name=short_milestone_name,
        milestone_name=lambda milestone: milestone_name(milestone, kind),
        shown=[*ordered[:SHOWN_AT_EACH_END], *ordered[-SHOWN_AT_EACH_END:]] if many else ordered,
        n_hidden=len(ordered) - 2 * SHOWN_AT_EACH_END if many else 0,
        shown_at_each_end=SHOWN_AT_EACH_END,
        daily_updates=lambda m: m.updates / training_s(m, result) * DAY_S,
        rounds_until_rest=rounds_until_rest(result.machines),
        silent=sum(m.updates == 0 for m in result.machines),
        times_found=_times_found(result),
        charts=_charts(result),
    )


def by_score(machines: Sequence[MachineResult]) -> list[MachineResult]:
    """The worst first; where nothing is scored, the one with the fewest updates."""

    def rank(machine: MachineResult) -> tuple[float, int, str]:
        score = inf if machine.score is None else machine.score
        return score, machine.updates, machine.id

    return sorted(machines, key=rank)


def _times_found(result: SimulationResult) -> list[float | None]:
    """Virtual seconds to each milestone in the run itself."""
    milestones = result.forecast.milestones if result.forecast else ()
    return [m.reached.seconds if m.reached else None for m in milestones]


def _charts(result: SimulationResult) -> dict[str, Markup]:
    plots = {
        "late": lateness_chart(result.machines),
        "staleness": staleness_chart(result.staleness_counts),
    }
    if result.mean_score is not None:
        plots["time"] = score_over_time(result)
        plots["bytes"] = score_over_bytes(result)
        plots["price"] = score_by_lateness(result)
    return {name: Markup(plot) for name, plot in plots.items()}  # noqa: S704 - made by us, of numbers
