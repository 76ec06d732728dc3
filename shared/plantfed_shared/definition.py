"""The definition of a federation: what its coordinator is given and every agent receives.

Two parts.  The *structure* (model, loss, personal pattern, inputs, outputs, window) can never
change within a federation; the *settings* (algorithm, schedule, compression, lattice) may be
edited, which starts a new epoch.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Annotated, Self

from pydantic import Field, model_validator

from plantfed_shared.algorithm_section import (
    PERSONAL_OF_MODE,
    Algorithm,
    Compression,
    Mode,
    Schedule,
)
from plantfed_shared.lattice import MAX_BITS, Lattice, Relaxation
from plantfed_shared.model_section import AnyModel, CompiledModel, DenseModel, Loss
from plantfed_shared.parameters import Parameter, ParameterSpecification
from plantfed_shared.section import MAX_PARAMETERS, Name, NonNegative, Positive, Settings

__all__ = [
    "MAX_PARAMETERS",
    "PERSONAL_OF_MODE",
    "Algorithm",
    "CompiledModel",
    "Compression",
    "DenseModel",
    "FederationDefinition",
    "Input",
    "Loss",
    "Mode",
    "Name",
    "NonNegative",
    "Positive",
    "Schedule",
    "Settings",
    "Target",
    "Window",
]


class Input(Settings):
    """One input column all machines must agree on: x = clip((value - centre) / scale).

    Attributes:
        name: of the quantity; a machine maps its own column name to it.
        unit: of ``value``, ``centre`` and ``scale``; for the reader.
        centre: subtracted from the value.
        scale: divides the centred value.
        clip: |x| is cut to this, or None.
    """

    name: Name
    unit: str = ""
    centre: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    scale: Positive = 1.0
    clip: Positive | None = None


class Target(Input):
    """One regression target; scaled like an input."""


class Window(Settings):
    """How many consecutive rows make one sample.

    Attributes:
        rows: of one sample; its label is that of its last row.
        step: rows from the start of one sample to the start of the next.
    """

    rows: Annotated[int, Field(ge=1, le=4096)] = 1
    step: Annotated[int, Field(ge=1, le=4096)] = 1


SETTINGS = {
    "algorithm",
    "schedule",
    "compression",
    "lattice_bits",
    "release_bits",
    "coarsest_release_bits",
}
"""What may change within a federation."""


class FederationDefinition(Settings):
    """Everything all members of a federation must agree on.

    Attributes:
        federation: its id, a topic level.
        model: the network.
        loss: what is minimised.
        personal: shell patterns of the parameters that never leave a machine.
        inputs: ordered input columns.
        classes: class names, for cross-entropy.
        targets: regression targets, for mse and huber; 0 or 1 for bce.
        window: rows per sample.
        algorithm: see :class:`Algorithm`.
        schedule: see :class:`Schedule`.
        compression: see :class:`Compression`.
        lattice_bits: b: one transmission unit is 2^-b.
        release_bits: released models are multiples of 2^-release_bits, so that the difference of
            two of them is short; the sums behind them stay as fine as the lattice.  None for all
            that the lattice has, in mode "auto" for ``lattice_bits``.
        coarsest_release_bits: while the model moves fast, the releases of a tensor may have fewer
            bits, down to this; None for ``release_bits`` always.
    """

    federation: str
    model: AnyModel
    loss: Loss
    personal: tuple[Name, ...] = ()
    inputs: tuple[Input, ...] = Field(min_length=1, max_length=65536)
    classes: tuple[Name, ...] = ()
    targets: tuple[Target, ...] = ()
    window: Window = Window()
    algorithm: Algorithm = Algorithm()
    schedule: Schedule = Schedule()
    compression: Compression = Compression()
    lattice_bits: Annotated[int, Field(ge=4, le=MAX_BITS)] = 16
    release_bits: Annotated[int, Field(ge=1, le=MAX_BITS)] | None = None
    coarsest_release_bits: Annotated[int, Field(ge=1, le=MAX_BITS)] | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        _refuse_repeats("inputs", [i.name for i in self.inputs])
        _refuse_repeats("classes", self.classes)
        _refuse_repeats("targets", [t.name for t in self.targets])
        self._has_the_answers_of_its_loss()
        if self.algorithm.is_asynchronous_only and self.schedule.kind == "sync":
            raise ValueError(f'{self.algorithm.mode} has no rounds: schedule.kind = "async"')
        shift = self.relaxation.shift
        if self.lattice_bits + shift > MAX_BITS:
            raise ValueError(
                f"lattice_bits {self.lattice_bits} with relaxation "
                f"{self.algorithm.relaxation:g} = p/2^{shift} makes steps below 2^-{MAX_BITS}; "
                "lower lattice_bits, or set relaxation = 1"
            )
        if self.release_bits is not None and self.release_bits > self.lattice_bits + shift:
            raise ValueError(
                f"release_bits {self.release_bits} is finer than the lattice, which has "
                f"{self.lattice_bits + shift} bits; lower it or leave it out"
            )
        coarsest, finest = self.coarsest_release_bits, self._finest_release_bits
        if coarsest is not None and (finest is None or coarsest > finest):
            raise ValueError(
                f"coarsest_release_bits {coarsest} is above release_bits "
                f"({'left out' if finest is None else finest}): set release_bits to {coarsest} or "
                "more, or leave coarsest_release_bits out"
            )
        if isinstance(self.model, CompiledModel):
            self._fits_its_compiled_model(self.model)
        else:
            size = sum((n_in + 1) * n_out for n_in, n_out in self.layer_shapes())
            if size > MAX_PARAMETERS:
                raise ValueError(f"the model has {size} parameters; at most {MAX_PARAMETERS}")
        self._shares_what_its_mode_shares()
        return self

    def _has_the_answers_of_its_loss(self) -> None:
        kind = self.loss.kind
        if kind in ("bce", "reconstruction") and self.model.kind == "dense":
            raise ValueError(f"loss.kind {kind!r} is one of compiled models only")
        if kind == "cross-entropy":
            if len(self.classes) < 2 or self.targets:
                raise ValueError("cross-entropy needs at least 2 classes and no targets")
        elif kind == "reconstruction":
            if self.classes or self.targets:
                raise ValueError("reconstruction needs no classes and no targets")
        elif not self.targets or self.classes:
            raise ValueError(f"{kind} needs at least 1 target and no classes")

    def _fits_its_compiled_model(self, model: CompiledModel) -> None:
        taken, given = prod(model.input_shape), self.n_inputs
        if taken != given:
            shape = " x ".join(map(str, model.input_shape)) or "1"
            raise ValueError(
                f"the model takes {shape} = {taken} numbers, but {self.window.rows} rows of "
                f"{len(self.inputs)} inputs are {given}: change window.rows or inputs"
            )
        if self.classes and model.output_shape != (len(self.classes),):
            raise ValueError(
                f"the model has outputs of shape {model.output_shape}, but there are "
                f"{len(self.classes)} classes"
            )
        if self.targets and prod(model.output_shape) != len(self.targets):
            raise ValueError(
                f"the model has {prod(model.output_shape)} outputs, but there are "
                f"{len(self.targets)} targets"
            )
        if self.loss.kind == "reconstruction" and prod(model.output_shape) != taken:
            raise ValueError("the model has another number of outputs than of inputs")
        head = {p.name for p in self.parameter_specification().personal}
        if head and head != model.head and len(head) < len(model.parameters):
            raise ValueError(
                "personal differs from the head the model was compiled with "
                f"({', '.join(sorted(model.head)) or 'none'}): compile it with other --personal"
            )

    def _shares_what_its_mode_shares(self) -> None:
        mode, specification = self.algorithm.mode, self.parameter_specification()
        if mode in ("fedavg", "fedprox", "auto") and specification.personal:
            raise ValueError(
                f"{mode} has one model for all: personal must be empty; "
                'for heads of their own choose mode = "fedapm"'
            )
        if mode == "local":
            if specification.shared:
                raise ValueError('local shares nothing: personal = ["*"]')
        elif not specification.shared:
            raise ValueError("every parameter is personal: nothing is left to share")

    @property
    def n_inputs(self) -> int:
        """Features of one sample: window rows times input columns."""
        return self.window.rows * len(self.inputs)

    @property
    def n_outputs(self) -> int:
        """Outputs of the model: classes, targets, or as many as inputs."""
        return len(self.classes) or len(self.targets) or self.n_inputs

    @property
    def metric(self) -> str:
        """What a score is; more is better."""
        if self.loss.kind in ("cross-entropy", "bce"):
            return "accuracy"
        return "-reconstruction RMSE" if self.loss.kind == "reconstruction" else "-RMSE"

    @property
    def relaxation(self) -> Relaxation:
        """The exact relaxation."""
        return Relaxation.from_float(self.algorithm.relaxation)

    def layer_shapes(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of each layer of a dense model.

        Raises:
            ValueError: it is a compiled one.
        """
        if isinstance(self.model, CompiledModel):
            raise ValueError("a compiled model has no layers that are known here")
        return list(pairwise((self.n_inputs, *self.model.hidden, self.n_outputs)))

    def parameter_specification(self) -> ParameterSpecification:
        """All parameters in order, shared or personal.

        Raises:
            ValueError: see :meth:`ParameterSpecification.from_shapes`.
        """
        if isinstance(self.model, CompiledModel):
            return self._specification_of(self.model)
        shapes: dict[str, tuple[int, ...]] = {}
        for number, (n_in, n_out) in enumerate(self.layer_shapes(), start=1):
            shapes[f"layer{number}.weight"] = (n_in, n_out)
            shapes[f"layer{number}.bias"] = (n_out,)
        return ParameterSpecification.from_shapes(shapes, self.personal)

    def _specification_of(self, model: CompiledModel) -> ParameterSpecification:
        shapes = {p.name: p.shape for p in model.parameters}
        found = ParameterSpecification.from_shapes(shapes, self.personal)
        statistics = tuple(Parameter(s.name, s.shape, True) for s in model.statistics)
        return ParameterSpecification(found.parameters, statistics)

    def lattice(self) -> Lattice:
        """The lattice of the shared vector."""
        shared = self.parameter_specification().shared
        return Lattice(
            sizes=tuple(p.size for p in shared),
            bits=(self.lattice_bits,) * len(shared),
            relaxation=self.relaxation,
            release_shift=self._shift_to(self._finest_release_bits),
            coarsest_release_shift=self._shift_to(self.coarsest_release_bits),
            rows=tuple(p.shape[0] if len(p.shape) > 1 else 1 for p in shared),
        )

    @property
    def _finest_release_bits(self) -> int | None:
        if self.release_bits is None and self.algorithm.mode == "auto":
            # relaxed, its models would be finer than what is sent; what rounding takes waits
            return self.lattice_bits
        return self.release_bits

    def _shift_to(self, bits: int | None) -> int:
        return 0 if bits is None else self.lattice_bits + self.relaxation.shift - bits

    def to_bytes(self) -> bytes:
        """Canonical JSON; two equal definitions give equal bytes."""
        return self.model_dump_json().encode()

    @classmethod
    def from_bytes(cls, encoded: bytes) -> "FederationDefinition":
        """The inverse of :meth:`to_bytes`.

        Raises:
            ValueError: it is not a valid definition.
        """
        return cls.model_validate_json(encoded)

    def structure(self) -> bytes:
        """Canonical JSON of what may never change within a federation."""
        return self.model_dump_json(exclude=SETTINGS).encode()


def _refuse_repeats(field: str, names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{field}: {name!r} appears twice")
        seen.add(name)
