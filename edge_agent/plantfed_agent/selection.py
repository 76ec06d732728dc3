"""What of a local change is sent, and what is kept for later: pure.

With d = (x - base) + beta * e, in parameter units, per tensor j with lattice bits b_j,

    dense   o = round(d / 2^-b_j)
    top-k   the k largest |d| (on a tie the earlier ones), each q * 2^t_j with |q| <= 7 or 127 and
            the smallest t_j for which |d| / 2^t_j is below 8 or 128 in all of the tensor; o is zero
            elsewhere

and e' = d - o * 2^-b_j.  The dual integrates what was sent, o, and nothing else.
"""

import numpy as np
from numpy.typing import NDArray

from plantfed_shared.definition import Algorithm, Compression
from plantfed_shared.lattice import Floats, Integers, Lattice

Changes = NDArray[np.float64]


def wanted_change(
    algorithm: Algorithm, memory: Floats | None, base: Floats, trained: Floats
) -> Changes:
    """D = (x - base) + beta * e, float64 (shared,).

    Args:
        algorithm: has beta.
        memory: e, float32 (shared,), or None for zero.
        base: u, float32 (shared,).
        trained: x, float32 (shared,).
    """
    wanted: Changes = trained.astype(np.float64) - base.astype(np.float64)
    if algorithm.memory and memory is not None:
        wanted += algorithm.memory * memory.astype(np.float64)
    return wanted


def selected(lattice: Lattice, compression: Compression, keep: float, wanted: Changes) -> Integers:
    """O, transmission units, int64 (shared,).

    Args:
        lattice: of the shared vector.
        compression: how the change is made small.
        keep: part of the parameters that are kept, above 0.
        wanted: d, parameter units, float64 (shared,).

    Raises:
        SaturationError: the change is not finite or too large for the lattice.
    """
    exact = lattice.change_to_transmit(wanted)
    if compression.kind == "dense" or not exact.size:
        return exact
    kept = np.zeros_like(exact)
    where = _largest(np.abs(exact), keep)
    kept[where] = exact[where]
    largest = 2 ** (compression.bits - 1) - 1
    begin = 0
    for size in lattice.sizes:
        kept[begin : begin + size] = coarsened(kept[begin : begin + size], largest)
        begin += size
    return kept


def memory_after(
    lattice: Lattice, algorithm: Algorithm, wanted: Changes, change: Integers
) -> Floats | None:
    """E' = d - o in parameter units, float32 (shared,), or None where beta is 0."""
    if not algorithm.memory:
        return None
    # in float64: what is left of a change of more than 24 bits is less than its float32 rounds
    return (wanted - lattice.transmitted_change(change)).astype(np.float32)


def _largest(magnitudes: Integers, keep: float) -> NDArray[np.int64]:
    """Positions of the largest, at least one."""
    count = max(1, min(magnitudes.size, round(keep * magnitudes.size)))
    # stable, so that a tie goes to the same positions everywhere
    threshold = np.partition(magnitudes, magnitudes.size - count)[magnitudes.size - count]
    above = np.flatnonzero(magnitudes > threshold)
    ties = np.flatnonzero(magnitudes == threshold)[: count - above.size]
    return np.concatenate([above, ties])


def coarsened(tensor: Integers, largest: int) -> Integers:
    """Round to q * 2^t with |q| <= largest, half to even.

    What would round up to largest + 1 is cut: twice the step would be worse for all the others.
    """
    highest = int(np.abs(tensor).max(initial=0))
    shift = max(0, (highest // (largest + 1)).bit_length())
    step = 1 << shift
    rounded = np.rint(tensor / step)
    np.clip(rounded, -largest, largest, out=rounded)
    coarse: Integers = rounded.astype(np.int64) * step
    return coarse
