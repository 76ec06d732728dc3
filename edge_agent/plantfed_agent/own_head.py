"""A last layer of its own in mode ``auto``, for a machine whose labels mean something else.

The model of mode ``auto`` is one for all, its last layer too.  Where a machine's labels or targets
mean something else than the others', no such layer can be right for it, and its own pull makes it
worse for them.  Its own rows tell: at the start of a round, on the body that it was given, it
compares the common layer with a ridge regression from what enters that layer to the answers, fitted
to these rows alone.  Rows of a time series are alike, so each class's rows are cut in the order
they came into three parts, and each part is judged by the fit to the other two.

It begins a last layer of its own, which never leaves it, where the own fit has less than .45 of the
errors of the common layer, and less than .6 of them in each part, give or take two errors, both in
the newest release and in the average of those before it, and that in two rounds in succession: the
newest release moves to and fro.  It goes back where the own fit has more than two thirds of the
errors of what it would use then.  The margin is wide because the common layer has seen the rows of
all, which tells on new rows and not on these.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from plantfed_agent.kernels.dense import DenseKernel
from plantfed_agent.kernels.port import Kernel, Truth
from plantfed_agent.local_round import RoundResult, RoundStart, run_round
from plantfed_agent.row_order import RowBatches
from plantfed_agent.samples import Samples
from plantfed_agent.whole_model import whole_model
from plantfed_shared.definition import FederationDefinition
from plantfed_shared.initial import initial_parameters
from plantfed_shared.parameters import (
    Floats,
    Parameters,
    ParameterSpecification,
    flatten,
)

FIRST_ROUNDS = 3
"""Of a machine, all of which go to the common layer: before them it could not be any good."""
RIDGE = 0.1
"""Of the mean square feature."""
FOLDS = 3
BEGIN_BELOW = 0.45
"""Of the common layer's error rate, or root mean square error."""
IN_EACH_PART_BELOW = 0.6
ERRORS_OF_GRACE = 2
"""Of a few rows the errors say little: without it some machines with 20 to 60 rows never began."""
END_ABOVE = 2 / 3
IN_SUCCESSION = 2
"""Rounds whose rows must have asked for a last layer of their own before it begins."""

Errors = NDArray[np.float64]
Folds = NDArray[np.int64]


class Common(NamedTuple):
    """What the model of all makes of a machine's rows.

    Attributes:
        features: float32 (rows, width), what enters its last layer.
        outputs: float32 (rows, outputs), with the machine's class prior.
    """

    features: Floats
    outputs: Floats


class OwnHead(NamedTuple):
    """How a machine stands to a last layer of its own.

    Attributes:
        parameters: float32 (last layer,), weight and bias; None where it uses the common one.
        asked: rounds in succession whose rows have asked for it, as long as it has none.
    """

    parameters: Floats | None = None
    asked: int = 0


def next_own_head(
    kernel: DenseKernel,
    definition: FederationDefinition,
    models: Sequence[Floats],
    before: OwnHead,
    train: Samples,
) -> OwnHead:
    """What a round of a machine begins with.

    Args:
        kernel: with the machine's prior.
        definition: whose parameters are all shared.
        models: float32 (shared,) each, all of which must ask for it: the newest release and the
            average of those before it, or, where the machine has one, what it would use without.
        before: after the round before.
        train: rows of the machine.
    """
    specification, has_one = definition.parameter_specification(), before.parameters is not None
    for model in models:
        parameters = whole_model(specification, model, np.zeros(0, np.float32))
        common = Common(*kernel.features_and_outputs(parameters, train.x))
        if not wants_own_head(common, train.y, len(definition.classes), has_one=has_one):
            return OwnHead()
    if has_one:
        return before
    if before.asked + 1 < IN_SUCCESSION:
        return OwnHead(None, before.asked + 1)
    return OwnHead(initial_own_head(definition))


def specification_with_own_head(definition: FederationDefinition) -> ParameterSpecification:
    """Weight and bias of the last layer are personal."""
    every = definition.parameter_specification().parameters
    names = [p.name for p in every[-2:]]
    return ParameterSpecification.from_shapes({p.name: p.shape for p in every}, names)


def wants_own_head(common: Common, y: Truth, n_classes: int, *, has_one: bool) -> bool:
    """Whether a machine's own rows ask for a last layer of their own.

    Args:
        common: of its training rows.
        y: the right answers of these rows.
        n_classes: 0 where they are targets.
        has_one: whether it has one now.
    """
    answers = np.eye(n_classes)[y] if n_classes else y.astype(np.float64)
    fold = _folds(y, n_classes)
    fitted = _fitted_to_the_others(common.features, answers, fold)
    own = _row_errors(fitted, answers, n_classes)
    shared = _row_errors(common.outputs.astype(np.float64), answers, n_classes)
    # targets have square errors
    begin, in_each, end = np.array([BEGIN_BELOW, IN_EACH_PART_BELOW, END_ABOVE]) ** (
        1 if n_classes else 2
    )
    below_end = own.sum() < end * shared.sum()
    if has_one:
        return bool(below_end)
    grace = ERRORS_OF_GRACE if n_classes else 0
    everywhere = all(
        own[rows].sum() <= in_each * shared[rows].sum() + grace
        for rows in (fold == number for number in range(FOLDS))
    )
    return bool(below_end and everywhere and own.sum() < begin * shared.sum() + grace)


