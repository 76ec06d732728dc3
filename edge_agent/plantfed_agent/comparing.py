"""What a guard has to know of a round's rows: which are new, and who answers them better."""

from typing import NamedTuple

import numpy as np

from plantfed_agent.guard import MOST_ROWS, FreshRows, Guard, ServedModel
from plantfed_agent.kernel_source import Kernels
from plantfed_agent.known_rows import Mask, first_seen, keys_of, known_after
from plantfed_agent.own_head import used_parameters
from plantfed_agent.samples import Samples, SampleSets
from plantfed_agent.scores import row_errors
from plantfed_shared.definition import FederationDefinition
from plantfed_shared.parameters import Floats, Parameters


class Judge(NamedTuple):
    """Answers rows by models.

    Attributes:
        definition: of the federation.
        kernels: makes the kernel.
    """

    definition: FederationDefinition
    kernels: Kernels

    def parameters(self, model: ServedModel) -> Parameters:
        """Of the network whose outputs are the model's answers."""
        definition, kernels = self.definition, self.kernels
        head = kernels.initial_head(definition) if model.head is None else model.head
        whole = used_parameters(definition, model.shared, head, model.own_head)
        return kernels.with_prior(definition, whole, model.prior)

    def excess(self, newest: ServedModel, kept: ServedModel, rows: Samples) -> Floats:
        """float32 (rows,): error of the newest minus that of the kept one, row by row."""
        if not len(rows):
            return np.zeros(0, np.float32)
        kernel = self.kernels.of(self.definition)
        errors = [
            row_errors(kernel, self.definition, self.parameters(model), rows)
            for model in (newest, kept)
        ]
        difference: Floats = errors[0] - errors[1]
        return difference


def compared(
    guard: Guard | None, newest: ServedModel, sets: SampleSets, judge: Judge
) -> FreshRows | None:
    """What is new among the rows of a round, before it trains on them.

    Rows that are kept back for testing count too: they have not been trained on either.

    Args:
        guard: of this machine; None before its first round.
        newest: the model that it uses where its guard has not tripped.
        sets: all rows of this machine.
        judge: answers them.

    Returns:
        None where there is nothing to tell: the same rows as before, and no guard that has tripped.
    """
    if guard is not None and not guard.tripped and guard.fingerprint == sets.fingerprint:
        return None
    keys = np.concatenate([keys_of(part) for part in _parts(sets)])
    none = np.zeros(0, np.float32)
    found = FreshRows(sets.fingerprint, known_after(keys), keys[:0], none, none)
    if guard is None:
        return found
    if guard.fingerprint == sets.fingerprint:
        found = found._replace(known=None)
    else:
        fresh = _thinned(first_seen(keys, guard.known))
        differences = judge.excess(newest, guard.kept, _of(sets, fresh))
        found = found._replace(keys=keys[fresh], differences=differences)
    if guard.tripped_on is not None:
        again = np.isin(keys, guard.tripped_on)
        found = found._replace(again=judge.excess(newest, guard.kept, _of(sets, again)))
    return found


def _parts(sets: SampleSets) -> list[Samples]:
    return [sets.train] if sets.test is None else [sets.train, sets.test]


def _thinned(mask: Mask) -> Mask:
    """At most so many rows as are counted, from all over the new ones."""
    at = np.flatnonzero(mask)
    if len(at) <= MOST_ROWS:
        return mask
    thinned = np.zeros_like(mask)
    thinned[at[np.linspace(0, len(at) - 1, MOST_ROWS).astype(int)]] = True
    return thinned


def _of(sets: SampleSets, mask: Mask) -> Samples:
    """Of all rows, those that training takes first."""
    parts = _parts(sets)
    masks = np.split(mask, [len(sets.train)])
    x = [part.x[chosen] for part, chosen in zip(parts, masks, strict=False)]
    y = [part.y[chosen] for part, chosen in zip(parts, masks, strict=False)]
    return Samples(np.concatenate(x), np.concatenate(y))
