"""Which rows of a machine were here before: what is kept of them is one number of each.

A row is known by its values and its answer, not by its file or its place: rows of a log that was
rotated or sorted are no new ones, and neither are equal rows.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from plantfed_agent.guard import Keys
from plantfed_agent.samples import Samples

Mask = NDArray[np.bool_]

MOST_KEYS = 2**18
"""1 MiB; of more rows than that those with the smallest keys are watched, a fair draw."""

_STEP, _MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)
_HALF = np.uint64(32)


def keys_of(samples: Samples) -> Keys:
    """uint32 (samples,): of each sample, from the bits of its inputs and answers."""
    total = np.zeros(len(samples), np.uint64)
    for column in (*_words(samples.x).T, *_words(samples.y).T):
        # one column at a time: the rows themselves are most of the memory there is
        total ^= column
        total *= _MIX
        total ^= total >> _HALF
        total += _STEP
    total *= _MIX
    return (total >> _HALF).astype(np.uint32)


def known_after(keys: Keys) -> Keys:
    """What is kept of all rows: the smallest of their keys, each once, in order.

    Args:
        keys: uint32 (rows,).

    Returns:
        uint32 (at most :data:`MOST_KEYS`,).
    """
    return np.unique(keys)[:MOST_KEYS]


def first_seen(keys: Keys, known: Keys) -> Mask:
    """Which rows are new; of equal new ones the first.

    Args:
        keys: uint32 (rows,), of the rows that are here.
        known: of :func:`known_after`, for the rows that were here before.

    Returns:
        bool (rows,).
    """
    first = np.zeros(len(keys), np.bool_)
    first[np.unique(keys, return_index=True)[1]] = True
    new: Mask = first & ~np.isin(keys, known)
    if len(known) == MOST_KEYS:
        new &= keys < known[-1]
    return new


def _words(values: NDArray[Any]) -> NDArray[np.uint32]:
    """(rows, words): the bits of each row."""
    return np.ascontiguousarray(values).view(np.uint32).reshape(len(values), -1)
