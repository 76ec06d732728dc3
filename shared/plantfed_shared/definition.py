"""The definition of a federation: what its coordinator is given and every agent receives.

Two parts.  The *structure* (model, loss, personal pattern, inputs, outputs, window) can never
change within a federation; the *settings* (algorithm, schedule, compression, lattice) may be
edited, which starts a new epoch.
"""

from collections.abc import Sequence
from hashlib import blake2b
from itertools import pairwise
from math import inf
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from plantfed_shared.lattice import MAX_BITS, MAX_RELAXATION_SHIFT, Lattice, Relaxation
from plantfed_shared.parameters import ParameterSpecification

Name = Annotated[str, Field(min_length=1, max_length=200)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]

Mode = Literal[
    "fedapm", "fedalt", "fedsim", "fedavg", "fedprox", "local", "fedbuff", "fedasync", "auto"
]
ActivationName = Literal["relu", "tanh"]

PERSONAL_OF_MODE: dict[str, tuple[str, ...]] = {
    "fedavg": (),
    "fedprox": (),
    "local": ("*",),
    "auto": (),
}
"""What is personal in the modes that leave no choice."""

MAX_PARAMETERS = 2**25
"""Of the whole model: its bytes must stay well below what is transferred in chunks."""


def _exact_on_the_lattice(relaxation: float) -> float:
    try:
        return Relaxation.from_float(relaxation).value
    except ValueError as error:
        finest = 2**MAX_RELAXATION_SHIFT
        nearest = max(1, round(relaxation * finest)) / finest
        raise ValueError(f"{error}; the nearest that is: {nearest!r}") from None


