"""One model on the rows of all machines together: what sharing all data would give."""

from collections.abc import Iterator
from math import ceil

import numpy as np
from numpy.typing import NDArray

from benchmarks.learning.reference_draws import select
from benchmarks.learning.tasks import Task
from plantfed_agent.kernels import kernel_for
from plantfed_agent.local_round import RoundStart, run_round
from plantfed_agent.samples import Samples
from plantfed_agent.scores import score
from plantfed_shared.definition import Schedule
from plantfed_shared.initial import initial_parameters
from plantfed_shared.parameters import flatten, unflatten


def central_accuracies(
    task: Task, seed: int, rounds: int, participation: float
) -> NDArray[np.float64]:
    """Test accuracy by machine after as many SGD steps as FedAvg's participants take together.

    Batches are drawn with replacement from ``RandomState(seed * 7919 + round)``.

    Args:
        task: machines and their rows.
        seed: of the draws.
        rounds: of the federation it is compared with.
        participation: part of the machines in a round.
    """
    definition = task.defined("fedavg", Schedule())
    specification, kernel = definition.parameter_specification(), kernel_for(definition)
    sets = list(task.machines.values())
    pooled = Samples(
        np.concatenate([s.train.x for s in sets]), np.concatenate([s.train.y for s in sets])
    )
    names = list(task.machines)
    algorithm = definition.algorithm
    vector = flatten(initial_parameters(definition))
    nothing = np.zeros(0, dtype=np.float32)

    def batches(number: int) -> Iterator[NDArray[np.int64]]:
        chosen = select(seed, number, 0, names, participation)
        rows = [len(task.machines[name].train) for name in chosen]
        rng = np.random.RandomState(seed * 7919 + number)
        for _ in range(algorithm.epochs * sum(ceil(n / algorithm.batch) for n in rows)):
            yield rng.randint(0, len(pooled), algorithm.batch)

    for number in range(rounds):
        start = RoundStart(vector, np.zeros_like(vector), nothing)
        result = run_round(kernel, specification, algorithm, start, pooled, batches(number), ())
        vector = result.shared
    parameters = unflatten(vector, specification.parameters)
    tests = [s.test for s in sets if s.test is not None]
    return np.array([score(kernel, definition, parameters, test) for test in tests])
