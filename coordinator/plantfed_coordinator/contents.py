"""The blobs that agents can fetch: steps between kept models, the definition, a member's dual."""

from collections import OrderedDict

import numpy as np

from plantfed_coordinator.state import FederationState
from plantfed_shared.codec import Coding, encode_integers, encode_model
from plantfed_shared.lattice import MAX_MAGNITUDE, Integers
from plantfed_shared.messages import Epoch, ModelOffer, ModelStep
from plantfed_shared.transfer import Blob

DUALS_KEPT = 4
STEPS_KEPT_BYTES = 32 * 2**20


class Contents:
    """Encodes each step between two models once, and the duals that are being fetched.

    Attributes:
        artefact: of a compiled model.
    """

    def __init__(self) -> None:
        self.artefact: Blob | None = None
        self._epoch: Epoch | None = None
        self._steps: OrderedDict[ModelStep, Blob] = OrderedDict()
        self._step_of: dict[bytes, ModelStep] = {}
        self._steps_bytes = 0
        self._duals: dict[str, tuple[Integers, Blob]] = {}

    def offer(self, state: FederationState) -> ModelOffer:
        """The newest model."""
        return ModelOffer(state.name(state.k), state.terms.content, state.final)

    def step(self, state: FederationState, step: ModelStep) -> Blob:
        """How to get from one kept model to another, or to one from nothing.

        Equal for all who have the same base.
        """
        self._keep_up(state)
        known = self._steps.get(step)
        if known is None:
            known = self._encoded(state, step)
            self._steps[step] = known
            self._step_of[known.content.digest] = step
            self._steps_bytes += known.content.size
            while self._steps_bytes > STEPS_KEPT_BYTES and len(self._steps) > 1:
                _, oldest = self._steps.popitem(last=False)
                self._steps_bytes -= oldest.content.size
                self._step_of.pop(oldest.content.digest, None)
        self._steps.move_to_end(step)
        return known

    def step_with(
        self, state: FederationState, digest: bytes, claimed: ModelStep | None
    ) -> tuple[ModelStep, Blob] | None:
        """The step with this digest.

        Args:
            state: of the federation.
            digest: of its content.
            claimed: what it is, says who asks: after a restart nothing is encoded yet.
        """
        self._keep_up(state)
        step = self._step_of.get(digest, claimed)
        if step is None or not can_step(state, step):
            return None
        blob = self.step(state, step)
        return (step, blob) if blob.content.digest == digest else None

    def for_many(
        self, state: FederationState, digest: bytes, claimed: ModelStep | None
    ) -> tuple[ModelStep | None, Blob] | None:
        """What many may fetch together: a step, see :meth:`step_with`, or the artefact."""
        if self.artefact is not None and digest == self.artefact.content.digest:
            return None, self.artefact
        return self.step_with(state, digest, claimed)

    def other(self, state: FederationState, agent: str, digest: bytes) -> Blob | None:
        """The definition, the artefact of its model, or the agent's own dual."""
        if self.artefact is not None and digest == self.artefact.content.digest:
            return self.artefact
        if digest == state.terms.digest:
            return Blob(state.terms.content, state.terms.encoded)
        blob = self._encoded_dual(state, agent)
        return blob if blob.content.digest == digest else None

    def dual(self, state: FederationState, agent: str) -> Blob | None:
        """A member's dual, or None while it is zero."""
        is_zero = not state.members[agent].contribution.dual.any()
        return None if is_zero else self._encoded_dual(state, agent)

    def _encoded(self, state: FederationState, step: ModelStep) -> Blob:
        model, lattice = state.versions[step.k], state.terms.lattice
        coding = state.terms.definition.compression.coding
        base = None if step.base_k is None else (step.base_k, state.versions[step.base_k])
        if base is not None and not _is_shorter(model, base[1], coding):
            base = None
        turnovers = state.turnovers.get(step.k, 0)
        encoded = encode_model(state.name(step.k), model, lattice, coding, base, turnovers)
        return Blob.of(encoded, ModelStep(step.k, None if base is None else base[0]))

    def _encoded_dual(self, state: FederationState, agent: str) -> Blob:
        """Encoded once for all windows of a transfer; the few that were fetched last are kept."""
        integers = state.members[agent].contribution.dual
        known = self._duals.pop(agent, None)
        if known is None or known[0] is not integers:
            coding = state.terms.definition.compression.coding
            known = integers, Blob.of(encode_integers(integers, state.terms.lattice, coding))
        self._duals[agent] = known
        if len(self._duals) > DUALS_KEPT:
            del self._duals[next(iter(self._duals))]
        return known[1]

    def _keep_up(self, state: FederationState) -> None:
        if self._epoch != state.epoch:
            self._epoch = state.epoch
            self._steps.clear()
            self._step_of.clear()
            self._steps_bytes = 0


def _is_shorter(model: Integers, base: Integers, coding: str) -> bool:
    """Whether the difference is worth sending, and a number of the lattice at all."""
    largest = int(np.abs(model - base).max(initial=0))
    return coding == Coding.ENTROPY and largest < MAX_MAGNITUDE


def can_step(state: FederationState, step: ModelStep) -> bool:
    """Whether both models are kept."""
    return step.k in state.versions and (step.base_k is None or step.base_k in state.versions)
