"""Bytes of a message: the only importer of msgpack.

    offset  bytes
    0       2       "PF"
    2       1       version of this format, 3
    3       1       kind, see ``KIND_CODES``
    4       2       H, length of the header, little-endian
    6       1       A, length of the authentication block; 0 until signing comes
    7       H       header: a msgpack array with the fields of the message in order
    7+H     A       {key id, signature}
    7+H+A   T       tail: raw bytes
    -8      8       BLAKE2b-64 of everything before, little-endian

The last eight bytes are the message's *envelope digest*.  Golden vectors are in
``tests/shared/golden_wire.json``; a change of bytes is a change of version.
"""

import struct
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import msgpack
from pydantic import ValidationError

from plantfed_shared.errors import DamagedError, PeerError
from plantfed_shared.messages import (
    KIND_OF_MESSAGE,
    MAX_RANGES,
    MAX_REASON_CHARACTERS,
    MESSAGE_OF_KIND,
    Message,
)
from plantfed_shared.topics import Kind

MAGIC = b"PF"
VERSION = 3
MAX_HEADER_BYTES = 4096
DIGEST_BYTES = 8
KIND_CODES: dict[Kind, int] = {
    Kind.HELLO: 1,
    Kind.UPDATE: 2,
    Kind.OFFER: 3,
    Kind.NEED: 4,
    Kind.CHUNK: 5,
    Kind.BYE: 6,
    Kind.STATUS: 7,
    Kind.WELCOME: 8,
    Kind.STATE: 9,
    Kind.START: 10,
    Kind.MODEL: 11,
    Kind.WANT: 12,
    Kind.GROUP: 13,
    Kind.PART: 14,
}
KINDS_WITH_TAIL = frozenset({Kind.UPDATE, Kind.CHUNK})
_KIND_OF_CODE = {code: kind for kind, code in KIND_CODES.items()}
_FIELDS = {model: tuple(model.model_fields) for model in KIND_OF_MESSAGE}
_PREFIX = struct.Struct("<2sBBHB")
SHORT_BYTES = 512
"""Decoded messages up to this length may be kept for when they come again."""
CHUNK_ENVELOPE_BYTES = 64
"""More than a CHUNK has besides its content."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A decoded message.

    Attributes:
        message: validated header.
        tail: the raw bytes behind it, not copied.
        digest: the envelope digest.
    """

    message: Message
    tail: memoryview
    digest: int


def encode(message: Message, tail: bytes = b"") -> bytes:
    """The bytes of a message; equal messages give equal bytes."""
    fields = [getattr(message, name) for name in _FIELDS[type(message)]]
    header: bytes = msgpack.packb(fields, use_bin_type=True)
    if len(header) > MAX_HEADER_BYTES:
        raise ValueError(f"header of {len(header)} bytes")
    kind = KIND_CODES[KIND_OF_MESSAGE[type(message)]]
    body = _PREFIX.pack(MAGIC, VERSION, kind, len(header), 0) + header + tail
    return body + _digest(body)


def envelope_digest(encoded: bytes) -> int:
    """The envelope digest of an encoded message."""
    return int.from_bytes(encoded[-DIGEST_BYTES:], "little")


def decode(payload: bytes, kind: Kind) -> Envelope:
    """Check and decode a received payload.

    Raises:
        DamagedError: these are no bytes of a message of this version, or not all of them.
        PeerError: it is a message, and not exactly one valid message of this kind.
    """
    return _decode_short(payload, kind) if len(payload) <= SHORT_BYTES else _decode(payload, kind)


# of the same manifest there are as many copies as agents, and it is announced again and again
@lru_cache(maxsize=64)
def _decode_short(payload: bytes, kind: Kind) -> Envelope:
    return _decode(payload, kind)


def decode_own(encoded: bytes, kind: Kind) -> Envelope:
    """The message in bytes that this program has encoded itself: their digest is not checked.

    Raises:
        PeerError: it is no message of this kind.
    """
    return _decode(encoded, kind, check_digest=False)


def _decode(payload: bytes, kind: Kind, *, check_digest: bool = True) -> Envelope:
    if len(payload) < _PREFIX.size + DIGEST_BYTES:
        raise DamagedError(f"{len(payload)} bytes are too few for a message")
    magic, version, code, header_bytes, authentication_bytes = _PREFIX.unpack_from(payload)
    if magic != MAGIC or version != VERSION:
        raise DamagedError(f"not a PlantFed message of version {VERSION}")
    end = len(payload) - DIGEST_BYTES
    view = memoryview(payload)
    # before anything is said about the content: what was damaged says nothing about its sender
    if check_digest and payload[end:] != _digest(view[:end]):
        raise DamagedError("checksum does not fit the message")
    if _KIND_OF_CODE.get(code) is not kind:
        raise PeerError(f"message of kind {code} on a topic for {kind}")
    tail_start = _PREFIX.size + header_bytes + authentication_bytes
    if header_bytes > MAX_HEADER_BYTES or tail_start > end:
        raise PeerError("lengths do not fit the message")
    if tail_start < end and kind not in KINDS_WITH_TAIL:
        raise PeerError(f"a {kind} message has no tail")
    header = bytes(view[_PREFIX.size : _PREFIX.size + header_bytes])
    return Envelope(_decode_header(header, kind), view[tail_start:end], envelope_digest(payload))


# an agent reads its own outstanding update several times
@lru_cache(maxsize=8)
def _decode_header(header: bytes, kind: Kind) -> Message:
    model = MESSAGE_OF_KIND[kind]
    names = _FIELDS[model]
    fields = _unpack(header)
    if not isinstance(fields, tuple) or len(fields) != len(names):
        raise PeerError(f"{kind} must have {len(names)} fields")
    try:
        return model.model_validate(dict(zip(names, fields, strict=True)))
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise PeerError(f"{kind}.{place}: {problem['msg']}") from None


def _unpack(header: bytes) -> Any:
    try:
        return msgpack.unpackb(
            header,
            use_list=False,
            raw=False,
            strict_map_key=True,
            max_str_len=4 * MAX_REASON_CHARACTERS,
            max_bin_len=64,
            max_array_len=max(MAX_RANGES, 16),
            max_map_len=0,
            max_ext_len=0,
        )
    except (ValueError, msgpack.UnpackException) as error:
        raise PeerError(f"header is not valid msgpack: {type(error).__name__}") from None


def _digest(body: bytes | memoryview) -> bytes:
    return blake2b(body, digest_size=DIGEST_BYTES).digest()
