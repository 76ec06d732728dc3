"""Mode ``auto`` where labels mean something else on each machine, and where there are none.

``digits``: every machine has names of its own for the digits.  ``tep-renamed``: a quarter of the
plants have.  ``cmapss-life``: cycles left, a target; accuracies are minus RMSE in cycles.  Each
other mode has three values of its knob tried on each set; ``auto`` has the one setting.
"""

from pathlib import Path

from benchmarks.learning.accuracy import POINT, ROUNDS
from benchmarks.learning.one_setting import AUTO, KNOBS, WITH_PRIOR, Job, Outcome, carry_out, grid
from benchmarks.learning.one_setting import level as level_of
from benchmarks.learning.pool import run_all
from benchmarks.learning.tasks import OF_OTHER_MEANING, those_here
from benchmarks.report import Goal, Report

TUNING, UNSEEN = range(3), range(184, 196)
PAPER, LIFE = "fedapm", "cmapss-life"
LARGER_ERROR = 1.02


def run(*, quick: bool, data: Path | None) -> Report:
    """Tune the others on some seeds, check all on others."""
    report = Report("other-meaning")
    names = those_here(OF_OTHER_MEANING, data, report.skipped)
    rounds, tried, n_seeds = (3, 1, 1) if quick else (ROUNDS, 3, None)
    others = {c: values[:tried] for c, (_, values) in KNOBS.items() if c not in (AUTO, WITH_PRIOR)}
    tuning = [
        Job(name, data, seed, contender, factor, 0.3, rounds)
        for name in names
        for contender, factors in others.items()
        for factor in factors
        for seed in TUNING[:n_seeds]
    ]
    found = dict(zip(tuning, run_all("tuning", carry_out, tuning), strict=True))
    wanted = [
        Job(name, data, seed, contender, factor, 0.3, rounds)
        for name in names
        for contender, factor in {**_chosen(found, name, others), AUTO: 1.0}.items()
        for seed in UNSEEN[:n_seeds]
    ]
    checked = dict(zip(wanted, run_all("check", carry_out, wanted), strict=True))
    report.grids += [grid(n, "unseen seeds, 30% in a round", checked) for n in names]
    report.notes.append(f"{rounds} rounds; {LIFE}: minus RMSE in cycles")
    if quick:
        report.notes.append("too few rounds to compare anything")
    else:
        report.goals += [_goal(name, checked) for name in names]
    return report


def _chosen(
    found: dict[Job, Outcome], name: str, others: dict[str, tuple[float, ...]]
) -> dict[str, float]:
    """The value of each mode's knob with the best mean over seeds."""

    def of(contender: str, factor: float) -> float:
        mine = {job: outcome for job, outcome in found.items() if job.factor == factor}
        return level_of(mine, name, contender)

    def best(contender: str) -> float:
        return max(others[contender], key=lambda factor: of(contender, factor))

    return {contender: best(contender) for contender in others}


def _goal(name: str, found: dict[Job, Outcome]) -> Goal:
    own = level_of(found, name, AUTO)
    if name == LIFE:
        modes = {job.contender for job in found} - {AUTO}
        best = max(level_of(found, name, mode) for mode in modes)
        return Goal(f"{name}: auto's RMSE by the best other's", own / best, LARGER_ERROR, "times")
    behind = level_of(found, name, PAPER) - own
    return Goal(f"{name}: auto is behind {PAPER} by", behind, POINT, "of accuracy")
