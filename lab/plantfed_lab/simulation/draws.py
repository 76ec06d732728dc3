"""Random numbers of a simulation: laws a scenario can name, and one stream per machine and purpose.

A stream depends on the seed, the machine's id and the purpose alone, so that one more machine, or
one more thing that is drawn, changes nothing for the others.  Every number is the inverse of its
law at one uniform draw; Python's Mersenne Twister is the same everywhere.
"""

import random
from hashlib import blake2b
from math import exp, inf, log
from statistics import NormalDist
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from plantfed_shared.definition import NonNegative, Positive, Settings

_NORMAL = NormalDist()
_BITS = 52
"""One less than a float has: halfway between two of them is still inside (0, 1)."""
SMALLEST, LARGEST = 1e-100, 1e100
"""What is drawn beyond is cut to these, or arithmetic with it would overflow."""


class Law(Settings):
    """A law of non-negative numbers; a plain number in a scenario is a constant.

    Attributes:
        kind: "constant", "lognormal" (exp(normal) with this median; sigma is that of the
            logarithm), "pareto" (P(x > t) = (minimum / t)^shape) or "uniform".
        value: of a constant.
        median: of a lognormal, or of a Pareto instead of its minimum.
        sigma: of a lognormal.
        minimum: of a Pareto.
        shape: of a Pareto; the mean is infinite up to 1, the variance up to 2.
        low: of a uniform.
        high: of a uniform.
    """

    kind: Literal["constant", "lognormal", "pareto", "uniform"]
    value: NonNegative | None = None
    median: Positive | None = None
    sigma: NonNegative | None = None
    minimum: Positive | None = None
    shape: Positive | None = None
    low: NonNegative | None = None
    high: NonNegative | None = None

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> Self:
        given = self.model_fields_set - {"kind"}
        allowed = _KEYS[self.kind]
        if given not in [set(keys) for keys in allowed]:
            ways = " or ".join(" and ".join(keys) for keys in allowed)
            found = ", ".join(sorted(given)) or "nothing"
            raise ValueError(f"a {self.kind} law needs {ways}; given: {found}")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}")
        return self

    @property
    def least(self) -> float:
        """No number below this is drawn."""
        known = (self.value, self.low, self.minimum)
        return next((x for x in known if x is not None), 0.0)

    @property
    def can_be_zero(self) -> bool:
        """Whether zero may be drawn."""
        return self.kind in ("constant", "uniform") and self.least == 0

    def draw(self, stream: random.Random) -> float:
        """One number; 0, or from :data:`SMALLEST` to :data:`LARGEST`."""
        if self.value == 0:
            return 0.0
        try:
            return min(max(self.quantile(uniform(stream)), SMALLEST), LARGEST)
        except OverflowError:
            return LARGEST

    def quantile(self, u: float) -> float:
        """The number that is exceeded with probability 1 - u.

        Args:
            u: 0 < u < 1.
        """
        match self:
            case Law(kind="lognormal", median=float(median), sigma=float(sigma)):
                return exp(log(median) + sigma * _NORMAL.inv_cdf(u))
            case Law(kind="pareto", minimum=float(minimum), shape=float(shape)):
                return float(minimum * (1 - u) ** (-1 / shape))
            case Law(kind="pareto", median=float(median), shape=float(shape)):
                return float(median * (2 * (1 - u)) ** (-1 / shape))
            case Law(kind="uniform", low=float(low), high=float(high)):
                return low + (high - low) * u
        return self.value or 0.0


_KEYS: dict[str, tuple[tuple[str, ...], ...]] = {
    "constant": (("value",),),
    "lognormal": (("median", "sigma"),),
    "pareto": (("minimum", "shape"), ("median", "shape")),
    "uniform": (("low", "high"),),
}


def _from_number(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"kind": "constant", "value": value}
    if not isinstance(value, dict | Law):
        raise ValueError("must be a number, or a law like { kind = 'uniform', low = 1, high = 3 }")
    return value


def _never_negative(value: Any) -> Any:
    # said of the number itself: the reader has written no law
    if isinstance(value, int | float) and not 0 <= value < inf:
        raise ValueError("must be 0 or more, and finite")
    return value


def _above_zero(value: Any) -> Any:
    if isinstance(value, int | float) and not 0 < value < inf:
        raise ValueError("must be above 0, and finite")
    return value


def _never_zero(law: Law) -> Law:
    if law.can_be_zero:
        raise ValueError("must be above 0")
    return law


# of validators before, the last one is asked first
Draw = Annotated[Law, BeforeValidator(_from_number), BeforeValidator(_never_negative)]
"""A law, or a plain number for a constant."""
PositiveDraw = Annotated[Draw, BeforeValidator(_above_zero), AfterValidator(_never_zero)]
"""The same, never zero."""
LossProbability = Annotated[float, Field(ge=0, le=0.99)]
"""Nearly 1 would never let a packet through."""


def constant(value: float) -> Law:
    """The law that always draws this number."""
    return Law(kind="constant", value=value)


def stream(seed: int, machine: str, purpose: str) -> random.Random:
    """The random numbers of one machine for one purpose."""
    name = f"{seed} {machine} {purpose}".encode()
    # not a secret: it must be the same again
    return random.Random(int.from_bytes(blake2b(name, digest_size=16).digest(), "little"))  # noqa: S311


def uniform(stream: random.Random) -> float:
    """Uniform on the open interval (0, 1)."""
    return (stream.getrandbits(_BITS) + 0.5) / float(1 << _BITS)


def exponential(stream: random.Random, mean: float) -> float:
    """Exponential with this mean: the waiting time for what happens at random."""
    return -mean * log(uniform(stream))
