"""What the consensus holds of one member."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from plantfed_shared.lattice import Integers, checksum


class Staleness(NamedTuple):
    """How far behind what an update started from is.

    Attributes:
        releases: since then.
        turnovers: since then, in 1/256; of mode auto, else 0.
    """

    releases: int
    turnovers: int = 0


@dataclass(frozen=True)
class Contribution:
    """What the consensus holds of one member, in lattice units.

    Attributes:
        weight: n_i.
        z: int64 (n,), what it says the model should be.
        dual: w_i, int64 (n,).
    """

    weight: int
    z: Integers
    dual: Integers

    @classmethod
    def neutral(cls, model: Integers) -> "Contribution":
        """Of a member that has just joined: it agrees with the model."""
        # zeros_like writes them, zeros takes no memory before somebody does
        return cls(1, model, np.zeros(model.size, dtype=np.int64))

    @cached_property
    def dual_checksum(self) -> int:
        """c(w_i); every message about the member has it."""
        return checksum(self.dual)
