"""Integer vectors as bytes: the tail of UPDATE, and the content of models and duals.

The first byte says how: 0 entropy-coded (:mod:`plantfed_shared.entropy_codec`), 3 as factors of
matrices (:mod:`plantfed_shared.low_rank`), 4 plain: four bytes each, little-endian two's
complement.

A model's content names the model (epoch counter 4, epoch bits 8, k 4, checksum 8 bytes, little-
endian) and the release it is the difference from (4 bytes, one more than its k, 0 for a whole
model), and then has the integers: equal steps from model to model have equal content.

In mode ``auto`` a byte 2 and the release's turnovers (4 bytes) stand before the integers.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plantfed_shared import entropy_codec, low_rank
from plantfed_shared.errors import PeerError
from plantfed_shared.lattice import Integers, Lattice, check_magnitude, checksum
from plantfed_shared.messages import Epoch, ModelName, ModelStep

_STEP = struct.Struct("<IQIQI")
_TURNOVERS = struct.Struct("<BI")
_ENTROPY, _HAS_TURNOVERS, FACTORS, _PLAIN = 0, 2, 3, 4

TURNOVER = 256
"""What a release's turnovers are counted in: a turnover is this."""
LARGEST_TURNOVERS = 2**32 - 1


class Coding(StrEnum):
    """How integers become bytes."""

    ENTROPY = "entropy"
    PLAIN = "plain"


def encode_integers(integers: Integers, lattice: Lattice, coding: str) -> bytes:
    """Encode int64 (size,) with |x| < 2^30.

    Args:
        integers: of the shared vector.
        lattice: of it.
        coding: see :class:`Coding`.

    Raises:
        ValueError: a value is too large for the lattice.
    """
    if coding == Coding.ENTROPY:
        return bytes([_ENTROPY]) + entropy_codec.encode(integers, lattice.sizes)
    return bytes([_PLAIN]) + check_magnitude(integers).astype("<i4").tobytes()


def encode_factors(parts: Sequence[low_rank.Part], lattice: Lattice) -> bytes:
    """Encode a change as one part for each tensor; what it is, is :func:`low_rank.whole`.

    Raises:
        ValueError: a value is too large.
    """
    if not lattice.has_matrices:
        return encode_integers(low_rank.whole(parts), lattice, Coding.ENTROPY)
    return bytes([FACTORS]) + low_rank.encode(parts, lattice)


def decode_integers(encoded: bytes | memoryview, lattice: Lattice) -> Integers:
    """Decode what :func:`encode_integers` or :func:`encode_factors` made, int64 (size,), read-only.

    Raises:
        PeerError: the length does not fit, or a value is not below 2^30 in magnitude.
    """
    return _decoded(bytes(encoded), lattice)


# what is judged is applied next, and what is sent is integrated when its verdict comes
@lru_cache(maxsize=2)
def _decoded(encoded: bytes, lattice: Lattice) -> Integers:
    kind = encoded[0] if encoded else None
    if kind == _ENTROPY:
        integers = entropy_codec.decode(memoryview(encoded)[1:], lattice.sizes)
    elif kind == FACTORS and lattice.has_matrices:
        integers = low_rank.decode(memoryview(encoded)[1:], lattice)
        _refuse_large(integers)
    elif kind == _PLAIN and len(encoded) == 1 + 4 * lattice.size:
        four_bytes = np.frombuffer(encoded, dtype="<i4", offset=1)
        _refuse_large(four_bytes)
        integers = four_bytes.astype(np.int64)
    else:
        raise PeerError(f"{len(encoded)} bytes are not a vector of {lattice.size} integers")
    integers.flags.writeable = False
    return integers


def _refuse_large(integers: NDArray[np.signedinteger[Any]]) -> None:
    try:
        check_magnitude(integers)
    except ValueError as error:
        raise PeerError(str(error)) from None


def forget_decoded() -> None:
    """Decode the same bytes anew the next time: for measurements."""
    _decoded.cache_clear()


def largest_model_bytes(lattice: Lattice) -> int:
    """No content of a model that a peer may send is longer."""
    return _STEP.size + _TURNOVERS.size + largest_encoding_bytes(lattice)


def largest_encoding_bytes(lattice: Lattice) -> int:
    """No encoding that a peer may send is longer."""
    return 1 + 4 * lattice.size + 16 * (1 + len(lattice.sizes))


@dataclass(frozen=True, slots=True)
class DecodedStep:
    """The way to a model, as it was fetched.

    Attributes:
        name: of the model.
        step: from which to which release.
        integers: the difference, or the whole model; int64 (size,).
        turnovers: how often, by weight, all members had arrived when the model was released, since
            its epoch began, in 1/256; 0 where the model is to be used as it is.
    """

    name: ModelName
    step: ModelStep
    integers: Integers
    turnovers: int = 0

    def model(self, base: Integers | None) -> Integers:
        """The model's integers, int64 (size,).

        Args:
            base: release ``step.base_k``; None where it isn't here.

        Raises:
            PeerError: there is no such base, or the result has not the checksum in the name.
        """
        if self.step.base_k is None:
            model = self.integers
        elif base is None:
            raise PeerError(f"release {self.step.base_k}, which it is the difference from, is gone")
        else:
            model = base + self.integers
        if checksum(model) != self.name.checksum:
            raise PeerError(f"release {self.name.k} does not have the checksum in its name")
        try:
            return check_magnitude(model)
        except ValueError as error:
            raise PeerError(str(error)) from None


def encode_model(
    name: ModelName,
    model: Integers,
    lattice: Lattice,
    coding: str,
    base: tuple[int, Integers] | None = None,
    turnovers: int = 0,
) -> bytes:
    """The content of a release, as the difference from another one where that is given.

    Args:
        name: of the release.
        model: its integers.
        lattice: of the shared vector.
        coding: see :class:`Coding`.
        base: number and integers of the other release, of the same epoch.
        turnovers: see :class:`DecodedStep`.
    """
    base_k, integers = (0, model) if base is None else (base[0] + 1, model - base[1])
    head = _STEP.pack(*name.epoch, name.k, name.checksum, base_k)
    if turnovers:
        head += _TURNOVERS.pack(_HAS_TURNOVERS, turnovers)
    return head + encode_integers(integers, lattice, coding)


def decode_model(encoded: bytes, lattice: Lattice) -> DecodedStep:
    """The inverse of :func:`encode_model`.

    Raises:
        PeerError: it is no such content.
    """
    if len(encoded) < _STEP.size:
        raise PeerError(f"{len(encoded)} bytes are no model")
    counter, bits, k, model_checksum, base = _STEP.unpack_from(encoded)
    name = ModelName(Epoch(counter, bits), k, model_checksum)
    tail, turnovers = memoryview(encoded)[_STEP.size :], 0
    if len(tail) >= _TURNOVERS.size and tail[0] == _HAS_TURNOVERS:
        _, turnovers = _TURNOVERS.unpack_from(tail)
        tail = tail[_TURNOVERS.size :]
    step = ModelStep(k, base - 1 if base else None)
    return DecodedStep(name, step, decode_integers(tail, lattice), turnovers)
