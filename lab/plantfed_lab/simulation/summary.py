"""The result of a simulation in a few lines of a terminal."""

from plantfed_lab.simulation.result import (
    Forecast,
    HeaviestTraffic,
    Rates,
    SimulationResult,
    UntilRest,
)
from plantfed_lab.simulation.wording import (
    PERCENT_OF_BEST,
    duration,
    mean_staleness,
    milestone_name,
    short_score,
    still_rising,
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
        lines += ["", *_forecast(result.forecast, result)]
    return "\n".join(lines)


def _scores(result: SimulationResult) -> list[str]:
    worst = worst_machine(result)
    if result.mean_score is None or worst is None:
        return []
    mean, least = (short_score(s, result.score_kind) for s in (result.mean_score, worst.score))
    what = "accuracy" if result.score_kind == "accuracy" else "RMSE"
    return [f"{what} {mean} on average, {least} on {worst.id}"]


def _forecast(forecast: Forecast, result: SimulationResult) -> list[str]:
    n, kind, curve = len(result.machines), result.score_kind, result.curve
    most, rest = forecast.heaviest, forecast.until_rest
    lines = []
    if rest is not None:
        lines.append(
            f"per machine: {rest.updates:,.0f} updates, {_kilobytes(rest)}, then it rests until "
            f"new rows; all do after {'about ' * (rest.rested < n)}{duration(rest.seconds)}"
        )
    while_training = "" if rest is None else " without rest"
    lines += [
        f"per machine and day{while_training}: {_kilobytes(forecast.rates)}, "
        f"{forecast.rates.updates:,.0f} updates",
        f"most: {most.id}, {_kilobytes(most)}",
    ]
    for milestone in forecast.milestones:
        point = milestone.reached
        when = NOT_REACHED
        if point is not None:
            megabytes = (point.bytes_up + point.bytes_down) / 1e6
            when = f"after {duration(point.seconds)} and {megabytes:.1f} MB of all machines"
        rising = milestone.kind == "near best" and still_rising(curve)
        lines.append(f"{milestone_name(milestone, kind)}: {when}{', still rising' * rising}")
    return lines + _variations(forecast)


def _variations(forecast: Forecast) -> list[str]:
    lines = []
    for variation in forecast.variations:
        rest = variation.until_rest
        text = f"{variation.change}: {_kilobytes(rest or variation.expected)}"
        if rest is not None:
            text += f", all rest after about {duration(rest.seconds)}"
        # the last milestone is the one that was reached in any run with scores
        seconds = variation.milestone_s[-1] if variation.milestone_s else None
        if seconds is not None:
            text += f", {PERCENT_OF_BEST} % of the best after about {duration(seconds)}"
        lines.append(text)
    return lines + [f"{change}: not tried, {why}" for change, why in forecast.left_out.items()]


def _kilobytes(traffic: Rates | UntilRest | HeaviestTraffic) -> str:
    return f"{traffic.bytes_up / 1e3:,.0f} KB up, {traffic.bytes_down / 1e3:,.0f} KB down"
