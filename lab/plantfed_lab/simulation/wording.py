"""What a simulation found, in the words and units of its readers."""

from collections.abc import Sequence

from plantfed_lab.simulation.result import (
    NEAR_BEST,
    CurvePoint,
    MachineResult,
    Milestone,
    SimulationResult,
)
from plantfed_shared.wording import counted

PERCENT_OF_BEST = round(100 * NEAR_BEST)
LAST_PART = 0.1
"""Of a run: a score whose best comes in it may go on rising."""


def duration(seconds: float) -> str:
    """Virtual seconds for a reader: "90 s", "11 min", "17.0 h", "3.0 d"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} d"


def volume(n_bytes: float) -> str:
    """Bytes for a reader: "93 KB", "1.2 MB", "1,234.5 MB"; of 1,000 and 1,000,000."""
    return f"{n_bytes / 1e3:,.0f} KB" if n_bytes < 1e6 else f"{n_bytes / 1e6:,.1f} MB"


def score_text(score: float, kind: str) -> str:
    """A score with its unit: "78.0 % accuracy", or "RMSE 12.3" in target units."""
    return f"{100 * score:.1f} % accuracy" if kind == "accuracy" else f"RMSE {-score:.4g}"


def short_score(score: float | None, kind: str) -> str:
    """The same where a heading says what it is; "-" for none."""
    if score is None:
        return "-"
    return f"{100 * score:.1f} %" if kind == "accuracy" else f"{-score:.4g}"


def milestone_name(milestone: Milestone, kind: str) -> str:
    """Which score it is: "target, 75.0 %" or "97 % of the best, 76.3 %"."""
    score = short_score(milestone.score, kind)
    if milestone.kind == "target":
        return f"target, {score}"
    what = "of the best" if kind == "accuracy" else "as good as the best"
    return f"{PERCENT_OF_BEST} % {what}, {score}"


def short_milestone_name(milestone: Milestone) -> str:
    """The same where a heading has little room."""
    return "target" if milestone.kind == "target" else f"{PERCENT_OF_BEST} % of the best"


def still_rising(curve: Sequence[CurvePoint]) -> bool:
    """Whether the best mean score lies in the last tenth of the curve's time."""
    scored = [(p.mean_score, p.seconds) for p in curve if p.mean_score is not None]
    if not scored:
        return False
    # of equal ones the first: a score that has stood still has not risen
    best = max(score for score, _ in scored)
    reached_s = next(seconds for score, seconds in scored if score == best)
    return reached_s > (1 - LAST_PART) * curve[-1].seconds


def rounds_until_rest(machines: Sequence[MachineResult]) -> str:
    """After how many rounds without new rows they rest: "100 rounds", "20 to 100 rounds"."""
    found = (m.conditions.max_rounds_without_new_rows for m in machines)
    limits = sorted({limit for limit in found if limit is not None})
    if not limits:
        return "to the federation's last release"
    least, most = limits[0], limits[-1]
    return counted(most, "round") if least == most else f"{least:,} to {counted(most, 'round')}"


def headline(result: SimulationResult) -> str:
    """What was found, in one sentence."""
    n, kind = len(result.machines), result.score_kind
    machines, s = counted(n, "machine"), "s" if n == 1 else ""
    best = max((p.mean_score for p in result.curve if p.mean_score is not None), default=None)
    if best is None:
        return _traffic_alone(result)
    if result.target is None:
        return f"{machines} reach{'es' if s else ''} {score_text(best, kind)} in {_run(result)}."
    wanted, reached = score_text(result.target.score, kind), result.target.reached
    if reached is None:
        return (
            f"{machines} do{'es' if s else ''} not reach {wanted} in {_run(result)}: "
            f"{short_score(best, kind)} at best."
        )
    each = volume((reached.bytes_up + reached.bytes_down) / n)
    return (
        f"{machines} reach{'es' if s else ''} {wanted} after {duration(reached.seconds)}, "
        f"for {each} each."
    )


def _traffic_alone(result: SimulationResult) -> str:
    n = len(result.machines)
    each = volume((result.bytes.up + result.bytes.down) / n)
    return (
        f"{counted(n, 'machine')} exchange{'s' if n == 1 else ''} {each} each in "
        f"{_run(result)}, for {counted(result.updates, 'update')}."
    )


def _run(result: SimulationResult) -> str:
    return duration(result.seconds)


def worst_machine(result: SimulationResult) -> MachineResult | None:
    """The machine with the lowest score at the end; None where nothing is scored."""
    scored = [m for m in result.machines if m.score is not None]
    return min(scored, key=lambda m: m.score or 0.0, default=None)


def mean_staleness(result: SimulationResult) -> float:
    """Releases made between base and arrival, over all updates; 0 without any."""
    total = sum(releases * count for releases, count in enumerate(result.staleness_counts))
    return total / max(result.updates, 1)
