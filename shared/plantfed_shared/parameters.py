"""Which parameters a model has, which of them are shared, and how they lie in one flat vector."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import prod

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Parameters = list[Floats]
"""One float32 array per parameter, in the order of the specification."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter tensor.

    Attributes:
        name: unique within the model.
        shape: its dimensions.
        personal: it never leaves the machine.
    """

    name: str
    shape: tuple[int, ...]
    personal: bool

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class ParameterSpecification:
    """All parameters of a model, in order.

    Attributes:
        parameters: what is trained.
        statistics: what follows the machine's own rows without a gradient; they lie behind the
            personal parameters in the vector of its head.
    """

    parameters: tuple[Parameter, ...]
    statistics: tuple[Parameter, ...] = ()

    @classmethod
    def from_shapes(
        cls, shapes: Mapping[str, tuple[int, ...]], personal_patterns: Sequence[str]
    ) -> "ParameterSpecification":
        """Mark as personal what matches one of the shell patterns (``*``, ``?``, ``[...]``).

        Raises:
            ValueError: a pattern matches nothing.
        """
        for pattern in personal_patterns:
            if not any(fnmatchcase(name, pattern) for name in shapes):
                names = ", ".join(shapes)
                raise ValueError(f"pattern {pattern!r} matches no parameter; there are: {names}")
        parameters = tuple(
            Parameter(name, shape, any(fnmatchcase(name, p) for p in personal_patterns))
            for name, shape in shapes.items()
        )
        return cls(parameters)

    @property
    def shared(self) -> tuple[Parameter, ...]:
        """The parameters that all machines agree on, in order."""
        return tuple(p for p in self.parameters if not p.personal)

    @property
    def personal(self) -> tuple[Parameter, ...]:
        """The parameters that never leave, in order."""
        return tuple(p for p in self.parameters if p.personal)

    def split(self, values: Sequence[Floats]) -> tuple[Parameters, Parameters]:
        """A whole model -> (shared, personal), each in order."""
        pairs = list(zip(self.parameters, values, strict=True))
        return [v for p, v in pairs if not p.personal], [v for p, v in pairs if p.personal]

    def merge(self, shared: Sequence[Floats], personal: Sequence[Floats]) -> Parameters:
        """(shared, personal) -> the whole model, in order."""
        from_shared, from_personal = iter(shared), iter(personal)
        return [next(from_personal if p.personal else from_shared) for p in self.parameters]


def flatten(values: Sequence[Floats]) -> Floats:
    """One float32 vector, tensor after tensor, each row by row; empty for no tensors."""
    if not values:
        return np.zeros(0, dtype=np.float32)
    return np.concatenate([np.asarray(v, dtype=np.float32).ravel() for v in values])


def unflatten(vector: Floats, parameters: Sequence[Parameter]) -> Parameters:
    """The inverse of :func:`flatten`: views into the vector.

    Raises:
        ValueError: the vector has another number of elements.
    """
    if vector.shape != (sum(p.size for p in parameters),):
        raise ValueError(f"vector of shape {vector.shape} does not fit the parameters")
    if not parameters:
        return []
    ends = np.cumsum([p.size for p in parameters])[:-1]
    parts = np.split(vector, ends)
    return [part.reshape(p.shape) for part, p in zip(parts, parameters, strict=True)]
