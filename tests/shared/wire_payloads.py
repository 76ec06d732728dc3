"""Payloads made by hand, right and wrong, and the golden ones."""

import json
from hashlib import blake2b
from typing import Any

import msgpack
import pytest
from hypothesis import strategies as st
from tests.shared import golden_wire

from plantfed_shared.errors import PeerError
from plantfed_shared.messages import KIND_OF_MESSAGE, Message
from plantfed_shared.topics import Kind
from plantfed_shared.wire import KIND_CODES, KINDS_WITH_TAIL, VERSION, decode

GOLDEN: dict[str, Any] = json.loads(golden_wire.FILE.read_text(encoding="utf-8"))
tails = st.binary(max_size=200)


def sealed(body: bytes) -> bytes:
    return body + blake2b(body, digest_size=8).digest()


def payload_with(
    kind: Kind, header: bytes, tail: bytes = b"", authentication: bytes = b""
) -> bytes:
    """A message with a correct checksum and whatever header."""
    lengths = len(header).to_bytes(2, "little") + bytes([len(authentication)])
    return sealed(
        b"PF" + bytes([VERSION, KIND_CODES[kind]]) + lengths + header + authentication + tail
    )


def packed(kind: Kind, fields: Any) -> bytes:
    return payload_with(kind, msgpack.packb(fields))


def refusal(payload: bytes, kind: Kind) -> str:
    with pytest.raises(PeerError) as refused:
        decode(payload, kind)
    text = str(refused.value)
    assert text.isprintable()
    assert len(text) < 500
    return text


def fitting(message: Message, tail: bytes) -> bytes:
    """The tail, where this kind of message has one."""
    return tail if KIND_OF_MESSAGE[type(message)] in KINDS_WITH_TAIL else b""