class Settings(BaseModel):
    """Base of every settings section: immutable, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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


class Loss(Settings):
    """What a machine minimises, as a mean over rows.

    Attributes:
        kind: "cross-entropy" (softmax over classes), "mse" (half squared error, mean over rows and
            outputs) or "huber".
        delta: where Huber turns from square to linear, in units of the scaled target.
    """

    kind: Literal["cross-entropy", "mse", "huber"]
    delta: Positive = 1.0


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


class Algorithm(Settings):
    """The optimisation, stated per machine objective so that it means the same for 8 and 200.

    Attributes:
        mode: what a machine and the coordinator compute, see ``docs/modes.md``: "fedapm" (ADMM
            with personal heads, arXiv 2506.04672), "fedalt", "fedsim", "fedavg", "fedprox",
            "local", "auto" (ADMM on the whole network, with each machine's own class prior), and
            for the asynchronous schedule only "fedbuff" and "fedasync".
        learning_rate: SGD step.
        weight_decay: mu, of f_i = loss + mu/2 |p|^2.
        penalty: rho of the ADMM constraint u_i = u; fedapm, auto.
        head_proximal: sigma of the head step; fedapm.
        proximal: weight of FedProx's |x - u|^2 / 2.
        server_step: at least 2^-16, the coordinator's finest; fedbuff: how far the model moves
            along the mean change; fedasync: the share of a fresh arrival in it, at most 1.
        staleness_exponent: a: an arrival tau releases late counts (1 + tau)^-a; fedbuff, fedasync.
        epochs: E passes over the rows per phase.
        batch: rows per SGD step.
        relaxation: p/2^s, at most 1000, which no sum of int64 can overflow with; transmitted
            changes count this much in dual and z.
        memory: beta of the compression memory; 1 is plain error feedback, which only modes
            without duals bear.
        weighting: n_i = 1 ("equal", as in the paper) or the number of training samples ("rows").
        max_norm: a change |o| longer than this, in parameter units, is rejected; None for no limit.
    """

    mode: Mode = "fedapm"
    learning_rate: Positive = 0.05
    weight_decay: NonNegative = 0.01
    penalty: Positive = 0.2
    head_proximal: NonNegative = 0.2
    proximal: NonNegative = 2.0
    server_step: Annotated[float, Field(ge=2**-16, le=1000)] = 1.0
    staleness_exponent: Annotated[float, Field(ge=0, le=10)] = 0.5
    epochs: Annotated[int, Field(ge=1, le=1000)] = 3
    batch: Annotated[int, Field(ge=1, le=2**20)] = 50
    relaxation: Annotated[float, Field(gt=0, le=1000), AfterValidator(_exact_on_the_lattice)] = 1.0
    memory: Annotated[float, Field(ge=0, le=1)] = 0.0
    weighting: Literal["equal", "rows"] = "equal"
    max_norm: Positive | None = None

    @model_validator(mode="after")
    def _gain_is_stable(self) -> Self:
        if self.has_duals and self.relaxation > 2 * (1 - self.memory):
            gain = self.relaxation / (1 - self.memory) if self.memory < 1 else inf
            raise ValueError(
                f"relaxation / (1 - memory) is {gain:g}; above 2 it diverges, lower one of them"
            )
        return self

    @model_validator(mode="after")
    def _weights_arrivals_as_its_mode_does(self) -> Self:
        if self.mode == "fedasync" and self.server_step > 1:
            raise ValueError(
                f"server_step {self.server_step:g} is above 1, the whole of an arrival"
            )
        if self.is_asynchronous_only and self.weighting != "equal":
            raise ValueError(
                f'{self.mode} weights arrivals by their staleness: weighting = "equal"'
            )
        return self

    @property
    def has_duals(self) -> bool:
        """Whether duals are integrated."""
        return self.mode in ("fedapm", "auto")

    @property
    def has_prior(self) -> bool:
        """Whether a machine adds the logarithm of its own class frequencies to its logits."""
        return self.mode == "auto"

    @property
    def is_asynchronous_only(self) -> bool:
        """Whether it has no synchronous form."""
        return self.mode in ("fedbuff", "fedasync")


class Compression(Settings):
    """How an agent makes its change small before it sends it.

    Attributes:
        kind: "dense" sends every parameter, exact on the lattice; "top-k" the largest changes, in
            few bits each; "low-rank" the change of every matrix as a sum of few products of two
            vectors, which in few bits each are fewer numbers.
        bits: of a number that is sent, its sign included; top-k, low-rank.
        keep: numbers a machine sends at first, as a part of the parameters; top-k, low-rank.
        keep_at_most: it rises to this where a machine's loss stalls.
        coding: of the integers, in both directions: "entropy" takes as few bits as their
            distribution allows; "plain" 4 bytes each, as float32 has, and next to no time.
    """

    kind: Literal["dense", "top-k", "low-rank"] = "dense"
    bits: Annotated[int, Field(ge=3, le=8)] = 4
    keep: Annotated[float, Field(gt=0, le=1)] = 0.02
    keep_at_most: Annotated[float, Field(gt=0, le=1)] = 0.1
    coding: Literal["entropy", "plain"] = "entropy"

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.keep > self.keep_at_most:
            raise ValueError(f"keep {self.keep:g} is above keep_at_most {self.keep_at_most:g}")
        return self

    @model_validator(mode="after")
    def _has_a_coding(self) -> Self:
        if self.kind == "low-rank" and self.coding == "plain":
            raise ValueError('coding "plain" has no form for kind "low-rank": use "entropy"')
        return self


class Schedule(Settings):
    """When the coordinator releases a model.

    Attributes:
        kind: "async" (nobody waits) or "sync" (rounds with drawn participants).
        arrivals: async: distinct agents that must have answered; 0 is an eighth of the live ones,
            and two or more where a mean over arrivals is the model.
        release_after_s: async: at the latest this long after the first unreleased change.
        live_within_s: a member heard of within this time is live.
        participation: sync: part of the members drawn for a round, at least one.
        deadline_s: sync: a round closes at the latest then, with at least one answer.
        pace: async: a machine whose loss has fallen to nothing begins its next round only after
            updates of so large a part of the live members (or ``release_after_s`` later), one
            whose loss is half of what it was does not wait, in between in proportion.
        min_members: no release and no round before so many have joined.
        max_releases: after so many the federation rests at its final model; None for no end.
        seed: of the draws.
    """

    kind: Literal["async", "sync"] = "async"
    arrivals: Annotated[int, Field(ge=0)] = 0
    release_after_s: Positive = 60.0
    live_within_s: Positive = 600.0
    participation: Annotated[float, Field(gt=0, le=1)] = 0.3
    deadline_s: Positive = 600.0
    pace: Annotated[float, Field(ge=0, le=0.9)] = 0.0
    min_members: Annotated[int, Field(ge=1)] = 1
    max_releases: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


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
        targets: regression targets, for mse and huber.
        window: rows per sample.
        algorithm: see :class:`Algorithm`.
        schedule: see :class:`Schedule`.
        compression: see :class:`Compression`.
        lattice_bits: b: one transmission unit is 2^-b.
        release_bits: released models are multiples of 2^-release_bits, so that the difference of
            two of them is short; the sums behind them stay as fine as the lattice.  None for all
            that the lattice has.
        coarsest_release_bits: while the model moves fast, the releases of a tensor may have fewer
            bits, down to this; None for ``release_bits`` always.
    """

    federation: str
    model: DenseModel
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
        if self.loss.kind == "cross-entropy":
            if len(self.classes) < 2 or self.targets:
                raise ValueError("cross-entropy needs at least 2 classes and no targets")
        elif not self.targets or self.classes:
            raise ValueError(f"{self.loss.kind} needs at least 1 target and no classes")
        if self.algorithm.is_asynchronous_only and self.schedule.kind == "sync":
            raise ValueError(f'{self.algorithm.mode} has no rounds: schedule.kind = "async"')
        shift = self.relaxation.shift
        if self.lattice_bits + shift > MAX_BITS:
            raise ValueError(
                f"lattice_bits {self.lattice_bits} with relaxation p/2^{shift} makes steps below "
                f"2^-{MAX_BITS}; lower one of them"
            )
        if self.release_bits is not None and self.release_bits > self.lattice_bits + shift:
            raise ValueError(
                f"release_bits {self.release_bits} is finer than the lattice, which has "
                f"{self.lattice_bits + shift} bits; lower it or leave it out"
            )
        coarsest = self.coarsest_release_bits
        if coarsest is not None and (self.release_bits is None or coarsest > self.release_bits):
            raise ValueError(
                f"coarsest_release_bits {coarsest} is above release_bits: set release_bits to "
                f"{coarsest} or more, or leave coarsest_release_bits out"
            )
        size = sum((n_in + 1) * n_out for n_in, n_out in self.layer_shapes())
        if size > MAX_PARAMETERS:
            raise ValueError(f"the model has {size} parameters; at most {MAX_PARAMETERS}")
        self._shares_what_its_mode_shares()
        return self

    def _shares_what_its_mode_shares(self) -> None:
        mode, specification = self.algorithm.mode, self.parameter_specification()
        if mode in ("fedavg", "fedprox", "auto") and specification.personal:
            raise ValueError(f"{mode} has one model for all: personal must be empty")
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
        """Outputs of the model: classes or targets."""
        return len(self.classes) or len(self.targets)

    @property
    def relaxation(self) -> Relaxation:
        """The exact relaxation."""
        return Relaxation.from_float(self.algorithm.relaxation)

    def layer_shapes(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of each layer."""
        return list(pairwise((self.n_inputs, *self.model.hidden, self.n_outputs)))

    def parameter_specification(self) -> ParameterSpecification:
        """All parameters in order, shared or personal.

        Raises:
            ValueError: see :meth:`ParameterSpecification.from_shapes`.
        """
        shapes: dict[str, tuple[int, ...]] = {}
        for number, (n_in, n_out) in enumerate(self.layer_shapes(), start=1):
            shapes[f"layer{number}.weight"] = (n_in, n_out)
            shapes[f"layer{number}.bias"] = (n_out,)
        return ParameterSpecification.from_shapes(shapes, self.personal)

    def lattice(self) -> Lattice:
        """The lattice of the shared vector."""
        shared = self.parameter_specification().shared
        return Lattice(
            sizes=tuple(p.size for p in shared),
            bits=(self.lattice_bits,) * len(shared),
            relaxation=self.relaxation,
            release_shift=self._shift_to(self.release_bits),
            coarsest_release_shift=self._shift_to(self.coarsest_release_bits),
            rows=tuple(p.shape[0] if len(p.shape) > 1 else 1 for p in shared),
        )

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


def content_digest(content: bytes) -> bytes:
    """16 bytes that name a blob: BLAKE2b (RFC 7693)."""
    return blake2b(content, digest_size=16).digest()


def _refuse_repeats(field: str, names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{field}: {name!r} appears twice")
        seen.add(name)
