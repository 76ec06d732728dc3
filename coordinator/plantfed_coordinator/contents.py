"""The blobs that agents can fetch: kept models, the definition, a member's own dual."""

from plantfed_coordinator.state import FederationState
from plantfed_shared.codec import encode_dense, encode_model
from plantfed_shared.definition import content_digest
from plantfed_shared.lattice import Integers, checksum
from plantfed_shared.messages import Content, Epoch, ModelName, ModelOffer

DUALS_KEPT = 4


class Contents:
    """Encodes each kept model once, and the duals that are being fetched."""

    def __init__(self) -> None:
        self._epoch: Epoch | None = None
        self._offers: dict[int, tuple[ModelName, Content]] = {}
        self._encoded: dict[bytes, tuple[int, bytes]] = {}
        self._duals: dict[str, tuple[Integers, Content, bytes]] = {}

    def offer(self, state: FederationState) -> ModelOffer:
        """The newest model and where its bytes are."""
        self._keep_up(state)
        name, content = self._offers[state.k]
        return ModelOffer(name, content, state.terms.content, state.final)

    def model(self, state: FederationState, digest: bytes) -> tuple[int, bytes] | None:
        """(release number, bytes) of a kept model."""
        self._keep_up(state)
        return self._encoded.get(digest)

    def other(self, state: FederationState, agent: str, digest: bytes) -> bytes | None:
        """The bytes of the definition or of the agent's own dual."""
        if digest == state.terms.digest:
            return state.terms.encoded
        content, encoded = self._encoded_dual(state, agent)
        return encoded if content.digest == digest else None

    def dual(self, state: FederationState, agent: str) -> Content | None:
        """Where a member's dual is, or None while it is zero."""
        is_zero = not state.members[agent].contribution.dual.any()
        return None if is_zero else self._encoded_dual(state, agent)[0]

    def _encoded_dual(self, state: FederationState, agent: str) -> tuple[Content, bytes]:
        """Encoded once for all windows of a transfer; the few that were fetched last are kept."""
        integers = state.members[agent].contribution.dual
        known = self._duals.pop(agent, None)
        if known is None or known[0] is not integers:
            encoded = encode_dense(integers)
            known = integers, _content(encoded), encoded
        self._duals[agent] = known
        if len(self._duals) > DUALS_KEPT:
            del self._duals[next(iter(self._duals))]
        return known[1:]

    def _keep_up(self, state: FederationState) -> None:
        if self._epoch != state.epoch:
            self._epoch = state.epoch
            self._offers.clear()
            self._encoded.clear()
        for k in self._offers.keys() - state.versions.keys():
            del self._encoded[self._offers.pop(k)[1].digest]
        for k in state.versions.keys() - self._offers.keys():
            name = ModelName(state.epoch, k, checksum(state.versions[k]))
            encoded = encode_model(name, state.versions[k])
            self._offers[k] = name, _content(encoded)
            self._encoded[self._offers[k][1].digest] = k, encoded


def _content(encoded: bytes) -> Content:
    return Content(content_digest(encoded), len(encoded))
