"""The training port: what the agent's event loop knows about training.

This module and :mod:`plantfed_agent.process_trainer` load no kernel and no file reader, so that
the agent's own process stays small; those live in the training process.
"""

from dataclasses import dataclass
from typing import Protocol

from plantfed_agent.guard import FreshRows, Guard
from plantfed_shared.definition import FederationDefinition
from plantfed_shared.parameters import Floats


@dataclass(frozen=True, slots=True)
class TrainingTask:
    """One local round to do.

    Attributes:
        agent: id of this machine.
        seq: number of the round on this machine; the same number gives the same order of rows.
        base: float32 (shared,), the shared parameters to train against.
        dual: float32 (shared,), the scaled dual w in parameter units.
        head: float32 (personal,), or None for the initial head.
        definition: of the federation.
        head_only: train the head alone and leave the shared parameters at ``base``.
        earlier: float32 (shared,), the average of the releases before ``base``, where there is one.
        served: float32 (shared,), of the newest model that this machine may use until the round is
            done; None where they are ``base``.
        prior: float32 (classes,), of the same model; None for none.
        guard: as it stands before the round; None before the first.
        rounds: this machine has finished.
        own_head: float32 (last layer,), see :mod:`plantfed_agent.own_head`; None for none.
        asked_for_own_head: rounds in succession whose rows have asked for one, where there is none.
    """

    agent: str
    seq: int
    base: Floats
    dual: Floats
    head: Floats | None
    definition: FederationDefinition
    head_only: bool = False
    earlier: Floats | None = None
    served: Floats | None = None
    prior: Floats | None = None
    guard: Guard | None = None
    rounds: int = 0
    own_head: Floats | None = None
    asked_for_own_head: int = 0


@dataclass(frozen=True, slots=True)
class TrainingOutcome:
    """What a local round gave.

    Attributes:
        shared: float32 (shared,), the machine's own shared parameters.
        head: float32 (personal,), the new head.
        loss: mean training loss over the last epoch.
        score: of the model this machine served until now (what its guard has kept, or ``served`` or
            base with the old head) on its test samples: accuracy, or minus the root mean square
            error in target units; None if there are no test samples or scores are not wanted.
        start_loss: mean loss of the model the round started from, with the head as it was, on the
            training samples; None where it is not wanted.
        n_samples: training samples.
        data_fingerprint: changes when the files with the rows change.
        seconds: how long the round took, loading rows included.
        prior: float32 (classes,), what the machine adds to its logits; None in other modes.
        fresh: what its guard has to know; None where there is nothing to tell.
        own_head: float32 (last layer,), what this machine uses in place of the common last layer
            from now on; None for that.
        asked_for_own_head: see :class:`TrainingTask`; this round among them.
    """

    shared: Floats
    head: Floats
    loss: float
    score: float | None
    n_samples: int
    data_fingerprint: str
    seconds: float
    start_loss: float | None = None
    prior: Floats | None = None
    fresh: FreshRows | None = None
    own_head: Floats | None = None
    asked_for_own_head: int = 0


class Trainer(Protocol):
    """Does one local round at a time."""

    @property
    def running(self) -> bool:
        """Whether a round is being done."""
        ...

    async def run(self, task: TrainingTask) -> TrainingOutcome:
        """Do a round; cancelling it ends the work at once.

        Raises:
            DataError: the rows of this machine cannot be used.
            ConfigError: the settings do not fit the federation, or an extra is not installed.
            TrainingError: the numbers are no longer finite, or the training process ended.
            RuntimeError: another round is being done.
        """
        ...

    async def stop(self) -> None:
        """Give up a round that is being done and free all memory; another round may follow."""
        ...
