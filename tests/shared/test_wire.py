"""Bytes of messages: golden, and exact both ways; test_wire_damage.py has all that is refused."""

from hashlib import blake2b

import pytest
from hypothesis import example, given
from tests.shared import golden_wire
from tests.shared.message_strategies import any_message, contents, u32
from tests.shared.vectors import int64
from tests.shared.wire_payloads import GOLDEN, fitting, tails

from plantfed_shared.codec import Coding, decode_integers, decode_model, encode_integers
from plantfed_shared.digest import content_digest
from plantfed_shared.lattice import Lattice, checksum
from plantfed_shared.low_rank import whole
from plantfed_shared.messages import (
    KIND_OF_MESSAGE,
    MAX_CONTENT_BYTES,
    MAX_RANGES,
    Chunk,
    Code,
    Content,
    Epoch,
    Message,
    ModelName,
    ModelOffer,
    ModelStep,
    Need,
    Range,
    State,
    Verdict,
)
from plantfed_shared.topics import Kind, Topics
from plantfed_shared.wire import (
    CHUNK_ENVELOPE_BYTES,
    Envelope,
    decode,
    encode,
    envelope_digest,
)

# ---------------------------------------------------------------- golden bytes


def test_the_golden_file_is_what_the_code_writes():
    assert golden_wire.golden() == GOLDEN


def test_every_kind_and_every_verdict_is_golden():
    kinds = {entry["kind"] for entry in GOLDEN["messages"].values()}
    assert kinds == {kind.value for kind in Kind}
    assert {f"state, {code}" for code in Code} <= GOLDEN["messages"].keys()


@pytest.mark.parametrize("name", GOLDEN["messages"])
def test_golden_bytes_are_read_and_written_again(name):
    entry = GOLDEN["messages"][name]
    encoded = bytes.fromhex(entry["hex"])
    envelope = decode(encoded, Kind(entry["kind"]))
    assert (envelope.message, envelope.tail) == golden_wire.MESSAGES[name]
    assert encode(envelope.message, bytes(envelope.tail)) == encoded


@pytest.mark.parametrize("entry", GOLDEN["vectors"])
def test_golden_vectors(entry):
    integers = int64(entry["integers"])
    assert f"{checksum(integers):016x}" == entry["checksum"]
    lattice = Lattice(tuple(entry["sizes"]), (16,) * len(entry["sizes"]))
    for coding in Coding:
        assert encode_integers(integers, lattice, coding).hex() == entry[coding]
        decoded = decode_integers(bytes.fromhex(entry[coding]), lattice)
        assert decoded.tolist() == entry["integers"]


@pytest.mark.parametrize("name", GOLDEN["factors"])
def test_golden_factors(name):
    encoded = bytes.fromhex(GOLDEN["factors"][name])
    expected = whole(golden_wire.FACTORS[name])
    assert decode_integers(encoded, golden_wire.FACTORS_LATTICE).tolist() == expected.tolist()


@pytest.mark.parametrize("name", GOLDEN["models"])
def test_golden_models(name):
    _, base_k, turnovers = golden_wire.MODELS[name]
    decoded = decode_model(bytes.fromhex(GOLDEN["models"][name]), golden_wire.MODEL_LATTICE)
    assert (decoded.name, decoded.step) == (golden_wire.MODEL_NAME, ModelStep(1234, base_k))
    base = None if base_k is None else golden_wire.BASE
    assert decoded.model(base).tolist() == golden_wire.MODEL.tolist()
    assert decoded.turnovers == turnovers


@pytest.mark.parametrize("entry", GOLDEN["digests"])
def test_golden_digests(entry):
    assert content_digest(entry["content"].encode()).hex() == entry["digest"]


def test_the_layout_is_the_documented_one():
    chunk = Chunk(content=Content(bytes(range(16)), 500), offset=300, step=ModelStep(7, None))
    encoded = encode(chunk, b"tail")
    # msgpack: array of 3, array of 2, bin 8 of 16 bytes, uint 16, uint 16, array of 2, 7, nil
    header = b"\x93\x92\xc4\x10" + bytes(range(16)) + b"\xcd\x01\xf4" + b"\xcd\x01\x2c"
    header += b"\x92\x07\xc0"
    body = b"PF\x03\x05" + b"\x1d\x00" + b"\x00" + header + b"tail"
    assert encoded == body + blake2b(body, digest_size=8).digest()


# ---------------------------------------------------------------- there and back


@given(any_message, tails)
def test_every_message_comes_back(message: Message, tail: bytes):
    tail = fitting(message, tail)
    encoded = encode(message, tail)
    envelope = decode(encoded, KIND_OF_MESSAGE[type(message)])
    assert envelope == Envelope(message, memoryview(tail), envelope_digest(encoded))
    assert type(envelope.message) is type(message)
    assert encode(envelope.message, bytes(envelope.tail)) == encoded
    assert encoded[-8:] == envelope.digest.to_bytes(8, "little")


def widest(kind: Kind) -> Message | None:
    """Where a header can be long: the longest there is."""
    name = ModelName(Epoch(2**32 - 1, 2**64 - 1), 2**32 - 1, 2**64 - 1)
    content = Content(bytes(16), 2**22)
    match kind:
        case Kind.NEED:
            step = ModelStep(2**32 - 1, 2**32 - 1)
            ranges = (Range(2**32 - 1, 2**32 - 1),) * MAX_RANGES
            return Need(digest=bytes(16), ranges=ranges, step=step)
        case Kind.STATE:
            return State(
                epoch=name.epoch,
                incarnation=2**31 - 1,
                last_seq=2**32 - 1,
                last_digest=2**64 - 1,
                dual_checksum=2**64 - 1,
                verdict=Verdict(2**64 - 1, Code.OLD_INCARNATION, "\U0001d513" * 300),
                offer=ModelOffer(name, content, True),
            )
    return None


@pytest.mark.parametrize("kind", [Kind.NEED, Kind.STATE])
def test_the_longest_messages_come_back(kind):
    message = widest(kind)
    assert message is not None
    assert decode(encode(message), kind).message == message


def test_the_tail_is_not_copied():
    encoded = encode(Chunk(content=Content(bytes(16), 40_000), offset=0, step=None), bytes(40_000))
    assert decode(encoded, Kind.CHUNK).tail.obj is encoded


@given(contents, u32, tails)
@example(Content(bytes(16), MAX_CONTENT_BYTES), 2**32 - 1, b"")
def test_a_chunk_has_less_envelope_than_it_is_given(content, offset, piece):
    encoded = encode(Chunk(content=content, offset=offset, step=None), piece)
    assert len(encoded) - len(piece) <= CHUNK_ENVELOPE_BYTES


def test_topic_and_envelope_of_an_update_stay_within_128_bytes():
    message, tail = golden_wire.MESSAGES["update"]
    topic = Topics("press-line-2").up("press-07", Kind.UPDATE)
    assert len(topic) + len(encode(message, tail)) - len(tail) <= 128
