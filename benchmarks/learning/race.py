"""The race: virtual time and bytes until the accuracy of tuned synchronous FedAPM is reached.

Computers and links are slow in the way of `digits` machines in one plant: a machine has a speed of
its own (lognormal), every round takes a heavy-tailed time (Pareto), links have 64 to 256 kbit/s.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from math import exp, inf, log

from benchmarks.learning.federation import Computer, Federation, Measurement
from benchmarks.learning.tasks import Task
from plantfed_lab.simulation.links import LinkQuality
from plantfed_shared.definition import Mode, Schedule

MEASURE_EVERY_S = 30.0
LATENCY_S = 0.05
SLOWEST_LINK, FASTEST_LINK = 64e3, 256e3
TYPICAL_ROUND_S = 5.0
LONGEST_TAIL = 60.0
STEADY_PART = 0.7
"""Of a round's time; the rest has the tail."""


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
    """What takes part in the race.

    Attributes:
        name: for the table.
        mode: of the federation.
        arrivals: per release; None for synchronous rounds of all machines.
        settings: of the algorithm.
    """

    name: str
    mode: Mode
    arrivals: int | None
    settings: dict[str, float]


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


def run(
    task: Task,
    contender: Contender,
    speeds: Speeds,
    seed: int,
    seconds: float,
    enough: float = inf,
) -> list[Measurement]:
    """Let one contender run.

    Args:
        task: machines and their rows.
        contender: mode and settings.
        speeds: of the computers.
        seed: of computers and links.
        seconds: virtual, at most.
        enough: it ends when the smoothed mean accuracy has reached this.

    Returns:
        A measurement every 30 virtual seconds.
    """
    everybody = len(task.machines)
    if contender.arrivals is None:
        schedule = Schedule(
            kind="sync", participation=1.0, min_members=everybody, deadline_s=10 * seconds
        )
    else:
        schedule = Schedule(
            arrivals=contender.arrivals, min_members=everybody, release_after_s=10 * seconds
        )
    definition = task.defined(contender.mode, schedule, 16, **contender.settings)
    federation = Federation(task, definition, seed=seed, computers=computers(task, speeds, seed))
    found: list[Measurement] = []
    while federation.seconds < seconds:
        federation.run(MEASURE_EVERY_S)
        found.append(federation.measure())
        if len(found) >= 3 and smoothed(found)[-2] >= enough:
            break
    return found


def smoothed(found: list[Measurement]) -> list[float]:
    """Mean accuracy of each measurement and its two neighbours; the ends as they are."""
    means = [m.mean for m in found]
    inner = [sum(means[i - 1 : i + 2]) / 3 for i in range(1, len(means) - 1)]
    return [*means[:1], *inner, *means[1:][-1:]]


def reached(found: list[Measurement], accuracy: float) -> Measurement | None:
    """The first measurement with this smoothed mean accuracy."""
    levels = smoothed(found)[:-1]
    return next((m for m, level in zip(found, levels, strict=False) if level >= accuracy), None)


def best(found: list[Measurement]) -> float:
    """The highest smoothed mean accuracy."""
    return max(smoothed(found)[:-1])


Progress = Callable[[str], None]
