"""All modes on three data sets: mean and worst machine at the end of a run, and bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean, stdev

from benchmarks.learning.central import central_accuracies
from benchmarks.learning.federation import Federation
from benchmarks.learning.pool import run_all
from benchmarks.learning.tasks import TASKS, those_here
from benchmarks.report import Cell, Goal, Grid, Report
from plantfed_shared.definition import Algorithm, Mode, Schedule
from plantfed_shared.wording import counted

ROUNDS = 100
PARTICIPATION = 0.3
SEEDS = {"tep": 3, "cmapss": 3, "cwru": 5}
LONGEST_S = 1e7
POINT = 0.01
MODES = ("local", "central", "fedavg", "fedprox", "fedalt", "fedsim", "fedapm")
INDEPENDENT = {
    "tep": (0.711, 0.657, 0.461, 0.466, 0.748, 0.748, 0.743),
    "cmapss": (0.517, 0.651, 0.623, 0.644, 0.554, 0.572, 0.550),
    "cwru": (0.955, 0.986, 0.986, 0.985, 0.958, 0.961, 0.957),
}
"""Mean accuracies at the end of the same runs, computed by an independent implementation."""
ASYNCHRONOUS = ("fedapm", "fedalt", "fedbuff", "fedasync")
FEDASYNC_SHARE = 0.6


@dataclass(frozen=True, slots=True)
class Job:
    """One run.

    Attributes:
        task: name of the data set.
        data: folder of those that are not shipped.
        seed: of split, start and draws.
        mode: or "central".
        asynchronous: nobody waits; as many updates as the synchronous runs have.
        participation: part of the machines in a round.
        rounds: synchronous ones.
    """

    task: str
    data: Path | None
    seed: int
    mode: str
    asynchronous: bool = False
    participation: float = PARTICIPATION
    rounds: int = ROUNDS


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a run.

    Attributes:
        mean: accuracy over machines.
        worst: machine.
        bytes_up: MQTT bytes from all machines.
        bytes_down: to them.
    """

    mean: float
    worst: float
    bytes_up: int = 0
    bytes_down: int = 0


def carry_out(job: Job) -> Outcome:
    """Run one federation, or central training."""
    task = TASKS[job.task](job.seed, job.data)
    m = len(task.machines)
    if job.mode == "central":
        found = central_accuracies(task, job.seed, job.rounds, job.participation)
        return Outcome(float(found.mean()), float(found.min()))
    participants = max(int(job.participation * m), 1)
    mode: Mode = Algorithm.model_validate({"mode": job.mode}).mode
    if job.asynchronous:
        arrivals = 1 if mode == "fedasync" else participants
        schedule = Schedule(arrivals=arrivals, min_members=m, seed=job.seed)
    else:
        schedule = Schedule(
            kind="sync",
            participation=job.participation,
            min_members=m,
            max_releases=job.rounds,
            seed=job.seed,
        )
    server_step = FEDASYNC_SHARE if mode == "fedasync" else 1.0
    federation = Federation(
        task,
        task.defined(mode, schedule, server_step=server_step),
        seed=job.seed,
        as_reference=not job.asynchronous,
    )
    wanted = job.rounds * participants
    ended = federation.run(LONGEST_S, lambda: federation.updates >= wanted)
    if not job.asynchronous:
        ended = federation.run(LONGEST_S, lambda: federation.state.final)
    if not ended:
        raise RuntimeError(f"{job} stopped after {federation.updates} updates")
    last = federation.measure()
    return Outcome(last.mean, last.worst, last.bytes_up, last.bytes_down)


def run(*, quick: bool, data: Path | None) -> Report:
    """The table of all modes and data sets."""
    report = Report("accuracy")
    names = those_here(TASKS, data, report.skipped)
    rounds = 5 if quick else ROUNDS
    jobs = [job for name in names for job in _jobs(name, data, 1 if quick else SEEDS[name], rounds)]
    outcomes = run_all("accuracy", carry_out, jobs)
    for name in names:
        _add(report, name, [(j, o) for j, o in zip(jobs, outcomes, strict=True) if j.task == name])
    if quick:
        report.goals.clear()
        report.notes.append(f"{rounds} rounds and one seed: too few to compare anything")
    report.notes.append(
        f"{rounds} rounds of {PARTICIPATION:.0%} of the machines; the asynchronous modes as many "
        "updates, on computers of equal speed; bytes are MQTT packets of both directions"
    )
    return report


def _jobs(name: str, data: Path | None, seeds: int, rounds: int) -> list[Job]:
    job = partial(Job, name, data, rounds=rounds)
    synchronous = [job(seed, mode) for mode in MODES for seed in range(seeds)]
    return synchronous + [
        job(seed, mode, asynchronous=True) for mode in ASYNCHRONOUS for seed in range(seeds)
    ]


def _add(report: Report, name: str, found: Sequence[tuple[Job, Outcome]]) -> None:
    rows: list[tuple[Cell, ...]] = []
    for (mode, asynchronous), outcomes in _by_mode(found).items():
        average = mean(o.mean for o in outcomes)
        own = None if asynchronous else INDEPENDENT[name][MODES.index(mode)]
        rows.append(
            (
                f"{mode}, async" if asynchronous else mode,
                average,
                stdev([o.mean for o in outcomes]) if len(outcomes) > 1 else 0.0,
                mean(o.worst for o in outcomes),
                mean(o.bytes_up for o in outcomes) / 1e6,
                mean(o.bytes_down for o in outcomes) / 1e6,
                own if own is not None else "",
            )
        )
        if own is not None:
            what = f"{name}, {mode}: difference to an independent implementation"
            report.goals.append(Goal(what, abs(average - own), POINT, "of accuracy"))
    columns = ("mode", "mean", "std", "worst machine", "MB up", "MB down", "independent mean")
    seeds = len({job.seed for job, _ in found})
    report.grids.append(Grid(f"{name}, {counted(seeds, 'seed')}, end of run", columns, rows))


def _by_mode(found: Sequence[tuple[Job, Outcome]]) -> dict[tuple[str, bool], list[Outcome]]:
    groups: dict[tuple[str, bool], list[Outcome]] = {}
    for job, outcome in found:
        groups.setdefault((job.mode, job.asynchronous), []).append(outcome)
    return groups
