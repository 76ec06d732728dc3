"""Integer vectors as bytes: the tail of UPDATE, and the content of models and duals.

Dense encoding: one byte w in {1, 2, 4}, then the integers as little-endian two's complement of w
bytes each, w being the smallest that holds all of them.

A model's content is its name (epoch counter 4, epoch bits 8, k 4, checksum 8 bytes, little-endian)
and then its integers, dense: two releases never have the same content.
"""

import struct

import numpy as np

from plantfed_shared.errors import PeerError
from plantfed_shared.lattice import MAX_MAGNITUDE, Integers, checksum
from plantfed_shared.messages import ModelName

_NAME = struct.Struct("<IQIQ")
_WIDTHS = {1: "<i1", 2: "<i2", 4: "<i4"}


def encode_dense(integers: Integers) -> bytes:
    """Encode int64 (n,) with |x| < 2^30."""
    low, high = (int(integers.min()), int(integers.max())) if integers.size else (0, 0)
    if not -MAX_MAGNITUDE < low <= high < MAX_MAGNITUDE:
        raise ValueError("a value is too large for the lattice")
    width = next(w for w in _WIDTHS if -(1 << (8 * w - 1)) <= low and high < 1 << (8 * w - 1))
    return bytes([width]) + integers.astype(_WIDTHS[width]).tobytes()


def decode_dense(encoded: bytes | memoryview, size: int) -> Integers:
    """Decode to int64 (size,).

    Raises:
        PeerError: the length does not fit, or a value is not below 2^30 in magnitude.
    """
    width = encoded[0] if len(encoded) else 0
    if width not in _WIDTHS or len(encoded) != 1 + width * size:
        raise PeerError(f"{len(encoded)} bytes are not a dense vector of {size} integers")
    integers = np.frombuffer(encoded, dtype=_WIDTHS[width], offset=1).astype(np.int64)
    if width == 4 and integers.size and int(np.abs(integers).max()) >= MAX_MAGNITUDE:
        raise PeerError("a value is too large for the lattice")
    return integers


def encode_model(name: ModelName, integers: Integers) -> bytes:
    """The content of a release."""
    return _NAME.pack(*name.epoch, name.k, name.checksum) + encode_dense(integers)


def decode_model(encoded: bytes, name: ModelName, size: int) -> Integers:
    """The integers of the release with this name, int64 (size,).

    Raises:
        PeerError: it is another release, or its integers do not have the checksum in its name.
    """
    if encoded[: _NAME.size] != _NAME.pack(*name.epoch, name.k, name.checksum):
        raise PeerError(f"the fetched content is not release {name.k}")
    integers = decode_dense(memoryview(encoded)[_NAME.size :], size)
    if checksum(integers) != name.checksum:
        raise PeerError(f"release {name.k} does not have the checksum in its name")
    return integers
