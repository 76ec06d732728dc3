"""Damaged, hostile and wrong messages: nothing but PeerError, in little memory."""

import tracemalloc
from math import inf, nan
from typing import Any

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.shared import golden_wire
from tests.shared.message_strategies import any_message
from tests.shared.wire_payloads import GOLDEN, fitting, packed, payload_with, refusal, sealed, tails

from plantfed_shared.errors import PeerError
from plantfed_shared.messages import (
    KIND_OF_MESSAGE,
    MAX_PARTS,
    MAX_RANGES,
    MESSAGE_OF_KIND,
    Message,
)
from plantfed_shared.topics import Kind
from plantfed_shared.wire import (
    KIND_CODES,
    KINDS_WITH_TAIL,
    MAX_HEADER_BYTES,
    VERSION,
    decode,
    encode,
)

# ---------------------------------------------------------------- damage


@pytest.mark.parametrize("name", GOLDEN["messages"])
def test_every_flipped_bit_and_every_truncation_is_refused(name):
    entry = GOLDEN["messages"][name]
    encoded, kind = bytes.fromhex(entry["hex"]), Kind(entry["kind"])
    for place in range(8 * len(encoded)):
        damaged = bytearray(encoded)
        damaged[place // 8] ^= 1 << place % 8
        refusal(bytes(damaged), kind)
    for length in range(len(encoded)):
        refusal(encoded[:length], kind)


@given(any_message, tails, st.data())
def test_damage_is_refused(message: Message, tail: bytes, data):
    encoded, kind = encode(message, fitting(message, tail)), KIND_OF_MESSAGE[type(message)]
    damaged = bytearray(encoded)
    place = data.draw(st.integers(0, 8 * len(encoded) - 1))
    damaged[place // 8] ^= 1 << place % 8
    refusal(bytes(damaged), kind)
    refusal(encoded[: data.draw(st.integers(0, len(encoded) - 1))], kind)
    refusal(encoded + data.draw(st.binary(min_size=1, max_size=9)), kind)


@given(any_message, st.sampled_from(Kind))
def test_a_message_on_the_topic_of_another_kind_is_refused(message: Message, kind: Kind):
    encoded = encode(message)
    if kind is not KIND_OF_MESSAGE[type(message)]:
        assert f"on a topic for {kind}" in refusal(encoded, kind)


@given(st.binary(max_size=100), st.sampled_from(Kind))
def test_noise_is_refused(noise, kind):
    refusal(noise, kind)


@pytest.mark.parametrize("version", [0, 1, 2, 4, 255])
def test_another_version_is_refused_by_name(version):
    header = msgpack.packb([1])
    body = b"PF" + bytes([version, KIND_CODES[Kind.BYE], len(header), 0, 0]) + header
    assert f"version {VERSION}" in refusal(sealed(body), Kind.BYE)


@pytest.mark.parametrize(("header_bytes", "authentication_bytes"), [(3, 0), (2, 1), (65535, 255)])
def test_lengths_beyond_the_message_are_refused(header_bytes, authentication_bytes):
    lengths = header_bytes.to_bytes(2, "little") + bytes([authentication_bytes])
    body = b"PF" + bytes([VERSION, KIND_CODES[Kind.BYE]]) + lengths + msgpack.packb([1])
    assert "lengths" in refusal(sealed(body), Kind.BYE)


def test_an_authentication_block_is_read_over():
    header = msgpack.packb([7])
    envelope = decode(payload_with(Kind.BYE, header, b"", b"key and signature"), Kind.BYE)
    assert (envelope.message.model_dump(), envelope.tail) == ({"incarnation": 7}, b"")


@pytest.mark.parametrize("kind", sorted(set(KIND_CODES) - KINDS_WITH_TAIL))
def test_a_tail_where_none_belongs_is_refused(kind: Kind):
    encoded = next(
        encode(m) for m, _ in golden_wire.MESSAGES.values() if type(m) is MESSAGE_OF_KIND[kind]
    )
    assert decode(encoded, kind)
    with pytest.raises(PeerError, match="has no tail"):
        decode(sealed(encoded[:-8] + b"x"), kind)


# ---------------------------------------------------------------- wrong headers, right checksums

EPOCH = [1, 2]
NAME = [EPOCH, 3, 4]
CONTENT = [bytes(16), 100]
OFFER = [NAME, CONTENT, False]
UPDATE = [NAME, 1, 1, 1, bytes(8), 5, 0.5, 0, 0]
STATE = [EPOCH, 1, 1, None, 5, [1, "applied", ""], None]


def with_field(fields: list[Any], place: int, value: Any) -> list[Any]:
    return [*fields[:place], value, *fields[place + 1 :]]


def test_what_the_cases_below_change_is_right():
    for kind, fields in {
        Kind.UPDATE: UPDATE,
        Kind.STATE: STATE,
        Kind.MODEL: [OFFER],
        Kind.STATUS: [True, "1"],
        Kind.START: [OFFER, 1.0],
        Kind.WANT: [NAME, 1, 0],
        Kind.NEED: [bytes(16), [[0, 1]], [3, 2]],
        Kind.GROUP: [CONTENT, [3, 2], 7, None],
        Kind.PART: [bytes(16), [3, 2], 7, 0],
        Kind.CHUNK: [CONTENT, 0, [3, None]],
        Kind.OFFER: [CONTENT],
        Kind.BYE: [1],
    }.items():
        assert decode(packed(kind, fields), kind).message


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        pytest.param(kind, fields, id=f"{kind}: {why}")
        for kind, fields, why in [
            (Kind.BYE, [True], "bool for int"),
            (Kind.BYE, [1.0], "float for int"),
            (Kind.BYE, ["1"], "text for int"),
            (Kind.BYE, [None], "nothing for int"),
            (Kind.BYE, [-1], "negative"),
            (Kind.BYE, [2**32], "33 bits"),
            (Kind.BYE, [1, 1], "extra field"),
            (Kind.BYE, [], "missing field"),
            (Kind.BYE, 1, "no array"),
            (Kind.BYE, None, "nothing"),
            (Kind.BYE, {"incarnation": 1}, "map"),
            (Kind.BYE, {}, "empty map"),
            (Kind.BYE, [{}], "empty map inside"),
            (Kind.BYE, [[1]], "array for int"),
            (Kind.STATUS, [1, ""], "int for bool"),
            (Kind.STATUS, [True, b""], "bytes for text"),
            (Kind.STATUS, [True, "x" * 33], "long text"),
            (Kind.STATUS, [True, "x" * 5000], "text beyond the cap"),
            (Kind.START, [OFFER, nan], "NaN"),
            (Kind.START, [OFFER, inf], "infinite"),
            (Kind.START, [OFFER, -0.5], "negative"),
            (Kind.START, [OFFER, True], "bool for float"),
            (Kind.WANT, [[EPOCH, 3], 1, 0], "short tuple"),
            (Kind.WANT, [[EPOCH, 3, 4, 5], 1, 0], "long tuple"),
            (Kind.WANT, [[[1, 2, 3], 3, 4], 1, 0], "long epoch"),
            (Kind.WANT, [[[True, 2], 3, 4], 1, 0], "bool inside a tuple"),
            (Kind.WANT, [[[1, -2], 3, 4], 1, 0], "negative inside a tuple"),
            (Kind.WANT, [[{}, 3, 4], 1, 0], "map inside a tuple"),
            (Kind.WANT, [["ab", 3, 4], 1, 0], "text for a tuple"),
            (Kind.WANT, [NAME, 0, 0], "no window"),
            (Kind.WANT, [NAME, 2**32, 0], "huge window"),
            (Kind.WANT, [NAME, None, 0], "nothing for a window"),
            (Kind.WANT, [NAME, 1, 256], "more than all others"),
            (Kind.CHUNK, [[bytes(16), 0], 0], "of an empty content"),
            (Kind.CHUNK, [bytes(16), 0], "digest for a content"),
            (Kind.CHUNK, [CONTENT, -1], "negative offset"),
            (Kind.CHUNK, [CONTENT, 2**32], "huge offset"),
            (Kind.NEED, [bytes(15), [[0, 1]], None], "short digest"),
            (Kind.NEED, [bytes(17), [[0, 1]], None], "long digest"),
            (Kind.NEED, [bytes(65), [[0, 1]], None], "bytes beyond the cap"),
            (Kind.NEED, ["x" * 16, [[0, 1]], None], "text for bytes"),
            (Kind.NEED, [bytes(16), [], None], "no range"),
            (Kind.NEED, [bytes(16), [[0, 1]] * (MAX_RANGES + 1), None], "too many ranges"),
            (Kind.NEED, [bytes(16), [[0]], None], "half a range"),
            (Kind.NEED, [bytes(16), [0, 1], None], "no ranges"),
            (Kind.NEED, [bytes(16), [[0, 1]]], "no word of a step"),
            (Kind.NEED, [bytes(16), [[0, 1]], [3]], "half a step"),
            (Kind.NEED, [bytes(16), [[0, 1]], [None, 3]], "step to nowhere"),
            (Kind.NEED, [bytes(16), [[0, 1]], [3, -1]], "step from a negative release"),
            (Kind.NEED, [bytes(16), [[0, 1]], 3], "int for a step"),
            (Kind.GROUP, [CONTENT, 3, 7, None], "int for the step of a group"),
            (Kind.GROUP, [CONTENT, [3, 2], None, None], "no number of a group"),
            (Kind.GROUP, [CONTENT, [3, 2], 7, MAX_PARTS], "missed beyond the last part"),
            (Kind.PART, [bytes(16), [None, 3], 7, 0], "part of a step to nowhere"),
            (Kind.PART, [bytes(16), [3, 2], 2**32, 0], "huge group"),
            (Kind.PART, [bytes(16), [3, 2], 7, -1], "negative part"),
            (Kind.OFFER, [[bytes(16), 0]], "empty content"),
            (Kind.OFFER, [[bytes(16), 2**28 + 1]], "huge content"),
            (Kind.MODEL, [[NAME, CONTENT, 0]], "int for bool"),
            (Kind.UPDATE, with_field(UPDATE, 2, 0), "sequence number 0"),
            (Kind.UPDATE, with_field(UPDATE, 3, 0), "weight 0"),
            (Kind.UPDATE, with_field(UPDATE, 4, bytes(9)), "long digest"),
            (Kind.UPDATE, with_field(UPDATE, 6, nan), "NaN score"),
            (Kind.UPDATE, with_field(UPDATE, 6, inf), "infinite score"),
            (Kind.UPDATE, with_field(UPDATE, 6, "0.5"), "text for a score"),
            (Kind.UPDATE, with_field(UPDATE, 7, None), "no word of what it wants"),
            (Kind.UPDATE, with_field(UPDATE, 7, False), "bool for a window"),
            (Kind.UPDATE, with_field(UPDATE, 7, 2**32), "huge window"),
            (Kind.STATE, with_field(STATE, 5, [1, "praised", ""]), "unknown verdict"),
            (Kind.STATE, with_field(STATE, 5, [1, 0, ""]), "int for a verdict"),
            (Kind.STATE, with_field(STATE, 5, [1, b"applied", ""]), "bytes for a verdict"),
            (Kind.STATE, with_field(STATE, 5, [1, "applied", "x" * 301]), "long reason"),
            (Kind.STATE, with_field(STATE, 5, [-1, "applied", ""]), "negative digest"),
        ]
    ],
)
def test_a_header_with_wrong_values_is_refused(kind, fields):
    refusal(packed(kind, fields), kind)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"\xc1",
        b"\x91",
        b"\x91\x01\x01",
        b"\x91\x01\xc0",
        b"\x91\xa1\xff",
        b"\x91\xd4\x00\x00",
        b"\x91\xd6\xff\x00\x00\x00\x00",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\x91\xc6\xff\xff\xff\xff",
        b"\x91\xdb\xff\xff\xff\xff",
        b"\x91\xc9\xff\xff\xff\xff\x01",
        b"\x91" * MAX_HEADER_BYTES,
        b"\x81" * MAX_HEADER_BYTES,
        b"\x81\x90" * (MAX_HEADER_BYTES // 2),
        b"\x90" * MAX_HEADER_BYTES,
        b"\x80" * MAX_HEADER_BYTES,
        b"\xdc\x0f\xfd" + b"\x80" * (MAX_HEADER_BYTES - 3),
        b"\xdc\x00\x20" + b"\x80" * 32,
    ],
    ids=lambda header: f"{header[:6].hex()} ({len(header)})",
)
@pytest.mark.parametrize("kind", [Kind.BYE, Kind.STATE])
def test_hostile_msgpack_is_refused_in_little_memory(kind, header):
    payload = payload_with(kind, header)
    tracemalloc.start()
    try:
        refusal(payload, kind)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 256 * 1024


