"""The manifest of a compiled model: see :mod:`plantfed_shared.artefact`."""

from math import prod
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from plantfed_shared.parameters import Floats, Parameter, ParameterSpecification
from plantfed_shared.section import MAX_PARAMETERS, LossKind, Positive, Settings

FORMAT: Literal["plantfed-model/1"] = "plantfed-model/1"

MAX_MEMBER_BYTES = 4 * 2 * MAX_PARAMETERS
"""Of any member but the manifest: the parameters, and as much again for what goes with them."""

GraphName = Literal["head_step", "body_step", "whole_step", "evaluate", "predict"]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Name = Annotated[str, Field(min_length=1, max_length=400)]
Size = Annotated[int, Field(ge=0)]
MOST_AXES = 32


class Array(Settings):
    """An array by name.

    Attributes:
        name: unique among its kind.
        dtype: of its elements.
        shape: its dimensions; without the batch where it is an input or an output of a graph.
    """

    name: Name
    dtype: Literal["float32", "int64"] = "float32"
    shape: Annotated[tuple[Size, ...], Field(max_length=MOST_AXES)]

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        # none of numpy's arrays is larger in one axis than there is memory, empty or not
        if prod(max(1, size) for size in self.shape) > MAX_MEMBER_BYTES:
            raise ValueError(f"an array of more than {MAX_MEMBER_BYTES} elements")
        return self

    @property
    def n_bytes(self) -> int:
        """In a ``.bin`` member."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize


class Trained(Array):
    """A parameter, or a statistic.

    Attributes:
        personal: it never leaves the machine.
    """

    personal: bool


class Member(Settings):
    """A file in the archive.

    Attributes:
        sha256: of its bytes.
        n_bytes: its length.
    """

    sha256: Sha256
    n_bytes: Annotated[int, Field(ge=0, le=MAX_MEMBER_BYTES)]


class Graph(Settings):
    """What a graph takes and gives, by name.

    Attributes:
        inputs: every one has to be fed.
        outputs: all of them.
        trains: names of the parameters it takes a step of; empty for no step.
    """

    inputs: tuple[Name, ...]
    outputs: tuple[Name, ...]
    trains: tuple[Name, ...] = ()


class LossOfModel(Settings):
    """What the graphs minimise, as a mean over rows.

    Attributes:
        kind: "cross-entropy" (of softmax), "bce" (of sigmoid; mean over rows and outputs), "mse"
            (half squared error, mean over rows and outputs), "huber" (the same within delta) or
            "reconstruction" (mse against the input itself, without a target).
        delta: where Huber turns from square to linear.
    """

    kind: LossKind
    delta: Positive = 1.0


class MadeWith(Settings):
    """Versions that made an artefact, for the reader."""

    plantfed: str
    onnx: str
    onnxruntime: str
    source_sha256: Sha256


LARGEST_TOLERANCE = 0.01
"""Of a self-test: with more, a machine that computes nonsense would pass it."""


class SelfTest(Settings):
    """What a machine has to compute itself before it may train.

    The batch is taken through ``whole_step`` with lr = 1, k = 0 and without duals, so that p - p'
    is the gradient.  Of one with more than :data:`SAMPLE` elements every n-th is there.

    Attributes:
        loss: mean loss of the batch.
        tolerance: largest difference, in parts of the largest gradient and of the loss.
        arrays: in ``self_test.bin``: the input, the target where there is one, then for each
            parameter ``gradient.<name>``.
    """

    loss: Annotated[float, Field(allow_inf_nan=False)]
    tolerance: Annotated[float, Field(gt=0, le=LARGEST_TOLERANCE)]
    arrays: tuple[Array, ...]


SAMPLE = 4096
"""Elements of one gradient that a self-test keeps."""


def sampled(gradient: Floats) -> Floats:
    """float32 (at most SAMPLE,): evenly spaced elements of a gradient, row by row."""
    flat: Floats = gradient.ravel()
    return flat[:: -(-flat.size // SAMPLE) or 1]


class Manifest(Settings):
    """What one must know to run the graphs.

    Names of graph inputs and outputs follow from it: see :mod:`plantfed_shared.step_names`.

    Attributes:
        format: :data:`FORMAT`.
        opset: of ``ai.onnx``, for all graphs.
        loss: what is minimised.
        momentum: whether the steps have velocities.
        input: of the network.
        target: the right answers; None for reconstruction.
        output: of the network: what the loss is taken of, so logits and not probabilities.
        parameters: in order; what is trained.
        statistics: in order; what the steps update without a gradient (batch norm).
        graphs: by name.
        members: by file name, all but the manifest.
        self_test: see :class:`SelfTest`.
        made_with: see :class:`MadeWith`.
    """

    format: Literal["plantfed-model/1"] = FORMAT
    opset: Annotated[int, Field(ge=1)]
    loss: LossOfModel
    momentum: bool = False
    input: Array
    target: Array | None
    output: Array
    parameters: tuple[Trained, ...] = Field(min_length=1)
    statistics: tuple[Trained, ...] = ()
    graphs: dict[GraphName, Graph]
    members: dict[str, Member]
    self_test: SelfTest
    made_with: MadeWith

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        for graph in self.graphs:
            if f"{graph}.onnx" not in self.members:
                raise ValueError(f"{graph}.onnx is not among the members")
        needed = {"body_step", "whole_step", "evaluate", "predict"}
        if any(p.personal for p in self.parameters):
            needed.add("head_step")
        if missing := needed - set(self.graphs):
            raise ValueError(f"there is no graph {', '.join(sorted(missing))}")
        names = [t.name for t in (*self.parameters, *self.statistics)]
        if len(set(names)) != len(names):
            raise ValueError("two parameters or statistics have the same name")
        if sum(prod(p.shape) for p in self.parameters) > MAX_PARAMETERS:
            raise ValueError(f"more than {MAX_PARAMETERS} parameters")
        return self

    def parameter_specification(self) -> ParameterSpecification:
        """The parameters as the federation knows them; statistics are no part of it."""
        return ParameterSpecification(
            tuple(Parameter(p.name, p.shape, p.personal) for p in self.parameters)
        )
