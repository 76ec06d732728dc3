"""The blobs that agents can fetch: kept models, the definition, a member's own dual."""

from plantfed_coordinator.state import FederationState
from plantfed_shared.codec import encode_dense
from plantfed_shared.definition import content_digest
from plantfed_shared.lattice import checksum
from plantfed_shared.messages import Content, ModelName, ModelOffer


class Contents:
    """Encodes each kept model once."""

    def __init__(self) -> None:
        self._models: dict[ModelName, bytes] = {}
        self._names: dict[bytes, ModelName] = {}

    def offer(self, state: FederationState) -> ModelOffer:
        """The newest model and where its bytes are."""
        encoded = self._encoded(state, state.k)
        return ModelOffer(
            name=ModelName(state.epoch, state.k, checksum(state.model)),
            content=_content(encoded),
            definition=_content(state.terms.encoded),
            final=state.final,
        )

    def model(self, state: FederationState, digest: bytes) -> tuple[int, bytes] | None:
        """(release number, bytes) of a kept model."""
        for k in state.versions:
            self._encoded(state, k)
        name = self._names.get(digest)
        return None if name is None else (name.k, self._models[name])

    def other(self, state: FederationState, agent: str, digest: bytes) -> bytes | None:
        """The bytes of the definition or of the agent's own dual."""
        if digest == state.terms.digest:
            return state.terms.encoded
        dual = encode_dense(state.members[agent].contribution.dual)
        return dual if content_digest(dual) == digest else None

    def dual(self, state: FederationState, agent: str) -> Content | None:
        """Where a member's dual is, or None while it is zero."""
        integers = state.members[agent].contribution.dual
        return _content(encode_dense(integers)) if integers.any() else None

    def _encoded(self, state: FederationState, k: int) -> bytes:
        name = ModelName(state.epoch, k, checksum(state.versions[k]))
        if name not in self._models:
            self._forget(state)
            self._models[name] = encode_dense(state.versions[k])
            self._names[content_digest(self._models[name])] = name
        return self._models[name]

    def _forget(self, state: FederationState) -> None:
        gone = [n for n in self._models if n.epoch != state.epoch or n.k not in state.versions]
        for name in gone:
            del self._names[content_digest(self._models.pop(name))]


def _content(encoded: bytes) -> Content:
    return Content(content_digest(encoded), len(encoded))
