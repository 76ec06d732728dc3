"""The random draws of the reference implementation, as its documentation states them.

selected clients   RandomState(10**6 + 1000*seed + round)
batches            RandomState((seed*7919 + client*104729 + round*31 + phase) % 2**32)
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray


def select(
    seed: int,
    k: int,
    attempt: int,  # noqa: ARG001
    members: Sequence[str],
    participation: float,
) -> tuple[str, ...]:
    """A ``plantfed_coordinator.releases.Selector``."""
    rng = np.random.RandomState(10**6 + 1000 * seed + k)
    chosen = rng.choice(len(members), max(int(participation * len(members)), 1), replace=False)
    return tuple(members[i] for i in chosen)


def batches(
    n_rows: int, seed: int, client: int, round_: int, phase: int, epochs: int, batch: int
) -> Iterator[NDArray[np.int64]]:
    rng = np.random.RandomState((seed * 7919 + client * 104729 + round_ * 31 + phase) % 2**32)
    for _ in range(epochs):
        order = rng.permutation(n_rows)
        for start in range(0, n_rows, batch):
            yield order[start : start + batch]