@pytest.mark.parametrize("header_bytes", [MAX_HEADER_BYTES, MAX_HEADER_BYTES + 1, 65535])
def test_ten_megabytes_of_empty_maps_are_refused_in_little_memory(header_bytes):
    maps = b"\x80" * 10_000_000
    lengths = header_bytes.to_bytes(2, "little") + b"\0"
    payload = sealed(b"PF" + bytes([VERSION, KIND_CODES[Kind.STATE]]) + lengths + maps)
    tracemalloc.start()
    try:
        text = refusal(payload, Kind.STATE)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 256 * 1024
    if header_bytes > MAX_HEADER_BYTES:
        assert "lengths" in text  # nothing was unpacked


@pytest.mark.parametrize(
    "value",
    [
        {1: 2},
        {"incarnation": 1},
        [0] * (MAX_RANGES + 1),
        bytes(65),
        "x" * 1201,
        msgpack.ExtType(1, b"x"),
        msgpack.Timestamp(1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_no_message_has_is_not_even_unpacked(value):
    assert "not valid msgpack" in refusal(packed(Kind.BYE, [value]), Kind.BYE)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=40)
    | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)


@given(st.sampled_from(Kind), values)
@example(Kind.BYE, [[[[]]]])
def test_any_header_is_a_message_or_refused(kind, fields):
    header = msgpack.packb(fields)
    try:
        envelope = decode(payload_with(kind, header), kind)
    except PeerError:
        return
    assert decode(encode(envelope.message), kind).message == envelope.message


@given(any_message, values, st.data())
def test_any_value_in_any_place_is_a_message_or_refused(message: Message, value, data):
    fields = [getattr(message, name) for name in type(message).model_fields]
    place = data.draw(st.integers(0, len(fields) - 1))
    inner = fields[place]
    if isinstance(inner, tuple) and inner and data.draw(st.booleans()):
        fields[place] = with_field(list(inner), data.draw(st.integers(0, len(inner) - 1)), value)
    else:
        fields[place] = value
    kind = KIND_OF_MESSAGE[type(message)]
    try:
        envelope = decode(packed(kind, fields), kind)
    except PeerError:
        return
    # what was let through is a message like any other
    assert decode(encode(envelope.message), kind).message == envelope.message


@given(st.sampled_from(Kind), st.binary(max_size=60))
def test_any_header_bytes_are_a_message_or_refused(kind, header):
    try:
        envelope = decode(payload_with(kind, header), kind)
    except PeerError:
        return
    assert decode(encode(envelope.message), kind).message == envelope.message
