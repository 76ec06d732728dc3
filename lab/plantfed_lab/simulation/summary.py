"""The result of a simulation in a few lines of a terminal."""

from plantfed_lab.simulation.result import Forecast, Rates, SimulationResult
from plantfed_lab.simulation.wording import (
    PERCENT_OF_BEST,
    duration,
    mean_staleness,
    milestone_name,
    short_score,
    worst_machine,
)

NOT_REACHED = "not reached"


def summary(result: SimulationResult) -> str:
    """What was found, and the forecast."""
    lines = [
        f"{result.scenario}, seed {result.seed}: {len(result.machines)} machines, "
        f"{duration(result.seconds)} (ended by: {result.ended_by})",
        f"{result.releases} releases, {result.updates} updates, staleness "
        f"{mean_staleness(result):.1f} releases on average, at most "
        f"{max(len(result.staleness_counts) - 1, 0)}",
        f"{result.bytes.up / 1e6:.1f} MB up, {result.bytes.down / 1e6:.1f} MB down",
        *_scores(result),
        f"model {result.model.checksum}",
    ]
    if result.forecast is not None:
        lines += ["", *_forecast(result.forecast, result.score_kind)]
    return "\n".join(lines)


def _scores(result: SimulationResult) -> list[str]:
    worst = worst_machine(result)
    if result.mean_score is None or worst is None:
        return []
    mean, least = (short_score(s, result.score_kind) for s in (result.mean_score, worst.score))
    what = "accuracy" if result.score_kind == "accuracy" else "RMSE"
    return [f"{what} {mean} on average, {least} on {worst.id}"]


def _forecast(forecast: Forecast, kind: str) -> list[str]:
    most = forecast.heaviest
    lines = [
        f"per machine and day: {_kilobytes(forecast.rates)}, {forecast.rates.updates:,.0f} updates",
        f"most: {most.id}, {most.bytes_up / 1e3:,.0f} KB up, {most.bytes_down / 1e3:,.0f} KB down",
    ]
    for milestone in forecast.milestones:
        point = milestone.reached
        when = NOT_REACHED
        if point is not None:
            megabytes = (point.bytes_up + point.bytes_down) / 1e6
            when = f"after {duration(point.seconds)} and {megabytes:.1f} MB of all machines"
        lines.append(f"{milestone_name(milestone, kind)}: {when}")
    return lines + _variations(forecast)


def _variations(forecast: Forecast) -> list[str]:
    lines = []
    for variation in forecast.variations:
        text = f"{variation.change}: {_kilobytes(variation.expected)}"
        # the last milestone is the one that was reached in any run with scores
        seconds = variation.milestone_s[-1] if variation.milestone_s else None
        if seconds is not None:
            text += f", {PERCENT_OF_BEST} % of the best after about {duration(seconds)}"
        lines.append(text)
    return lines


def _kilobytes(rates: Rates) -> str:
    return f"{rates.bytes_up / 1e3:,.0f} KB up, {rates.bytes_down / 1e3:,.0f} KB down"
