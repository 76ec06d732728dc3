"""In which order a round visits the rows."""

from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

HEAD_PHASE, SHARED_PHASE = 0, 1

RowBatches = Iterable[NDArray[np.int64]]
"""The row numbers of each SGD step."""

RowOrder = Callable[[int, str, int, int, int, int, int], RowBatches]
"""(seed, agent, seq, phase, n_rows, epochs, batch) -> the row numbers of each SGD step."""


def row_order(
    seed: int, agent: str, seq: int, phase: int, n_rows: int, epochs: int, batch: int
) -> Iterator[NDArray[np.int64]]:
    """One permutation per epoch, cut into batches; the last batch of an epoch may be smaller.

    A function of its arguments alone, so that a round repeated after a crash is the same round.
    ``RandomState`` on purpose: NumPy froze its streams (NEP 19); those of ``Generator`` may change.

    Args:
        seed: of the federation.
        agent: id of the machine.
        seq: number of the round on this machine.
        phase: :data:`HEAD_PHASE` or :data:`SHARED_PHASE`.
        n_rows: number of training samples.
        epochs: passes over all rows.
        batch: rows per step.

    Yields:
        int64 (rows of this step,), each row once per epoch.
    """
    digest = blake2b(f"{seed} {agent} {seq} {phase}".encode(), digest_size=16).digest()
    rng = np.random.RandomState(np.frombuffer(digest, dtype="<u4"))
    for _ in range(epochs):
        order = rng.permutation(n_rows).astype(np.int64, copy=False)
        for first in range(0, n_rows, batch):
            yield order[first : first + batch]
