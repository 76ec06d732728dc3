"""Frames between the agent and its training process.

    length    u32 little-endian, bytes of all that follows
    header    u32 little-endian length, then JSON; its key "arrays" lists name and elements of each
    arrays    float32 little-endian, one after the other

Both ends are the same program on the same machine: nothing here guards against an enemy.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from struct import Struct
from typing import Any

import numpy as np

from plantfed_shared.parameters import Floats

LENGTH = Struct("<I")
FLOAT = np.dtype("<f4")


@dataclass(frozen=True, slots=True)
class Frame:
    """One message.

    Attributes:
        header: what JSON can hold.
        arrays: float32 vectors by name.
    """

    header: Mapping[str, Any]
    arrays: Mapping[str, Floats] = field(default_factory=dict)


def encode(frame: Frame) -> bytes:
    """The whole frame, its length included.

    Raises:
        ValueError: it is 4 GiB or longer.
    """
    sizes = [[name, values.size] for name, values in frame.arrays.items()]
    header = json.dumps({**frame.header, "arrays": sizes}).encode()
    arrays = [values.astype(FLOAT, copy=False).tobytes() for values in frame.arrays.values()]
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
    arrays: dict[str, Floats] = {}
    for name, size in header.pop("arrays"):
        arrays[name] = np.frombuffer(body, FLOAT, size, at).astype(np.float32)
        at += size * FLOAT.itemsize
    return Frame(header, arrays)
