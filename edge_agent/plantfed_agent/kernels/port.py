"""What a round needs of a network: its outputs, its loss and chosen gradients."""

from collections.abc import Collection
from typing import Any, Protocol

from numpy.typing import NDArray

from plantfed_shared.parameters import Floats, Parameters

Truth = NDArray[Any]
"""The right answers: int64 class numbers (rows,) or float32 scaled targets (rows, targets)."""


class Kernel(Protocol):
    """A network with a loss.  Its parameters belong to the caller and are never changed here."""

    def outputs(self, parameters: Parameters, x: Floats) -> Floats:
        """Run the network forward.

        Args:
            parameters: of the whole model, in the order of the specification.
            x: float32 (rows, inputs), scaled.

        Returns:
            float32 (rows, outputs): logits, or targets in scaled units.
        """
        ...

    def loss_and_gradient(
        self, parameters: Parameters, x: Floats, y: Truth, wanted: Collection[str]
    ) -> tuple[float, list[Floats]]:
        """The mean loss of some rows and its gradient with respect to the wanted parameters.

        Args:
            parameters: of the whole model, in the order of the specification.
            x: float32 (rows, inputs), scaled, at least one row.
            y: the right answers of these rows.
            wanted: parameter names; backpropagation stops at the lowest layer that has one.

        Returns:
            The loss, and one float32 array per wanted parameter in the order of the specification.

        Raises:
            ValueError: a wanted name is not a parameter.
        """
        ...
