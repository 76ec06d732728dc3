"""Hypothesis strategies for vectors on the lattice."""

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from plantfed_shared.lattice import MAX_MAGNITUDE, Integers, Relaxation

LARGEST = MAX_MAGNITUDE - 1


def int64(values: Sequence[int]) -> Integers:
    return np.array(values, dtype=np.int64)


def in_range(bound: int) -> st.SearchStrategy[int]:
    """Integers up to the bound, often at the edges of 8, 16 and 32 bits."""
    edges = [e for e in (0, 1, 127, 128, 129, 32767, 32768, 32769, LARGEST) if e <= bound]
    signed = sorted({sign * edge for edge in edges for sign in (-1, 1)})
    return st.integers(-bound, bound) | st.sampled_from(signed)


def lattice_vectors(
    *, min_size: int = 0, max_size: int = 40, bound: int = LARGEST
) -> st.SearchStrategy[Integers]:
    return st.lists(in_range(bound), min_size=min_size, max_size=max_size).map(int64)


relaxations = st.builds(
    lambda shift, p: Relaxation(min(p, 2 << shift), shift), st.integers(0, 8), st.integers(1, 512)
)
"""Every p/2^s that the settings let through: 0 < p/2^s <= 2."""
