"""Mode ``auto`` on classes that a machine has never seen, with its class prior on and off.

Every machine of the Tennessee Eastman split knows five of 21 faults.  It is tested with its own
test rows, and with those of all others whose class it has never trained on.
"""

from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

import numpy as np

from benchmarks.learning.accuracy import LONGEST_S, PARTICIPATION, ROUNDS
from benchmarks.learning.federation import Federation
from benchmarks.learning.pool import run_all
from benchmarks.learning.tasks import TASKS
from benchmarks.report import Cell, Grid, Report
from plantfed_agent.kernels import kernel_for
from plantfed_agent.samples import Samples
from plantfed_lab.unseen import recall_of_unseen
from plantfed_shared.definition import Schedule

SEEDS = range(3)


@dataclass(frozen=True, slots=True)
class Found:
    """Means over the machines of one run.

    Attributes:
        own: accuracy on their own test rows.
        unseen: recall of classes they have not trained on.
    """

    own: float
    unseen: float


def carry_out(job: tuple[int, int]) -> dict[bool, Found]:
    """One synchronous run of a seed and so many rounds; with the prior and without it."""
    seed, rounds = job
    task = TASKS["tep"](seed, None)
    schedule = Schedule(
        kind="sync",
        participation=PARTICIPATION,
        min_members=len(task.machines),
        max_releases=rounds,
        seed=seed,
    )
    definition = task.defined("auto", schedule)
    federation = Federation(task, definition, seed=seed, as_reference=True)
    if not federation.run(LONGEST_S, lambda: federation.state.final):
        raise RuntimeError(f"seed {seed} stopped after {federation.updates} updates")
    kernel = kernel_for(definition)
    tests = {name: sets.test for name, sets in task.machines.items() if sets.test is not None}
    everyone = Samples(
        np.concatenate([test.x for test in tests.values()]),
        np.concatenate([test.y for test in tests.values()]),
    )
    found = {}
    for use_prior in (True, False):
        own, unseen, used = [], [], federation.parameters(use_prior=use_prior)
        for name, test in tests.items():
            y = task.machines[name].train.y
            parameters = used[name]
            own.append(float((kernel.outputs(parameters, test.x).argmax(1) == test.y).mean()))
            answers = kernel.outputs(parameters, everyone.x).argmax(1)
            recall = recall_of_unseen(answers, everyone.y, set(y.tolist()))
            unseen += [] if recall is None else [recall]
        found[use_prior] = Found(mean(own), mean(unseen))
    return found


def run(*, quick: bool, data: Path | None) -> Report:
    """Measure three seeds of the shipped data."""
    del data
    rounds, seeds = (3, SEEDS[:2]) if quick else (ROUNDS, SEEDS)
    found = run_all("unseen classes", carry_out, [(seed, rounds) for seed in seeds])
    rows: list[list[Cell]] = []
    for use_prior, prior in ((True, "own"), (False, "uniform")):
        own = [outcome[use_prior].own for outcome in found]
        unseen = [outcome[use_prior].unseen for outcome in found]
        rows.append([prior, mean(own), stdev(own), mean(unseen), stdev(unseen)])
    columns = ["--prior", "own test rows", "std", "recall of unseen classes", "std"]
    report = Report("unseen")
    report.grids.append(Grid(f"auto on tep, {rounds} rounds, {len(found)} seeds", columns, rows))
    report.notes.append(
        "Unseen: test rows of all machines whose class the machine has not trained on."
    )
    return report
