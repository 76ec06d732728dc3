"""The sections of a definition that say which network is trained, and for which loss."""

from math import prod
from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from plantfed_shared.section import (
    MAX_ARTEFACT_BYTES,
    MAX_PARAMETERS,
    LossKind,
    Positive,
    Settings,
)

Dimension = Annotated[int, Field(ge=1, le=2**31)]

ActivationName = Literal["relu", "tanh"]


class DenseModel(Settings):
    """A perceptron; layer l has parameters ``layer{l}.weight`` (inputs, outputs) and ``.bias``.

    Attributes:
        kind: "dense".
        hidden: widths of the hidden layers.
        activation: of the hidden layers: one for all, or one for each.
        seed: of the initial parameters, equal on all machines.
    """

    kind: Literal["dense"] = "dense"
    hidden: tuple[Annotated[int, Field(ge=1, le=65536)], ...] = Field(max_length=64)
    activation: ActivationName | tuple[ActivationName, ...] = "relu"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @model_validator(mode="after")
    def _has_an_activation_for_each_layer(self) -> Self:
        if not isinstance(self.activation, str) and len(self.activation) != len(self.hidden):
            raise ValueError(
                f"activation names {len(self.activation)} functions for {len(self.hidden)} hidden "
                "layers; name one for all or one for each"
            )
        return self

    @property
    def activations(self) -> tuple[ActivationName, ...]:
        """One per hidden layer."""
        if isinstance(self.activation, str):
            return (self.activation,) * len(self.hidden)
        return self.activation


class ModelTensor(Settings):
    """A parameter or a statistic of a compiled model.

    Attributes:
        name: unique within the model.
        shape: its dimensions.
        personal: it was compiled as part of the head.
    """

    name: Annotated[str, Field(min_length=1, max_length=400)]
    shape: tuple[Annotated[int, Field(ge=0, le=2**31)], ...]
    personal: bool

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)


class CompiledModel(Settings):
    """A network that was compiled: its artefact is fetched by digest.

    A sample is ``window.rows`` rows of all inputs; what the network takes is that matrix, or, with
    the layout "columns", the transposed one, in the shape of its input.

    Attributes:
        kind: "compiled".
        digest: of the artefact, 32 hexadecimal digits.
        size: of the artefact, bytes.
        input_shape: of one sample.
        output_shape: of the outputs for one sample.
        layout: "rows" (rows, inputs), as recurrent and dense networks take it, or "columns"
            (inputs, rows), as convolutions do.
        parameters: in order.
        statistics: of batch norm, in order; state of each machine.
        seed: of the order of rows.
    """

    kind: Literal["compiled"] = "compiled"
    digest: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    size: Annotated[int, Field(ge=1, le=MAX_ARTEFACT_BYTES)]
    input_shape: tuple[Dimension, ...] = Field(max_length=8)
    output_shape: tuple[Dimension, ...] = Field(max_length=8)
    layout: Literal["rows", "columns"] = "rows"
    parameters: tuple[ModelTensor, ...] = Field(min_length=1)
    statistics: tuple[ModelTensor, ...] = ()
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @model_validator(mode="after")
    def _is_a_model(self) -> Self:
        names = [tensor.name for tensor in (*self.parameters, *self.statistics)]
        if len(set(names)) != len(names):
            raise ValueError("two parameters or statistics have the same name")
        size = sum(p.size for p in (*self.parameters, *self.statistics))
        if size > MAX_PARAMETERS:
            raise ValueError(f"the model has {size} parameters; at most {MAX_PARAMETERS}")
        return self

    @property
    def head(self) -> frozenset[str]:
        """Names of the parameters that its head step trains."""
        return frozenset(p.name for p in self.parameters if p.personal)


def _kind_of_model(value: object) -> str:
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return "compiled" if kind == "compiled" else "dense"


AnyModel = Annotated[
    Annotated[DenseModel, Tag("dense")] | Annotated[CompiledModel, Tag("compiled")],
    Discriminator(_kind_of_model),
]


class Loss(Settings):
    """What a machine minimises, as a mean over rows.

    Attributes:
        kind: "cross-entropy" (softmax over classes), "mse" (half squared error, mean over rows and
            outputs) or "huber"; of compiled models also "bce" (of sigmoid, mean over rows and
            targets) and "reconstruction" (mse against the input itself).
        delta: where Huber turns from square to linear, in units of the scaled target.
    """

    kind: LossKind
    delta: Positive = 1.0
