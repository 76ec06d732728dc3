"""Frames between the agent and its training process.

    length    u32 little-endian, bytes of all that follows
    header    u32 little-endian length, then JSON; its key "arrays" lists name, elements and type of
              each
    arrays    float32 or uint32, little-endian, one after the other

Both ends are the same program on the same machine: nothing here guards against an enemy.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from struct import Struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

LENGTH = Struct("<I")
TYPES = {"f": np.dtype("<f4"), "u": np.dtype("<u4")}
"""By the kind of an array's numbers."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message.

    Attributes:
        header: what JSON can hold.
        arrays: float32 or uint32 vectors by name.
    """

    header: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)


def encode(frame: Frame) -> bytes:
    """The whole frame, its length included.

    Raises:
        ValueError: it is 4 GiB or longer.
    """
    listed = [[name, values.size, values.dtype.kind] for name, values in frame.arrays.items()]
    header = json.dumps({**frame.header, "arrays": listed}).encode()
    arrays = [v.astype(TYPES[v.dtype.kind], copy=False).tobytes() for v in frame.arrays.values()]
    length = LENGTH.size + len(header) + sum(map(len, arrays))
    if length >= 2**32:
        raise ValueError(f"a frame of {length} bytes")
    return b"".join((LENGTH.pack(length), LENGTH.pack(len(header)), header, *arrays))


def decode(body: bytes) -> Frame:
    """The inverse of :func:`encode`, for what follows the length.

    Returns:
        The frame; its arrays are copies.
    """
    (header_bytes,) = LENGTH.unpack_from(body)
    at = LENGTH.size + header_bytes
    header = json.loads(body[LENGTH.size : at])
    arrays: dict[str, NDArray[Any]] = {}
    for name, size, kind in header.pop("arrays"):
        stored = TYPES[kind]
        arrays[name] = np.frombuffer(body, stored, size, at).astype(stored.newbyteorder("="))
        at += size * stored.itemsize
    return Frame(header, arrays)