def with_own_head(parameters: Parameters, own_head: Floats | None) -> Parameters:
    """The network with a machine's own last layer.

    Args:
        parameters: of the whole model, in order; not changed.
        own_head: float32 (last layer,), weight and bias, or None for the common one.
    """
    if own_head is None:
        return parameters
    weight = parameters[-2]
    n_weight = weight.size
    return [*parameters[:-2], own_head[:n_weight].reshape(weight.shape), own_head[n_weight:]]


def round_with_own_head(
    kernel: Kernel,
    definition: FederationDefinition,
    start: RoundStart,
    own_head: Floats,
    samples: Samples,
    head_rows: RowBatches,
    shared_rows: RowBatches,
    *,
    head_only: bool = False,
) -> tuple[RoundResult, Floats]:
    """A round of a machine that has one.

    Of the common last layer it says nothing more and takes back what it has said: the result's
    shared vector is there the base less the change by which this machine's dual ends (but for a few
    lattice units, where an edit has left a dual that no whole change makes).

    Args:
        kernel: of the definition.
        definition: whose parameters are all shared.
        start: of the round; base and dual with the common last layer.
        own_head: float32 (last layer,); not changed.
        samples: see :func:`plantfed_agent.local_round.run_round`.
        head_rows: see there.
        shared_rows: see there.
        head_only: take the steps of the own last layer alone, since nothing can be sent.

    Returns:
        The result, and the new last layer of its own.
    """
    n_body = start.base.size - own_head.size
    body = RoundStart(start.base[:n_body], start.dual[:n_body], own_head)
    specification = specification_with_own_head(definition)
    result = run_round(
        kernel,
        specification,
        definition.algorithm,
        body,
        samples,
        head_rows,
        shared_rows,
        head_only=head_only,
    )
    # relaxed, a change counts for more in the dual than it is
    common = start.base[n_body:] - start.dual[n_body:] / np.float32(definition.algorithm.relaxation)
    shared = np.concatenate([result.shared, common])
    return RoundResult(shared, start.head, result.loss), result.head


def initial_own_head(definition: FederationDefinition) -> Floats:
    """What a machine begins with: float32 (last layer,), as before anybody had trained.

    What the common layer has come to is wrong here; begun from that, machines that all call things
    differently ended a point and a half lower.
    """
    return flatten(initial_parameters(definition)[-2:])


def used_parameters(
    definition: FederationDefinition, shared: Floats, head: Floats, own_head: Floats | None
) -> Parameters:
    """All parameters a machine uses, see :func:`plantfed_agent.whole_model.whole_model`.

    Args:
        definition: of the federation.
        shared: float32 (shared,).
        head: float32 (personal + statistics,).
        own_head: see :func:`with_own_head`.
    """
    parameters = whole_model(definition.parameter_specification(), shared, head)
    return with_own_head(parameters, own_head)


def _fitted_to_the_others(features: Floats, answers: Errors, fold: Folds) -> Errors:
    """What a ridge regression on all other folds says about each row: float64 (rows, outputs)."""
    a = np.column_stack([features, np.ones(len(features))]).astype(np.float64)
    ridge = RIDGE * float(np.mean(a * a)) * len(a) * np.eye(a.shape[1])
    gram, moment = a.T @ a + ridge, a.T @ answers
    fitted = np.empty_like(answers)
    for left_out in (fold == number for number in range(FOLDS)):
        a_out, y_out = a[left_out], answers[left_out]
        solved = np.linalg.solve(gram - a_out.T @ a_out, moment - a_out.T @ y_out)
        fitted[left_out] = a_out @ solved
    return fitted


def _folds(y: Truth, n_classes: int) -> Folds:
    """Each class's rows, in the order they came, are cut into as many parts: int64 (rows,)."""
    classes = y if n_classes else np.zeros(len(y), dtype=np.int64)
    fold = np.empty(len(classes), dtype=np.int64)
    for c in np.unique(classes):
        (rows,) = np.nonzero(classes == c)
        fold[rows] = np.arange(len(rows)) * FOLDS // len(rows)
    return fold


def _row_errors(outputs: Errors, answers: Errors, n_classes: int) -> Errors:
    """0 or 1 for a class, the mean square error for targets: float64 (rows,)."""
    if n_classes:
        return np.asarray(outputs.argmax(1) != answers.argmax(1), dtype=np.float64)
    return np.asarray(np.mean((outputs - answers) ** 2, axis=1), dtype=np.float64)
