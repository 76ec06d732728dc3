"""Timing on a machine that others use too: processor time, interleaved, medians."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from time import process_time

MIN_SAMPLE_S = 0.005
"""One sample repeats its job for at least so long: far above the clock's resolution."""


@dataclass(frozen=True)
class Cost:
    """What one run of a job costs.

    Attributes:
        seconds: processor time, median over the samples.
        ratio: to the first job, median over ratios of samples taken one after the other.
    """

    seconds: float
    ratio: float


def interleaved(jobs: Mapping[str, Callable[[], object]], samples: int) -> dict[str, Cost]:
    """Time jobs in turn, so that whatever slows the machine down slows all of them."""
    repeats = {name: _repeats(job) for name, job in jobs.items()}
    taken: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(samples):
        for name, job in jobs.items():
            taken[name].append(processor_time(job, repeats[name]))
    first = taken[next(iter(jobs))]
    return {
        name: Cost(median(times), median(t / f for t, f in zip(times, first, strict=True)))
        for name, times in taken.items()
    }


def processor_time(job: Callable[[], object], repeats: int = 1) -> float:
    """Processor seconds of one run of a job."""
    begin = process_time()
    for _ in range(repeats):
        job()
    return (process_time() - begin) / repeats


def _repeats(job: Callable[[], object]) -> int:
    job()  # caches fill
    repeats = 1
    while processor_time(job, repeats) * repeats < MIN_SAMPLE_S:
        repeats *= 2
    return repeats
