"""What members have contributed, in the units and with the penalty of another definition."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from plantfed_coordinator.contribution import Contribution
from plantfed_shared.lattice import MAX_MAGNITUDE, Integers, SaturationError, check_magnitude
from plantfed_shared.terms import Terms


@dataclass(frozen=True, slots=True)
class Rescaling:
    """From one definition to the next, exact.

    Attributes:
        of_models: lattice units before -> after.
        of_duals: the same for w; pi = rho * w is what the problem determines, so w follows rho too.
    """

    of_models: Fraction
    of_duals: Fraction

    @classmethod
    def between(cls, before: Terms, after: Terms) -> "Rescaling":
        """What a change of the definition asks for."""
        # from the definitions: where nothing is shared, the lattice has no tensor to ask
        old, new = before.definition, after.definition
        bits = new.lattice_bits - old.lattice_bits
        units = Fraction(2) ** (bits + new.relaxation.shift - old.relaxation.shift)
        return cls(units, units * Fraction(old.algorithm.penalty) / Fraction(new.algorithm.penalty))

    def model(self, integers: Integers) -> Integers:
        """A model in the new units, int64, same shape.

        Raises:
            SaturationError: a value is not below 2^30 in magnitude.
        """
        return _scaled(integers, self.of_models)

    def contribution(self, old: Contribution, *, z_has_dual: bool) -> Contribution:
        """A member's z and dual in the new units.

        Args:
            old: in the units before.
            z_has_dual: whether z is the sum of its model and its dual.

        Raises:
            SaturationError: a value is not below 2^30 in magnitude.
        """
        dual = _scaled(old.dual, self.of_duals)
        if not z_has_dual:
            return Contribution(old.weight, self.model(old.z), dual)
        z = check_magnitude(self.model(old.z - old.dual) + dual)
        return Contribution(old.weight, z, dual)


def _scaled(integers: Integers, ratio: Fraction) -> Integers:
    """Half to even, on Python integers: rare, so it may be slow."""
    if ratio == 1:
        return integers
    scaled = [round(int(x) * ratio) for x in integers]
    if max(map(abs, scaled), default=0) >= MAX_MAGNITUDE:
        raise SaturationError("a value is too large for the lattice")
    return np.array(scaled, dtype=np.int64)
