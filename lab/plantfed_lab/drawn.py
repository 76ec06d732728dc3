"""What all baselines have in common."""

from plantfed_agent.kernel_source import Kernels
from plantfed_shared.artefact import Artefact

PARTICIPATION = 0.3
"""Part of the plants that takes part in a round."""


def kernels_of(artefact: bytes | None) -> Kernels:
    """What trains a compiled model, or a dense one where there is none."""
    if artefact is None:
        return Kernels()
    found = Artefact.from_bytes(artefact)
    return Kernels(lambda _: found)
