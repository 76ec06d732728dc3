"""What a round needs of a network: its outputs, its loss and chosen gradients."""

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from plantfed_shared.parameters import Floats, Parameter, Parameters

Truth = NDArray[Any]
"""The right answers: int64 class numbers (rows,) or float32 scaled targets (rows, targets); of an
autoencoder, whose input is the answer, (rows, 0)."""

Batches = Iterable[tuple[Floats, Truth]]
"""Inputs and right answers of each step."""


class Pull(NamedTuple):
    """What is added to the gradient with respect to a vector: dual + strength (vector - towards).

    Attributes:
        strength: at least 0.
        towards: of the vector's shape.
        dual: of the vector's shape; None for zero.
    """

    strength: float
    towards: Floats
    dual: Floats | None = None


class Part(NamedTuple):
    """A vector that takes steps.

    Attributes:
        vector: changed in place, and with it the parameters that are views into it.
        parameters: that lie in it, in order; statistics may lie behind them.
        pull: at all of them.
    """

    vector: Floats
    parameters: tuple[Parameter, ...]
    pull: Pull | None

    @property
    def trained(self) -> Floats:
        """The part of the vector that its parameters lie in."""
        return self.vector[: sum(p.size for p in self.parameters)]


class Rates(NamedTuple):
    """Of SGD: p <- p - learning_rate (gradient + weight_decay p + pull)."""

    learning_rate: float
    weight_decay: float


class Kernel(Protocol):
    """A network with a loss.  Its parameters belong to the caller.

    Wherever parameters are given, statistics of batch norm follow them, where the network has some.
    """

    def outputs(self, parameters: Parameters, x: Floats) -> Floats:
        """Run the network forward.

        Args:
            parameters: of the whole model, in the order of the specification.
            x: float32 (rows, inputs), scaled.

        Returns:
            float32 (rows, outputs): logits, or targets in scaled units.
        """
        ...

    def mean_loss(self, parameters: Parameters, x: Floats, y: Truth) -> float:
        """The mean loss of some rows, as the network is used.

        Args:
            parameters: of the whole model, in the order of the specification.
            x: float32 (rows, inputs), scaled, at least one row.
            y: the right answers of these rows.
        """
        ...

    def row_losses(self, parameters: Parameters, x: Floats, y: Truth) -> Floats:
        """The loss of each row, as the network is used: float32 (rows,).

        Args:
            parameters: of the whole model, in the order of the specification.
            x: float32 (rows, inputs), scaled.
            y: the right answers of these rows.
        """
        ...

    def descend(
        self, parameters: Parameters, parts: tuple[Part, ...], rates: Rates, batches: Batches
    ) -> list[float]:
        """Take a step of SGD for each batch.

        Args:
            parameters: of the whole model; those of the parts are views into their vectors, and
                change, as statistics do.
            parts: what takes steps, each parameter in one of them at most.
            rates: of the steps.
            batches: of at least one row each.

        Returns:
            The loss of each batch before its step, without weight decay and pulls.
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
