"""A kernel whose outputs have something added, by a parameter that is added to them anyway.

With b the bias of the outputs and a what is added, everything is done with b' = b + a in the place
of b: the gradient with respect to both is the same.  What pulls at b is told where b' has to go:

    mu b + strength (b - towards) + dual = mu b' + strength (b' - (towards + a)) + (dual - mu a)
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from plantfed_agent.kernels.port import Batches, Kernel, Part, Pull, Rates, Truth
from plantfed_shared.parameters import Floats, Parameters, flatten


@dataclass(frozen=True, slots=True)
class OffsetKernel:
    """Implements :class:`plantfed_agent.kernels.port.Kernel`.

    Attributes:
        kernel: without the offset.
        name: of the bias.
        position: of the bias among the parameters.
        offset: float32 (outputs,).
    """

    kernel: Kernel
    name: str
    position: int
    offset: Floats

    def outputs(self, parameters: Parameters, x: Floats) -> Floats:
        """See :meth:`Kernel.outputs`."""
        return self.kernel.outputs(self._moved(parameters), x)

    def mean_loss(self, parameters: Parameters, x: Floats, y: Truth) -> float:
        """See :meth:`Kernel.mean_loss`."""
        return self.kernel.mean_loss(self._moved(parameters), x, y)

    def row_losses(self, parameters: Parameters, x: Floats, y: Truth) -> Floats:
        """See :meth:`Kernel.row_losses`."""
        return self.kernel.row_losses(self._moved(parameters), x, y)

    def loss_and_gradient(
        self, parameters: Parameters, x: Floats, y: Truth, wanted: Collection[str]
    ) -> tuple[float, list[Floats]]:
        """See :meth:`Kernel.loss_and_gradient`."""
        return self.kernel.loss_and_gradient(self._moved(parameters), x, y, wanted)

    def descend(
        self, parameters: Parameters, parts: tuple[Part, ...], rates: Rates, batches: Batches
    ) -> list[float]:
        """See :meth:`Kernel.descend`."""
        if not any(p.name == self.name for part in parts for p in part.parameters):
            return self.kernel.descend(self._moved(parameters), parts, rates, batches)
        moved = tuple(self._with_moved_pull(part, rates.weight_decay) for part in parts)
        bias = parameters[self.position]
        offset = self.offset.reshape(bias.shape)
        # in place: it is a view into the vector of its part
        bias += offset
        try:
            return self.kernel.descend(parameters, moved, rates, batches)
        finally:
            bias -= offset

    def _moved(self, parameters: Parameters) -> Parameters:
        return with_offset(parameters, self.position, self.offset)

    def _with_moved_pull(self, part: Part, weight_decay: float) -> Part:
        if all(p.name != self.name for p in part.parameters):
            return part
        shift = flatten(
            [
                self.offset if p.name == self.name else np.zeros(p.size, np.float32)
                for p in part.parameters
            ]
        )
        pull = part.pull or Pull(0.0, np.zeros_like(shift))
        dual = np.zeros_like(shift) if pull.dual is None else pull.dual
        dual = (dual - weight_decay * shift).astype(np.float32)
        return part._replace(pull=Pull(pull.strength, pull.towards + shift, dual))


def with_offset(parameters: Parameters, position: int, offset: Floats) -> Parameters:
    """The parameters with something added to one of them; not changed.

    Args:
        parameters: of the whole model, in order.
        position: of the one.
        offset: of as many elements.
    """
    moved = list(parameters)
    moved[position] = moved[position] + offset.reshape(moved[position].shape)
    return moved
