"""Mode ``auto`` with one setting, against every other mode with as many tuning runs.

Each mode has one knob with three values.  The value with the best mean accuracy over the three data
sets and both participations, on the seeds for tuning, is used for all; then it is run on other
seeds, once.
``fedavg, prior`` is FedAvg with auto's class prior in training and in use.
"""

from dataclasses import dataclass
from math import isnan, nan
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.learning.accuracy import LONGEST_S, POINT, ROUNDS
from benchmarks.learning.central import central_accuracies
from benchmarks.learning.federation import Federation
from benchmarks.learning.pool import run_all
from benchmarks.learning.tasks import OF_OTHER_MEANING, TASKS, those_here
from benchmarks.report import Cell, Goal, Grid, Report
from plantfed_shared.definition import Algorithm, Schedule

PARTICIPATIONS = (0.3, 0.1)
TUNING = {"tep": range(3), "cmapss": range(3), "cwru": range(5)}
CHECK = {"tep": range(10, 13), "cmapss": range(10, 13), "cwru": range(10, 15)}
UNSEEN = dict.fromkeys(CHECK, range(184, 208))
"""None of these was run before auto was what it is; with CHECK in sight its rule for own last
layers was made, and with seeds from 30, 50, 80, 130 and 160 on, which had this place before, it
was found wanting; its penalty and relaxation are from seeds 100 to 123, how much of its duals
counts from those, 130 to 141 and 160 to 171.  So many because modes differ by 1 to 2 points from
seed to seed."""
SPLITS = ((TUNING, "seeds for tuning"), (CHECK, "other seeds"), (UNSEEN, "unseen seeds"))
AUTO, CENTRAL, WITH_PRIOR = "auto", "central", "fedavg, prior"
HALF_AND_DOUBLE = (1.0, 0.5, 2.0)
KNOBS: dict[str, tuple[str, tuple[float, ...]]] = {
    "local": ("learning_rate", HALF_AND_DOUBLE),
    "fedavg": ("learning_rate", HALF_AND_DOUBLE),
    WITH_PRIOR: ("learning_rate", HALF_AND_DOUBLE),
    "fedprox": ("proximal", HALF_AND_DOUBLE),
    "fedalt": ("learning_rate", HALF_AND_DOUBLE),
    "fedsim": ("learning_rate", HALF_AND_DOUBLE),
    "fedapm": ("penalty", HALF_AND_DOUBLE),
    AUTO: ("penalty", HALF_AND_DOUBLE),
}
"""What is tuned, as a multiple of the task's setting."""
SHOWN = {
    "mean": "mean",
    "worst": "worst machine",
    "newest": "newest release",
    "without_prior": "without prior",
    "unseen": "unseen classes",
    "unseen_without_prior": "unseen, without prior",
}
"""What is found of a run, and its columns."""
SHOWN_FOR = {
    "newest": (AUTO,),
    "without_prior": (AUTO, WITH_PRIOR),
    "unseen": (AUTO, WITH_PRIOR),
    "unseen_without_prior": (AUTO, WITH_PRIOR),
}
BEHIND, BEHIND_OF_FEW, BEHIND_BY_TASK = 0.5, 1.0, {"tep": -2.0}
"""Points of accuracy that auto may be behind: as a rule, of 10 % in a round, and on one set."""


