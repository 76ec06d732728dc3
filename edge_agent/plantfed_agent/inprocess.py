"""Training within the calling process: the work itself, for the worker, tests and simulation."""

from collections.abc import Callable
from dataclasses import replace
from math import isfinite
from time import perf_counter

from plantfed_agent.class_prior import class_prior
from plantfed_agent.comparing import Judge, compared
from plantfed_agent.guard import FreshRows, ServedModel
from plantfed_agent.kernel_source import Kernels
from plantfed_agent.kernels import Kernel
from plantfed_agent.kernels.dense import DenseKernel
from plantfed_agent.loading import SampleLoader
from plantfed_agent.local_round import RoundResult, RoundStart, run_round
from plantfed_agent.own_head import (
    FIRST_ROUNDS,
    OwnHead,
    next_own_head,
    round_with_own_head,
    used_parameters,
)
from plantfed_agent.row_order import HEAD_PHASE, SHARED_PHASE, RowBatches, RowOrder, row_order
from plantfed_agent.samples import Samples, SampleSets
from plantfed_agent.scores import score
from plantfed_agent.settings import AgentSettings
from plantfed_agent.training import TrainingOutcome, TrainingTask
from plantfed_agent.whole_model import can_have_own_head
from plantfed_shared.definition import FederationDefinition
from plantfed_shared.parameters import Floats

Load = Callable[[FederationDefinition], SampleSets]
"""Gives the samples of this machine as the definition wants them."""


class InProcessTrainer:
    """A :class:`plantfed_agent.training.Trainer` that blocks its event loop while it works.

    Args:
        source: settings that say which files hold the rows, or ready samples.
        row_order: in which order rows are visited.
        kernels: makes the kernels; None where all models are dense.
    """

    def __init__(
        self,
        source: AgentSettings | SampleSets,
        row_order: RowOrder = row_order,
        kernels: Kernels | None = None,
    ) -> None:
        self._load, self._report_score = _opened(source)
        self._row_order = row_order
        self._kernels = kernels or Kernels()

    @property
    def running(self) -> bool:
        """False: a round is never seen half done."""
        return False

    async def run(self, task: TrainingTask) -> TrainingOutcome:
        """See :meth:`plantfed_agent.training.Trainer.run`."""
        return carry_out(
            task,
            self._load,
            report_score=self._report_score,
            row_order=self._row_order,
            kernels=self._kernels,
        )

    async def stop(self) -> None:
        """Nothing to do: nothing runs between two rounds."""


def _opened(source: AgentSettings | SampleSets) -> tuple[Load, bool]:
    if isinstance(source, SampleSets):
        return lambda _: source, True
    return SampleLoader(source.data).load, source.training.report_score


def carry_out(
    task: TrainingTask,
    load: Load,
    *,
    report_score: bool,
    row_order: RowOrder = row_order,
    kernels: Kernels | None = None,
    with_prior: bool | None = None,
) -> TrainingOutcome:
    """Do one local round.

    Args:
        task: the round.
        load: gives the samples.
        report_score: score the model served until now, if there are test samples.
        row_order: in which order rows are visited.
        kernels: makes the kernel; None where the model is dense.
        with_prior: whether the machine's class prior is added to its logits; None for what the mode
            does.

    Raises:
        DataError: the rows cannot be used.
        ConfigError: the settings do not fit the federation, or an extra is not installed.
        ModelError: the compiled model cannot be used on this machine.
        TrainingError: the numbers are no longer finite.
    """
    started = perf_counter()
    kernels = kernels or Kernels()
    sets = load(task.definition)
    head = kernels.initial_head(task.definition) if task.head is None else task.head
    start = RoundStart(task.base, task.dual, head)
    has_prior = task.definition.algorithm.has_prior if with_prior is None else with_prior
    prior = class_prior(task.definition, sets.train.y) if has_prior else None
    earlier, fresh = _looked_at(task, sets, kernels, prior, report_score=report_score)
    kernel = kernels.of(task.definition, prior)
    own_head, asked = _own_head(kernel, task, sets.train)
    begun = _loss(kernel, task.definition, start, own_head, sets.train)
    result, own_head = _trained(kernel, task, start, own_head, sets.train, row_order)
    return TrainingOutcome(
        shared=result.shared,
        head=result.head,
        loss=result.loss,
        score=earlier,
        n_samples=len(sets.train),
        data_fingerprint=sets.fingerprint,
        seconds=perf_counter() - started,
        start_loss=begun,
        prior=prior,
        fresh=fresh,
        own_head=own_head,
        asked_for_own_head=asked,
    )


