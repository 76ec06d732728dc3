"""One local round of FedAPM (arXiv 2506.04672, Algorithm 1) or FedAlt on one machine.

With the objective f of this machine, its scaled dual w, its head v and the shared parameters u it
was given (the *base*),

    head    v <- argmin_v  f(v, u) + sigma/2 |v - v_start|^2
    shared  x <- argmin_x  f(v, x) + <rho w, x - u> + rho/2 |x - u|^2

each by some epochs of SGD that begin at v_start and at u:

    p <- p - learning_rate * (gradient of the loss + mu p + pull)

FedAlt is the same without pull: rho = sigma = 0.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

import numpy as np

from plantfed_agent.kernels.port import Kernel
from plantfed_agent.row_order import RowBatches
from plantfed_agent.samples import Samples
from plantfed_agent.whole_model import whole_model
from plantfed_shared.definition import Algorithm
from plantfed_shared.errors import TrainingError
from plantfed_shared.parameters import Floats, ParameterSpecification, flatten

Pull = Callable[[Floats], Floats]


@dataclass(frozen=True, slots=True)
class RoundStart:
    """What a round begins with; none of it is changed.

    Attributes:
        base: float32 (shared,), the shared parameters u it trains against.
        dual: float32 (shared,), the scaled dual w in parameter units; ignored in mode "fedalt".
        head: float32 (personal,), the personal parameters v_start.
    """

    base: Floats
    dual: Floats
    head: Floats


@dataclass(frozen=True, slots=True)
class RoundResult:
    """What a round leaves.

    Attributes:
        shared: float32 (shared,), the machine's own x.
        head: float32 (personal,), the new v.
        loss: mean over the rows of the last epoch of the shared phase, each as it was when its
            step was taken; without weight decay and pulls.
    """

    shared: Floats
    head: Floats
    loss: float


def run_round(
    kernel: Kernel,
    specification: ParameterSpecification,
    algorithm: Algorithm,
    start: RoundStart,
    samples: Samples,
    head_rows: RowBatches,
    shared_rows: RowBatches,
) -> RoundResult:
    """Train the head, then the shared parameters.

    Args:
        kernel: the network and its loss.
        specification: which parameters are shared.
        algorithm: step sizes, penalties and mode.
        start: where to begin.
        samples: of this machine.
        head_rows: row numbers of each step of the head phase; not touched without a head.
        shared_rows: row numbers of each step of the shared phase, at least one.

    Raises:
        TrainingError: the numbers are no longer finite.
        ValueError: a vector has the wrong number of elements, or there are no shared rows.
    """
    shared, head = start.base.copy(), start.head.copy()
    # views into the two vectors: the network sees every step at once
    parameters = whole_model(specification, shared, head)

    def descend(vector: Floats, names: list[str], pull: Pull | None, batches: RowBatches) -> float:
        recent: deque[tuple[float, int]] = deque(maxlen=ceil(len(samples) / algorithm.batch))
        for rows in batches:
            loss, gradients = kernel.loss_and_gradient(
                parameters, samples.x[rows], samples.y[rows], names
            )
            recent.append((loss, len(rows)))
            step = flatten(gradients)
            step += algorithm.weight_decay * vector
            if pull is not None:
                step += pull(vector)
            step *= algorithm.learning_rate
            vector -= step
        if not recent:
            raise ValueError("there are no rows to train on")
        return sum(loss * rows for loss, rows in recent) / sum(rows for _, rows in recent)

    stay, agree = _pulls(algorithm, start)
    # numbers that overflow are reported once, at the end, as what they mean
    with np.errstate(over="ignore", invalid="ignore"):
        if head.size:
            descend(head, [p.name for p in specification.personal], stay, head_rows)
        loss = descend(shared, [p.name for p in specification.shared], agree, shared_rows)
    _refuse_non_finite(algorithm, loss, shared, head)
    return RoundResult(shared, head, loss)


def _pulls(algorithm: Algorithm, start: RoundStart) -> tuple[Pull | None, Pull | None]:
    """Gradients of what the round adds to f: in the head phase, in the shared phase."""
    if not algorithm.has_duals:
        return None, None
    sigma, rho = algorithm.head_proximal, algorithm.penalty
    scaled_dual: Floats = rho * start.dual

    def stay(head: Floats) -> Floats:
        return sigma * (head - start.head)

    def agree(shared: Floats) -> Floats:
        return scaled_dual + rho * (shared - start.base)

    return stay, agree


def _refuse_non_finite(algorithm: Algorithm, loss: float, *vectors: Floats) -> None:
    if np.isfinite(loss) and all(bool(np.isfinite(v).all()) for v in vectors):
        return
    raise TrainingError(
        "the training diverged: its numbers are no longer finite",
        where=f"algorithm.learning_rate = {algorithm.learning_rate:g}",
        hint="Lower the learning rate of the federation, or look for inputs without a sensible "
        "scale or clip",
    )