@dataclass(frozen=True, slots=True)
class Job:
    """One synchronous run.

    Attributes:
        task: name of the data set.
        data: folder of those that are not shipped.
        seed: of split, start and draws.
        contender: a mode, "fedavg, prior" or "central".
        factor: of its knob.
        participation: part of the machines in a round.
        rounds: of the run.
    """

    task: str
    data: Path | None
    seed: int
    contender: str
    factor: float
    participation: float
    rounds: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a run, over machines.

    Attributes:
        mean: accuracy.
        worst: machine.
        newest: mean accuracy of the newest release, where machines use its average.
        without_prior: mean accuracy without the prior.
        unseen: mean accuracy on rows of classes a machine has never seen.
        unseen_without_prior: the same without the prior.
    """

    mean: float
    worst: float
    newest: float
    without_prior: float
    unseen: float
    unseen_without_prior: float


def carry_out(job: Job) -> Outcome:
    """Run one federation, or central training."""
    task = {**TASKS, **OF_OTHER_MEANING}[job.task](job.seed, job.data)
    if job.contender == CENTRAL:
        found = central_accuracies(task, job.seed, job.rounds, job.participation)
        average = float(found.mean())
        return Outcome(average, float(found.min()), average, average, nan, nan)
    knob, _ = KNOBS[job.contender]
    has_prior = job.contender == WITH_PRIOR
    contender = "fedavg" if has_prior else job.contender
    mode = Algorithm.model_validate({"mode": contender}).mode
    usual = getattr(task.algorithm_in(mode), knob)
    schedule = Schedule(
        kind="sync",
        participation=job.participation,
        min_members=len(task.machines),
        max_releases=job.rounds,
        seed=job.seed,
    )
    definition = task.defined(
        mode,
        schedule,
        **dict[str, Any]({knob: usual * job.factor}),
    )
    federation = Federation(
        task, definition, seed=job.seed, as_reference=True, with_prior=has_prior or None
    )
    if not federation.run(LONGEST_S, lambda: federation.state.final):
        raise RuntimeError(f"{job} stopped after {federation.updates} updates")
    used = federation.measure()
    newest, bare = federation.measure(newest=True), federation.measure(use_prior=False)
    unseen, bare_unseen = (federation.unseen_recall(use_prior=prior) for prior in (True, False))
    return Outcome(used.mean, used.worst, newest.mean, bare.mean, unseen, bare_unseen)


def run(*, quick: bool, data: Path | None) -> Report:
    """Tune on some seeds, check on others."""
    report = Report("one-setting")
    names = those_here(TASKS, data, report.skipped)
    rounds, factors, most = (3, 1, 1) if quick else (ROUNDS, 3, None)

    def jobs(
        split: dict[str, range], participation: float, factor_of: dict[str, float]
    ) -> list[Job]:
        return [
            Job(name, data, seed, contender, factor, participation, rounds)
            for name in names
            for contender, factor in factor_of.items()
            for seed in split[name][:most]
        ]

    found: dict[Job, Outcome] = {}

    def do(what: str, wanted: list[Job]) -> None:
        new = [job for job in wanted if job not in found]
        found.update(zip(new, run_all(what, carry_out, new), strict=True))

    tried = [{c: values[i] for c, (_, values) in KNOBS.items()} for i in range(factors)]
    tuning = [
        job
        for factor_of in tried
        for participation in PARTICIPATIONS
        for job in jobs(TUNING, participation, factor_of)
    ]
    do("tuning", tuning)
    chosen = {c: _best(found, c, values[:factors]) for c, (_, values) in KNOBS.items()}
    everybody = {**chosen, CENTRAL: 1.0}
    for split, title in SPLITS:
        for participation in PARTICIPATIONS:
            wanted = jobs(split, participation, everybody)
            do(title, wanted)
            of_it = {job: found[job] for job in wanted}
            within = f"{title}, {participation:.0%} in a round"
            report.grids += [grid(name, within, of_it) for name in names]
            if split is not TUNING and not quick:
                report.goals += _goals(names, participation, of_it, title)
    what = ", ".join(f"{c} {KNOBS[c][0]} x {factor:g}" for c, factor in chosen.items())
    report.notes.append(f"{rounds} rounds; {factors} values tried of each knob; chosen: {what}")
    return report


def _best(found: dict[Job, Outcome], contender: str, values: tuple[float, ...]) -> float:
    """The value with the best mean over data sets of the mean over seeds."""

    def over_all(factor: float) -> float:
        by_task: dict[str, list[float]] = {}
        for job, outcome in found.items():
            if (job.contender, job.factor) == (contender, factor):
                by_task.setdefault(job.task, []).append(outcome.mean)
        return mean(mean(each) for each in by_task.values())

    return max(values, key=over_all)


def _goals(
    names: list[str], participation: float, found: dict[Job, Outcome], title: str
) -> list[Goal]:
    """Against the best of the others, FedAvg with the prior among them."""
    goals = []
    for name in names:
        levels = {
            contender: (level(found, name, contender), level(found, name, contender, "worst"))
            for contender in dict.fromkeys(job.contender for job in found)
            if contender != CENTRAL
        }
        own, own_worst = levels.pop(AUTO)
        best, worst_of_best = max(levels.values())
        usual = participation == PARTICIPATIONS[0]
        limit = (BEHIND_BY_TASK.get(name, BEHIND) if usual else BEHIND_OF_FEW) * POINT
        what = f"{name}, {title}, {participation:.0%}: auto is behind the best other by"
        goals.append(Goal(what, best - own, limit, "of accuracy"))
        if usual:
            what = f"{name}, {title}: its worst machine is behind that of the best other by"
            goals.append(Goal(what, worst_of_best - own_worst, 2 * POINT, "of accuracy"))
    return goals


def level(found: dict[Job, Outcome], task: str, contender: str, what: str = "mean") -> float:
    """The mean over seeds of what is found."""
    jobs = ((j, o) for j, o in found.items() if (j.task, j.contender) == (task, contender))
    return mean(float(getattr(outcome, what)) for _, outcome in jobs)


def grid(name: str, title: str, found: dict[Job, Outcome]) -> Grid:
    """Means over seeds on one data set, a row for each contender; what nobody has is left out."""
    contenders = tuple(dict.fromkeys(job.contender for job in found))
    columns: dict[str, list[Cell]] = {"contender": list(contenders)}
    for what, title_of_it in SHOWN.items():
        values = [
            level(found, name, c, what) if c in SHOWN_FOR.get(what, contenders) else nan
            for c in contenders
        ]
        if not all(map(isnan, values)):
            columns[title_of_it] = ["" if isnan(value) else value for value in values]
    return Grid(f"{name}, {title}", list(columns), list(zip(*columns.values(), strict=True)))
