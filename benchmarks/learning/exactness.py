"""Exactness: twenty quadratics that disagree, computers of very unequal speed, one true optimum.

Machine i minimises 1/2 (u - c_i)' H_i (u - c_i) by ten gradient steps a round.  Nothing in the
model can fit all machines at once, so that a method which listens to the fast ones more often than
to the slow ones ends somewhere else.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from math import exp, isfinite
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.learning.contest import RELAXATION, Contender
from benchmarks.learning.pool import run_all
from benchmarks.report import Cell, Goal, Grid, Report
from plantfed_agent.training import TrainingOutcome, TrainingTask
from plantfed_coordinator.records import Applied, EpochStarted, Record
from plantfed_lab.simulation.agent_host import AgentHost
from plantfed_lab.simulation.coordinator_host import CoordinatorHost
from plantfed_lab.simulation.engine import Simulation
from plantfed_shared.bus.memory import MemoryBroker
from plantfed_shared.definition import (
    Algorithm,
    Compression,
    DenseModel,
    FederationDefinition,
    Input,
    Loss,
    Target,
)
from plantfed_shared.messages import Epoch
from plantfed_shared.topics import Topics

MACHINES, SIZE, CONDITION = 20, 200, 30.0
STEPS, STEP = 10, 0.5
SKEW = 1.6
ARRIVALS, QUICK_ARRIVALS = 60_000, 2_000
LATTICE_BITS = 18
LONGEST_S = 1e9
STALLED_S = 3600.0
"""Without an applied update: all are rejected, their numbers have left the lattice."""
TIMES_CLOSER = 100.0

Vector = NDArray[np.float64]


OURS = Contender("fedapm, relaxation 1.6", "fedapm", 1, (("relaxation", RELAXATION),))
BASELINE = Contender("fedbuff, server step 1", "fedbuff", 4)
CONTENDERS = (
    OURS,
    Contender("fedapm", "fedapm", 1),
    BASELINE,
    Contender("fedbuff, server step 4", "fedbuff", 4, (("server_step", 4.0),)),
    Contender("fedasync, share .6", "fedasync", 1, (("server_step", 0.6),)),
    Contender("fedalt", "fedalt", 4),
)


@dataclass(frozen=True, slots=True)
class Quadratics:
    """The machines' objectives.

    Attributes:
        curvature: diagonal of H_i, float64 (machines, size).
        centre: c_i, float64 (machines, size).
    """

    curvature: Vector
    centre: Vector

    @classmethod
    def drawn(cls, seed: int) -> "Quadratics":
        """Condition about 30, alike in shape, with minima all over the place."""
        rng = np.random.default_rng(seed)
        shape = np.logspace(-np.log10(CONDITION), 0, SIZE)
        curvature = shape * np.exp(0.3 * rng.standard_normal((MACHINES, SIZE)))
        return cls(curvature, 2 * rng.standard_normal((MACHINES, SIZE)))

    def optimum(self) -> Vector:
        """Of the sum over all machines."""
        optimum: Vector = (self.curvature * self.centre).sum(0) / self.curvature.sum(0)
        return optimum

    def trainer(self, number: int) -> Callable[[TrainingTask], TrainingOutcome]:
        """Ten gradient steps on one machine's objective, and on what its mode adds to it."""
        curvature, centre = self.curvature[number], self.centre[number]
        head = np.zeros(0, dtype=np.float32)

        def train(task: TrainingTask) -> TrainingOutcome:
            algorithm = task.definition.algorithm
            rho = algorithm.penalty if algorithm.has_duals else 0.0
            base, dual = task.base.astype(np.float64), task.dual.astype(np.float64)
            x = base.copy()
            for _ in range(STEPS):
                x -= STEP * (curvature * (x - centre) + rho * dual + rho * (x - base))
            return TrainingOutcome(x.astype(np.float32), head, 0.0, None, 1, "rows", 0.0)

        return train


@dataclass(frozen=True, slots=True)
class Job:
    """One run."""

    contender: Contender
    seed: int
    arrivals: int


