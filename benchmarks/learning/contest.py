"""A contest in virtual time: who reaches an accuracy sooner, and with fewer bytes.

The task is `digits`.  A computer has a speed of its own (lognormal), every round takes a heavy-
tailed time (Pareto), links have 64 to 256 kbit/s; the same for all contenders of a seed.
"""

import random
from dataclasses import dataclass
from math import exp, inf, log
from pathlib import Path

from benchmarks.learning.federation import Computer, Federation, Measurement
from benchmarks.learning.tasks import Task, digits
from plantfed_lab.simulation.links import LinkQuality
from plantfed_shared.definition import Compression, FederationDefinition, Mode, Schedule

MEASURE_EVERY_S = 10.0
LATENCY_S = 0.05
SLOWEST_LINK, FASTEST_LINK = 64e3, 256e3
TYPICAL_ROUND_S = 5.0
LONGEST_TAIL = 60.0
STEADY_PART = 0.7
"""Of a round's time; the rest has the tail."""
RELAXATION = 51 / 32
"""1.6 as a number the lattice can hold."""
CLEARLY = 1.002
"""Above the target before a run ends: the smoothed accuracy at its end isn't known yet."""


PLAIN = Compression(coding="plain")


@dataclass(frozen=True, slots=True)
class Speeds:
    """How unequal the computers are.

    Attributes:
        name: for the table.
        sigma: of the lognormal speed of a machine.
        tail: shape of the Pareto of a round.
    """

    name: str
    sigma: float
    tail: float


HEAVY_TAILS = Speeds("heavy tails", 0.6, 1.5)
STRONG_SKEW = Speeds("strong skew", 1.6, 1.2)


@dataclass(frozen=True, slots=True)
class Contender:
    """Who takes part.

    Attributes:
        name: for the table.
        mode: of the federation.
        arrivals: per release; None for synchronous rounds of all machines.
        settings: of the algorithm.
        compression: plain by default, as long as float32.
        release_bits: of released models, the finest and the coarsest; None for all that the
            lattice has.
        pace: of the schedule.
    """

    name: str
    mode: Mode
    arrivals: int | None
    settings: tuple[tuple[str, float], ...] = ()
    compression: Compression = PLAIN
    release_bits: tuple[int, int] | None = None
    pace: float = 0.0

    def schedule(self, everybody: int, longest_s: float) -> Schedule:
        """Nothing is released or closed because time has passed.

        Args:
            everybody: number of machines.
            longest_s: virtual seconds the run may take.
        """
        if self.arrivals is None:
            return Schedule(
                kind="sync", participation=1.0, min_members=everybody, deadline_s=10 * longest_s
            )
        return Schedule(
            arrivals=self.arrivals,
            min_members=everybody,
            release_after_s=10 * longest_s,
            pace=self.pace,
        )


@dataclass(frozen=True, slots=True)
class Job:
    """One run.

    Attributes:
        data: folder with the digits.
        speeds: of the computers.
        seed: of split, start, computers and links.
        contender: who runs.
        longest_s: virtual seconds it may take.
        enough: it ends when the smoothed mean accuracy has reached this.
        hidden: widths of the network's hidden layers.
    """

    data: Path
    speeds: Speeds
    seed: int
    contender: Contender
    longest_s: float
    enough: float = inf
    hidden: tuple[int, int] = (64, 32)


Track = list[Measurement]
"""A measurement every 10 virtual seconds."""


def carry_out(job: Job) -> Track:
    """Let one contender run."""
    federation = federation_of(job)
    found: Track = []
    while federation.seconds < job.longest_s:
        federation.run(MEASURE_EVERY_S)
        found.append(federation.measure())
        if len(found) >= 3 and smoothed(found)[-2] >= CLEARLY * job.enough:
            break
    return found


def federation_of(job: Job) -> Federation:
    """One contender's, at second 0."""
    task = digits(job.seed, job.data)
    return Federation(
        task,
        _definition(job, task),
        seed=job.seed,
        computers=computers(task, job.speeds, job.seed),
    )


def _definition(job: Job, task: Task) -> FederationDefinition:
    contender = job.contender
    schedule = contender.schedule(len(task.machines), job.longest_s)
    defined = task.defined(contender.mode, schedule, lattice_bits=16, **dict(contender.settings))
    document = defined.model_dump()
    document["model"]["hidden"] = job.hidden
    document["compression"] = contender.compression.model_dump()
    if contender.release_bits is not None:
        document["release_bits"], document["coarsest_release_bits"] = contender.release_bits
    return FederationDefinition.model_validate(document)


def computers(task: Task, speeds: Speeds, seed: int) -> dict[str, Computer]:
    """The computers and links of one seed; the same for all contenders."""
    return {name: _computer(speeds, random.Random(f"{seed} {name}")) for name in task.machines}


def _computer(speeds: Speeds, chance: random.Random) -> Computer:
    typical = TYPICAL_ROUND_S * chance.lognormvariate(0, speeds.sigma)
    rate = exp(chance.uniform(log(SLOWEST_LINK), log(FASTEST_LINK)))

    def compute_s() -> float:
        tail = min(chance.paretovariate(speeds.tail), LONGEST_TAIL)
        return typical * (STEADY_PART + (1 - STEADY_PART) * tail)

    return Computer(compute_s, LinkQuality(rate, rate, LATENCY_S))


def smoothed(track: Track) -> list[float]:
    """Mean accuracy of each measurement and its two neighbours; the ends as they are."""
    means = [m.mean for m in track]
    inner = [sum(means[i - 1 : i + 2]) / 3 for i in range(1, len(means) - 1)]
    return [*means[:1], *inner, *means[1:][-1:]]


def reached(track: Track, accuracy: float) -> Measurement | None:
    """The first measurement with this smoothed mean accuracy."""
    levels = smoothed(track)[:-1]
    return next((m for m, level in zip(track, levels, strict=False) if level >= accuracy), None)


def seconds_to(track: Track, accuracy: float) -> float:
    """Virtual time until it is reached; infinite where it never is."""
    found = reached(track, accuracy)
    return inf if found is None else found.seconds


def best(track: Track) -> float:
    """The highest smoothed mean accuracy."""
    return max(smoothed(track)[:-1])
