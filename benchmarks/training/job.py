"""What a training process is told, and how it answers; needs numpy alone, as torch's has no more.

Every line of standard input is a number of steps; the answer is the processor seconds they took.
At its end the process says what it weighs.
"""

import json
import sys
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEARNING_RATE, PULL = 0.01, 0.1
N_BATCHES = 4

Arrays = dict[str, NDArray[Any]]
Batch = tuple[NDArray[np.float32], NDArray[np.int64]]


def drawn(sample: tuple[int, ...], classes: int, rows: int) -> list[Batch]:
    """Batches both sides train on."""
    rng = np.random.RandomState(7)
    return [
        (
            rng.standard_normal((rows, *sample)).astype(np.float32),
            rng.randint(0, classes, rows).astype(np.int64),
        )
        for _ in range(N_BATCHES)
    ]


def anchor(parameter: NDArray[np.float32]) -> NDArray[np.float32]:
    return parameter * np.float32(0.9)


def dual(parameter: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.full_like(parameter, 1e-3)


def serve(
    ready_s: float, batches: list[Any], step: Callable[[Any], None], weights: Callable[[], Arrays]
) -> None:
    """Until standard input ends.

    Args:
        ready_s: processor seconds until everything was imported.
        batches: taken in turn.
        step: trains on one of them.
        weights: as they are after so many steps, by name.
    """
    turn = cycle(batches)
    print(json.dumps(ready_s), flush=True)
    for line in sys.stdin:
        asked = line.strip()
        if asked.isdigit():
            begin = process_time()
            for _ in range(int(asked)):
                step(next(turn))
            print(json.dumps(process_time() - begin), flush=True)
        else:
            np.savez(asked, **weights())  # type: ignore[arg-type]
            print(json.dumps(peak_bytes()), flush=True)


def peak_bytes() -> int:
    """Most that was ever resident; getrusage would count what the parent had before it forked."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024