def distance(job: Job) -> float:
    """Relative distance to the optimum after so many arrivals, mean over the last of them.

    Infinite where the method diverged: its numbers left the lattice.
    """
    problem = Quadratics.drawn(job.seed)
    simulation = Simulation(MemoryBroker(random.Random(job.seed)))
    definition = _definition(job.contender)
    topics = Topics(definition.federation)
    founding = EpochStarted(Epoch(1, job.seed), 0, definition.to_bytes(), "created")
    coordinator = CoordinatorHost(simulation, topics, founding, lambda: 1)
    coordinator.keeps_journal = False
    optimum, size = problem.optimum(), float(np.linalg.norm(problem.optimum()))
    applied, applied_at = 0, 0.0
    distances: list[float] = []

    def observe(record: Record) -> None:
        nonlocal applied, applied_at
        if isinstance(record, Applied):
            applied, applied_at = applied + 1, simulation.now
            if applied > job.arrivals * 0.97 and coordinator.machine is not None:
                state = coordinator.machine.state
                model = state.terms.lattice.to_floats(state.model).astype(np.float64)
                distances.append(float(np.linalg.norm(model - optimum)) / size)

    coordinator.observe = observe
    coordinator.start()
    for number in range(MACHINES):
        name = f"machine-{number + 1:02d}"
        host = AgentHost(
            simulation, topics, name, problem.trainer(number), _compute(job.seed, name)
        )
        host.start()
    simulation.run(
        LONGEST_S, lambda: applied >= job.arrivals or simulation.now > applied_at + STALLED_S
    )
    return float(np.mean(distances)) if applied >= job.arrivals else float("inf")


def _compute(seed: int, name: str) -> Callable[[], float]:
    chance = random.Random(f"{seed} {name}")
    typical = exp(SKEW * chance.gauss(0, 1))
    return lambda: typical * chance.expovariate(1.0)


def _definition(contender: Contender) -> FederationDefinition:
    algorithm = {"mode": contender.mode, "penalty": 0.2, **dict(contender.settings)}
    return FederationDefinition(
        federation="quadratics",
        model=DenseModel(hidden=()),
        loss=Loss(kind="mse"),
        inputs=tuple(Input(name=f"x{i}") for i in range(SIZE // 2 - 1)),
        targets=(Target(name="a"), Target(name="b")),
        algorithm=Algorithm.model_validate(algorithm),
        schedule=contender.schedule(MACHINES, LONGEST_S),
        compression=Compression(coding="plain"),
        lattice_bits=LATTICE_BITS,
    )


def run(*, quick: bool, data: Path | None) -> Report:  # noqa: ARG001
    """Distances of all contenders, three seeds."""
    arrivals, seeds = (QUICK_ARRIVALS, 1) if quick else (ARRIVALS, 3)
    jobs = [Job(c, seed, arrivals) for c in CONTENDERS for seed in range(seeds)]
    found = dict(zip(jobs, run_all("exactness", distance, jobs), strict=True))
    rows: list[tuple[Cell, ...]] = []
    for contender in CONTENDERS:
        each = [found[Job(contender, seed, arrivals)] for seed in range(seeds)]
        rows.append((contender.name, *(f"{d:.1e}" if isfinite(d) else "diverged" for d in each)))
    title = f"relative distance to the optimum after {arrivals:,} arrivals, skew e^(1.6 N(0,1))"
    report = Report(
        "exactness", grids=[Grid(title, ("mode", *(f"seed {s}" for s in range(seeds))), rows)]
    )
    report.notes.append(
        f"{STEPS} gradient steps a round for all: the distance of the others is what unequal rates "
        "of arrival and drift within a round do together"
    )
    for seed in range(seeds):
        ours = found[Job(OURS, seed, arrivals)]
        theirs = found[Job(BASELINE, seed, arrivals)]
        what = f"seed {seed}: {OURS.name} / {BASELINE.name}"
        if not quick:
            report.goals.append(Goal(what, ours / theirs, 1 / TIMES_CLOSER, "of its distance"))
    return report
