"""The sections of a definition that may be edited: algorithm, compression, schedule."""

from fractions import Fraction
from math import inf
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from plantfed_shared.lattice import MAX_RELAXATION_SHIFT, Relaxation
from plantfed_shared.section import NonNegative, Positive, Settings

Mode = Literal[
    "fedapm", "fedalt", "fedsim", "fedavg", "fedprox", "local", "fedbuff", "fedasync", "auto"
]

PERSONAL_OF_MODE: dict[str, tuple[str, ...]] = {
    "fedavg": (),
    "fedprox": (),
    "local": ("*",),
    "auto": (),
}
"""What is personal in the modes that leave no choice."""
PENALTY_OF_AUTO, RELAXATION_OF_AUTO = 0.18, 1.25
"""Relaxed it knows more after as many rounds, and bears a lower penalty where few arrive."""


def usual_settings(mode: object, memory: object) -> dict[str, float]:
    """Penalty and relaxation where a federation file says nothing of them.

    Args:
        mode: as it is given.
        memory: as it is given; what was not sent is sent again, which counts as a relaxation does.
    """
    if mode != "auto":
        return {"penalty": 0.2, "relaxation": 1.0}
    relaxation = 1.0 if memory else RELAXATION_OF_AUTO
    return {"penalty": PENALTY_OF_AUTO, "relaxation": relaxation}


def _exact_on_the_lattice(relaxation: float) -> float:
    try:
        return Relaxation.from_float(relaxation).value
    except ValueError as error:
        finest = 2**MAX_RELAXATION_SHIFT
        nearest = max(1, round(relaxation * finest)) / finest
        raise ValueError(f"{error}; the nearest that is: {nearest!r}") from None


class Algorithm(Settings):
    """The optimisation, stated per machine objective so that it means the same for 8 and 200.

    Attributes:
        mode: what a machine and the coordinator compute, see ``docs/modes.md``: "fedapm" (ADMM
            with personal heads, arXiv 2506.04672), "fedalt", "fedsim", "fedavg", "fedprox",
            "local", "auto" (ADMM on the whole network, with each machine's own class prior), and
            for the asynchronous schedule only "fedbuff" and "fedasync".
        learning_rate: SGD step.
        weight_decay: mu, of f_i = loss + mu/2 |p|^2.
        penalty: rho of the ADMM constraint u_i = u; fedapm, auto; in auto .18 unless given.
        head_proximal: sigma of the head step; fedapm.
        proximal: weight of FedProx's |x - u|^2 / 2.
        server_step: at least 2^-16, the coordinator's finest; fedbuff: how far the model moves
            along the mean change; fedasync: the share of a fresh arrival in it, at most 1.
        staleness_exponent: a: an arrival tau releases late counts (1 + tau)^-a; fedbuff, fedasync.
        epochs: E passes over the rows per phase.
        batch: rows per SGD step.
        relaxation: p/2^s, at most 1000, which no sum of int64 can overflow with; transmitted
            changes count this much in dual and z; in auto 1.25 unless given or with a memory.
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

    @model_validator(mode="before")
    @classmethod
    def _has_what_is_usual_in_its_mode(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return usual_settings(given.get("mode"), given.get("memory")) | given

    @model_validator(mode="after")
    def _gain_is_stable(self) -> Self:
        # where few machines make a model, what each of them adds counts more
        largest, in_words = (Fraction(4, 3), "4/3") if self.mode == "auto" else (Fraction(2), "2")
        if self.has_duals and self.relaxation > largest * (1 - Fraction(self.memory)):
            gain = self.relaxation / (1 - self.memory) if self.memory < 1 else inf
            raise ValueError(
                f"relaxation / (1 - memory) is {gain:g}; above {in_words} {self.mode} diverges, "
                "lower one of them"
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

    def in_mode(self, mode: Mode) -> "Algorithm":
        """The same in another mode; what is usual in this one is what is usual there."""
        return Algorithm.model_validate(self.unusual() | {"mode": mode})

    def unusual(self) -> dict[str, Any]:
        """All settings, but penalty and relaxation only where they are not the usual ones."""
        usual = usual_settings(self.mode, self.memory)
        return {n: v for n, v in self.model_dump().items() if usual.get(n) != v}

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
        pace: async: a machine whose loss has fallen to nothing begins its next round only when so
            large a part of the live members has sent an update (or ``release_after_s`` later), one
            whose loss is three quarters of what it was does not wait, in between in proportion.
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