def initial_head(definition: FederationDefinition) -> Floats:
    """float32 (personal,): the personal part of the initial parameters of a dense model."""
    return Kernels().initial_head(definition)


def _rows(task: TrainingTask, phase: int, n_rows: int, row_order: RowOrder) -> RowBatches:
    algorithm = task.definition.algorithm
    seed = task.definition.model.seed
    return row_order(seed, task.agent, task.seq, phase, n_rows, algorithm.epochs, algorithm.batch)


def _trained(
    kernel: Kernel,
    task: TrainingTask,
    start: RoundStart,
    own_head: Floats | None,
    train: Samples,
    row_order: RowOrder,
) -> tuple[RoundResult, Floats | None]:
    """The round's result, and the last layer of its own after it."""
    definition, head_only = task.definition, task.head_only
    phases = [_rows(task, phase, len(train), row_order) for phase in (HEAD_PHASE, SHARED_PHASE)]
    if own_head is not None:
        return round_with_own_head(
            kernel, definition, start, own_head, train, *phases, head_only=head_only
        )
    specification, algorithm = definition.parameter_specification(), definition.algorithm
    result = run_round(kernel, specification, algorithm, start, train, *phases, head_only=head_only)
    return result, None


def _own_head(kernel: Kernel, task: TrainingTask, train: Samples) -> OwnHead:
    if not isinstance(kernel, DenseKernel) or not can_have_own_head(task.definition):
        return OwnHead()
    if task.own_head is None and task.rounds < FIRST_ROUNDS:
        return OwnHead()
    before = OwnHead(task.own_head, task.asked_for_own_head)
    models = [task.base if task.served is None else task.served]
    if before.parameters is None:
        models = [task.base] if task.earlier is None else [task.base, task.earlier]
    return next_own_head(kernel, task.definition, models, before, train)


def _loss(
    kernel: Kernel,
    definition: FederationDefinition,
    start: RoundStart,
    own_head: Floats | None,
    train: Samples,
) -> float | None:
    """Only where it decides how much is sent, or when: it costs a look at all rows."""
    if definition.compression.kind == "dense" and not definition.schedule.pace:
        return None
    parameters = used_parameters(definition, start.base, start.head, own_head)
    found = kernel.mean_loss(parameters, train.x, train.y)
    return found if isfinite(found) else None


def _looked_at(
    task: TrainingTask,
    sets: SampleSets,
    kernels: Kernels,
    prior: Floats | None,
    *,
    report_score: bool,
) -> tuple[float | None, FreshRows | None]:
    """The score of the model this machine uses, and what its guard has to know."""
    judge, guard = Judge(task.definition, kernels), task.guard
    shared = task.base if task.served is None else task.served
    newest = ServedModel("", shared, task.head, task.prior, task.own_head)
    fresh = compared(guard, newest, sets, judge)
    if sets.test is None or not report_score:
        return None, fresh
    used = guard.kept if guard is not None and guard.tripped else newest
    if used is newest and task.prior is None:
        # nothing was trained yet: it is used with the first prior there is
        used = replace(newest, prior=prior)
    kernel = kernels.of(task.definition)
    found = score(kernel, task.definition, judge.parameters(used), sets.test)
    return found if isfinite(found) else None, fresh
