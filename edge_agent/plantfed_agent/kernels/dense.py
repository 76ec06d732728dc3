"""Dense networks of any depth, in numpy: a_(l+1) = activation(a_l @ weight_l + bias_l)."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from plantfed_agent.kernels.descent import descend
from plantfed_agent.kernels.losses import LossFunction, loss_function
from plantfed_agent.kernels.port import Batches, Kernel, Part, Rates, Truth
from plantfed_shared.definition import DenseModel, FederationDefinition
from plantfed_shared.parameters import Floats, Parameters


@dataclass(frozen=True, slots=True)
class Activation:
    """A function of one number.

    Attributes:
        apply: the function, element by element.
        back: (gradient with respect to the function's value, that value) -> gradient with respect
            to its argument.
    """

    apply: Callable[[Floats], Floats]
    back: Callable[[Floats, Floats], Floats]


ACTIVATIONS = {
    "relu": Activation(lambda a: np.maximum(a, 0), lambda gradient, h: gradient * (h > 0)),
    "tanh": Activation(np.tanh, lambda gradient, h: gradient * (1 - h * h)),
}


@dataclass(frozen=True, slots=True)
class DenseKernel:
    """A perceptron and a loss; implements :class:`plantfed_agent.kernels.port.Kernel`.

    Attributes:
        names: of the parameters in order: weight (inputs, outputs) and bias (outputs,) per layer.
        activations: of each layer but the last.
        loss: of the outputs.
        offset: float32 (outputs,), added to the outputs of every row, or None.
    """

    names: tuple[str, ...]
    activations: tuple[Activation, ...]
    loss: LossFunction
    offset: Floats | None = None

    def outputs(self, parameters: Parameters, x: Floats) -> Floats:
        """See :meth:`Kernel.outputs`."""
        return self._forward(parameters, x)[-1]

    def features_and_outputs(self, parameters: Parameters, x: Floats) -> tuple[Floats, Floats]:
        """What enters the last layer, float32 (rows, its inputs), and what leaves it."""
        *_, features, outputs = self._forward(parameters, x)
        return features, outputs

    def mean_loss(self, parameters: Parameters, x: Floats, y: Truth) -> float:
        """See :meth:`Kernel.mean_loss`."""
        return self.loss_and_gradient(parameters, x, y, ())[0]

    def row_losses(self, parameters: Parameters, x: Floats, y: Truth) -> Floats:
        """See :meth:`Kernel.row_losses`."""
        outputs = self.outputs(parameters, x)
        found = [self.loss(outputs[n : n + 1], y[n : n + 1])[0] for n in range(len(x))]
        return np.array(found, dtype=np.float32)

    def descend(
        self, parameters: Parameters, parts: tuple[Part, ...], rates: Rates, batches: Batches
    ) -> list[float]:
        """See :meth:`Kernel.descend`."""
        return descend(self, self.names, parameters, parts, rates, batches)

    def loss_and_gradient(
        self, parameters: Parameters, x: Floats, y: Truth, wanted: Collection[str]
    ) -> tuple[float, list[Floats]]:
        """See :meth:`Kernel.loss_and_gradient`."""
        positions = [self._position(name) for name in wanted]
        states = self._forward(parameters, x)
        loss, delta = self.loss(states[-1], y)
        lowest = min(positions, default=len(self.names)) // 2
        gradients: dict[int, Floats] = {}
        for layer in reversed(range(lowest, len(self.names) // 2)):
            weight, bias = 2 * layer, 2 * layer + 1
            if weight in positions:
                gradients[weight] = states[layer].T @ delta
            if bias in positions:
                gradients[bias] = delta.sum(0)
            if layer > lowest:
                back = self.activations[layer - 1].back
                delta = back(delta @ parameters[weight].T, states[layer])
        return loss, [gradients[position] for position in sorted(positions)]

    def _forward(self, parameters: Parameters, x: Floats) -> list[Floats]:
        """What enters each layer, and last the outputs."""
        states = [x]
        layers = zip(parameters[:-2:2], parameters[1:-2:2], self.activations, strict=True)
        for weight, bias, activation in layers:
            states.append(activation.apply(states[-1] @ weight + bias))
        last = parameters[-1] if self.offset is None else parameters[-1] + self.offset
        states.append(states[-1] @ parameters[-2] + last)
        return states

    def _position(self, name: str) -> int:
        if name not in self.names:
            raise ValueError(f"{name!r} is not a parameter; there are: {', '.join(self.names)}")
        return self.names.index(name)


def kernel_for(definition: FederationDefinition, offset: Floats | None = None) -> Kernel:
    """The network and the loss of a federation.

    Args:
        definition: of the federation.
        offset: float32 (outputs,), added to the outputs of every row.

    Raises:
        ValueError: its model is compiled: :mod:`plantfed_agent.kernel_source` has those.
    """
    if not isinstance(definition.model, DenseModel):
        raise ValueError("the kernel of a compiled model is in its artefact")
    return DenseKernel(
        names=tuple(p.name for p in definition.parameter_specification().parameters),
        activations=tuple(ACTIVATIONS[name] for name in definition.model.activations),
        loss=loss_function(definition.loss.kind, definition.loss.delta),
        offset=offset,
    )
