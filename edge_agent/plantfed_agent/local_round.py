"""One local round on one machine, in any mode.

With the objective f of this machine, its head v and the shared parameters u it was given (the
*base*), FedAPM (arXiv 2506.04672, Algorithm 1) with its scaled dual w does

    head    v <- argmin_v  f(v, u) + sigma/2 |v - v_start|^2
    shared  x <- argmin_x  f(v, x) + <rho w, x - u> + rho/2 |x - u|^2

each by some epochs of SGD that begin at v_start and at u:

    p <- p - learning_rate * (gradient of the loss + mu p + pull)

The other modes differ in two things only, their row of :data:`LOCAL_RULES`: whether head and shared
parameters are trained one after the other or together, and what pulls at them.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

import numpy as np

from plantfed_agent.kernels.port import Kernel
from plantfed_agent.row_order import RowBatches
from plantfed_agent.samples import Samples
from plantfed_agent.whole_model import whole_model
from plantfed_shared.definition import Algorithm, Mode
from plantfed_shared.errors import TrainingError
from plantfed_shared.parameters import (
    Floats,
    Parameter,
    Parameters,
    ParameterSpecification,
    flatten,
)

Pull = Callable[[Floats], Floats]
"""Adds to the gradient with respect to a vector, given where the vector is."""


@dataclass(frozen=True, slots=True)
class RoundStart:
    """What a round begins with; none of it is changed.

    Attributes:
        base: float32 (shared,), the shared parameters u it trains against.
        dual: float32 (shared,), the scaled dual w in parameter units; used in fedapm and auto.
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
        loss: mean over the rows of the last epoch of the last phase, each as it was when its step
            was taken; without weight decay and pulls.
    """

    shared: Floats
    head: Floats
    loss: float


class Pulls(NamedTuple):
    """What a mode adds to f, as gradients."""

    head: Pull | None = None
    shared: Pull | None = None


class LocalRule(NamedTuple):
    """What a mode does on a machine.

    Attributes:
        together: head and shared parameters take every step at the same time, in the order of rows
            of the head phase; otherwise the head comes first and then the shared parameters.
        pulls: of a round.
    """

    together: bool
    pulls: Callable[[Algorithm, RoundStart], Pulls]


def _no_pulls(_: Algorithm, __: RoundStart) -> Pulls:
    return Pulls()


def _admm_pulls(algorithm: Algorithm, start: RoundStart) -> Pulls:
    """FedAPM: sigma (v - v_start) and rho w + rho (x - u)."""
    sigma, rho = algorithm.head_proximal, algorithm.penalty
    scaled_dual: Floats = rho * start.dual
    return Pulls(
        head=lambda head: sigma * (head - start.head),
        shared=lambda shared: scaled_dual + rho * (shared - start.base),
    )


def _consensus_pull(algorithm: Algorithm, start: RoundStart) -> Pulls:
    """Mode auto: as FedAPM, on the whole network."""
    return Pulls(shared=_admm_pulls(algorithm, start).shared)


def _proximal_pull(algorithm: Algorithm, start: RoundStart) -> Pulls:
    """FedProx (arXiv 1812.06127): towards the model it was given."""
    return Pulls(shared=lambda shared: algorithm.proximal * (shared - start.base))


LOCAL_RULES: dict[Mode, LocalRule] = {
    "fedapm": LocalRule(together=False, pulls=_admm_pulls),
    "fedalt": LocalRule(together=False, pulls=_no_pulls),
    "fedsim": LocalRule(together=True, pulls=_no_pulls),
    "fedavg": LocalRule(together=True, pulls=_no_pulls),
    "fedprox": LocalRule(together=True, pulls=_proximal_pull),
    "local": LocalRule(together=True, pulls=_no_pulls),
    "fedbuff": LocalRule(together=False, pulls=_no_pulls),
    "fedasync": LocalRule(together=False, pulls=_no_pulls),
    "auto": LocalRule(together=True, pulls=_consensus_pull),
}


class _Part(NamedTuple):
    """A vector that takes steps, with its parameters and what pulls at it."""

    vector: Floats
    parameters: tuple[Parameter, ...]
    pull: Pull | None


def run_round(
    kernel: Kernel,
    specification: ParameterSpecification,
    algorithm: Algorithm,
    start: RoundStart,
    samples: Samples,
    head_rows: RowBatches,
    shared_rows: RowBatches,
    *,
    head_only: bool = False,
) -> RoundResult:
    """Train as the mode wants it.

    Args:
        kernel: the network and its loss.
        specification: which parameters are shared.
        algorithm: step sizes, penalties and mode.
        start: where to begin.
        samples: of this machine.
        head_rows: row numbers of each step of the head phase, or of head and shared parameters
            where they are trained together; not touched when there is nothing to train.
        shared_rows: row numbers of each step of the shared phase.
        head_only: take the steps of the head alone; the shared parameters stay at the base.

    Raises:
        TrainingError: the numbers are no longer finite.
        ValueError: a vector has the wrong number of elements, or there are no rows.
    """
    shared, head = start.base.copy(), start.head.copy()
    # views into the two vectors: the network sees every step at once
    parameters = whole_model(specification, shared, head)
    descent = _Descent(kernel, specification, parameters, samples, algorithm)
    rule = LOCAL_RULES[algorithm.mode]
    pulls = rule.pulls(algorithm, start)
    head_part = _Part(head, specification.personal, pulls.head)
    shared_part = _Part(shared, specification.shared, pulls.shared)
    # numbers that overflow are reported once, at the end, as what they mean
    with np.errstate(over="ignore", invalid="ignore"):
        if head_only:
            loss = descent.run((head_part,), head_rows)
        elif rule.together:
            loss = descent.run((head_part, shared_part), head_rows)
        else:
            if head.size:
                descent.run((head_part,), head_rows)
            loss = descent.run((shared_part,), shared_rows)
    _refuse_non_finite(algorithm, loss, shared, head)
    return RoundResult(shared, head, loss)


class _Descent(NamedTuple):
    """SGD on some of a network's parameters."""

    kernel: Kernel
    specification: ParameterSpecification
    parameters: Parameters
    samples: Samples
    algorithm: Algorithm

    def run(self, parts: tuple[_Part, ...], batches: RowBatches) -> float:
        """Take one step per batch; returns the mean loss of the last epoch.

        Raises:
            ValueError: there are no batches.
        """
        samples, algorithm = self.samples, self.algorithm
        of_parts = {p.name for part in parts for p in part.parameters}
        wanted = [p.name for p in self.specification.parameters if p.name in of_parts]
        recent: deque[tuple[float, int]] = deque(maxlen=ceil(len(samples) / algorithm.batch))
        for rows in batches:
            loss, found = self.kernel.loss_and_gradient(
                self.parameters, samples.x[rows], samples.y[rows], wanted
            )
            recent.append((loss, len(rows)))
            gradients = dict(zip(wanted, found, strict=True))
            for part in parts:
                self._step(part, flatten([gradients[p.name] for p in part.parameters]))
        if not recent:
            raise ValueError("there are no rows to train on")
        return sum(loss * rows for loss, rows in recent) / sum(rows for _, rows in recent)

    def _step(self, part: _Part, step: Floats) -> None:
        step += self.algorithm.weight_decay * part.vector
        if part.pull is not None:
            step += part.pull(part.vector)
        step *= self.algorithm.learning_rate
        part.vector[:] -= step


def _refuse_non_finite(algorithm: Algorithm, loss: float, *vectors: Floats) -> None:
    if np.isfinite(loss) and all(bool(np.isfinite(v).all()) for v in vectors):
        return
    raise TrainingError(
        "the training diverged: its numbers are no longer finite",
        where=f"algorithm.learning_rate = {algorithm.learning_rate:g}",
        hint="Lower the learning rate of the federation, or look for inputs without a sensible "
        "scale or clip",
    )
