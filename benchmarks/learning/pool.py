"""Many independent runs on all cores."""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

from plantfed_shared.tether import end_with_parent

Job = TypeVar("Job")
Found = TypeVar("Found")


def run_all(
    what: str, do: Callable[[Job], Found], jobs: Sequence[Job], workers: int | None = None
) -> list[Found]:
    """Do all jobs; results in the order of the jobs.

    Args:
        what: is shown while they run.
        do: a function of a module.
        jobs: can be pickled.
        workers: processes; None for one per core, 0 for this process.
    """
    if workers == 0:
        return [do(job) for job in jobs]
    # fork would copy our threads' locks
    context = multiprocessing.get_context("spawn")
    found: dict[int, Found] = {}
    with (
        Progress(console=Console(stderr=True), transient=True) as progress,
        ProcessPoolExecutor(
            workers or os.cpu_count(), mp_context=context, initializer=end_with_parent
        ) as pool,
    ):
        bar = progress.add_task(what, total=len(jobs))
        futures = {pool.submit(do, job): number for number, job in enumerate(jobs)}
        for future in as_completed(futures):
            found[futures[future]] = future.result()
            progress.advance(bar)
    return [found[number] for number in range(len(jobs))]
