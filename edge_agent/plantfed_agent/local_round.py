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

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

import numpy as np

from plantfed_agent.kernels.port import Batches, Kernel, Part, Pull, Rates
from plantfed_agent.row_order import RowBatches
from plantfed_agent.samples import Samples
from plantfed_agent.whole_model import whole_model
from plantfed_shared.definition import Algorithm, Mode
from plantfed_shared.errors import TrainingError
from plantfed_shared.parameters import Floats, Parameters, ParameterSpecification


@dataclass(frozen=True, slots=True)
class RoundStart:
    """What a round begins with; none of it is changed.

    Attributes:
        base: float32 (shared,), the shared parameters u it trains against.
        dual: float32 (shared,), the scaled dual w in parameter units; used in fedapm and auto.
        head: float32 (personal + statistics,), the personal parameters v_start and what follows
            them, see :class:`plantfed_shared.parameters.ParameterSpecification`.
    """

    base: Floats
    dual: Floats
    head: Floats


@dataclass(frozen=True, slots=True)
class RoundResult:
    """What a round leaves.

    Attributes:
        shared: float32 (shared,), the machine's own x.
        head: float32 (personal + statistics,), the new v.
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
    return Pulls(Pull(sigma, start.head), Pull(rho, start.base, scaled_dual))


def _consensus_pull(algorithm: Algorithm, start: RoundStart) -> Pulls:
    """Mode auto: as FedAPM, on the whole network."""
    return Pulls(shared=_admm_pulls(algorithm, start).shared)


def _proximal_pull(algorithm: Algorithm, start: RoundStart) -> Pulls:
    """FedProx (arXiv 1812.06127): towards the model it was given."""
    return Pulls(shared=Pull(algorithm.proximal, start.base))


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
    # views into the two vectors
    parameters = whole_model(specification, shared, head)
    descent = _Descent(kernel, parameters, samples, algorithm)
    rule = LOCAL_RULES[algorithm.mode]
    pulls = rule.pulls(algorithm, start)
    head_part = Part(head, specification.personal, _of_head(pulls.head, specification))
    shared_part = Part(shared, specification.shared, pulls.shared)
    # numbers that overflow are reported once, at the end, as what they mean
    with np.errstate(over="ignore", invalid="ignore"):
        if head_only:
            loss = descent.run((head_part,), head_rows)
        elif rule.together:
            loss = descent.run((head_part, shared_part), head_rows)
        else:
            if specification.personal:
                descent.run((head_part,), head_rows)
            loss = descent.run((shared_part,), shared_rows)
    _refuse_non_finite(algorithm, loss, shared, head)
    return RoundResult(shared, head, loss)


def _of_head(pull: Pull | None, specification: ParameterSpecification) -> Pull | None:
    """Statistics have no gradient, and nothing pulls at them."""
    n_personal = sum(p.size for p in specification.personal)
    return None if pull is None else pull._replace(towards=pull.towards[:n_personal])


class _Descent(NamedTuple):
    """SGD on some of a network's parameters."""

    kernel: Kernel
    parameters: Parameters
    samples: Samples
    algorithm: Algorithm

    def run(self, parts: tuple[Part, ...], batches: RowBatches) -> float:
        """Take one step per batch; returns the mean loss of the last epoch.

        Raises:
            ValueError: there are no batches.
        """
        samples, algorithm = self.samples, self.algorithm
        rates = Rates(algorithm.learning_rate, algorithm.weight_decay)
        sizes: list[int] = []

        def given() -> Batches:
            for rows in batches:
                sizes.append(len(rows))
                yield samples.x[rows], samples.y[rows]

        losses = self.kernel.descend(self.parameters, parts, rates, given())
        if not losses:
            raise ValueError("there are no rows to train on")
        last = -ceil(len(samples) / algorithm.batch)
        recent = zip(losses[last:], sizes[last:], strict=True)
        return sum(loss * rows for loss, rows in recent) / sum(sizes[last:])


def _refuse_non_finite(algorithm: Algorithm, loss: float, *vectors: Floats) -> None:
    if np.isfinite(loss) and all(bool(np.isfinite(v).all()) for v in vectors):
        return
    raise TrainingError(
        "the training diverged: its numbers are no longer finite",
        where=f"algorithm.learning_rate = {algorithm.learning_rate:g}",
        hint="Lower the learning rate of the federation, or look for inputs without a sensible "
        "scale or clip",
    )
