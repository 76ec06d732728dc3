"""Messages that broke other systems, and more: each leaves exactly one entry in the audit log.

``facts/trust.md`` lists what broke whom.  ``ENVELOPES`` are for anybody with credentials, member or
not; ``OF_A_MEMBER`` need a member's id, and pass everything but what their name says.
"""

import json
import math
import pickle
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np
from tests.shared.wire_payloads import packed, payload_with, sealed

from plantfed_coordinator.state import FederationState
from plantfed_shared import entropy_codec, wire
from plantfed_shared.bit_streams import BitWriter
from plantfed_shared.codec import FACTORS, Coding, encode_integers
from plantfed_shared.digest import content_digest
from plantfed_shared.lattice import checksum, upper_half
from plantfed_shared.low_rank import SHIFT_BITS, most_terms
from plantfed_shared.messages import Chunk, Content, ModelName, Offer, Update
from plantfed_shared.topics import Kind
from plantfed_shared.wire import KIND_CODES, VERSION

Said = tuple[Kind, bytes]


class Attack:
    """What a pickle does that is opened."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("import os; os.kill(os.getppid(), 9); os._exit(1)",))


def _damaged() -> bytes:
    return sealed(b"PF" + bytes([VERSION, KIND_CODES[Kind.BYE], 2, 0, 0]) + b"\x91\x01")[:-1] + b"x"


def _header(kind: Kind, header: bytes) -> Said:
    return kind, payload_with(kind, header)


def _empty_maps(number: int) -> bytes:
    return b"\xdc" + number.to_bytes(2, "big") + b"\x80" * number


_NAME = [[1, 2], 3, 4]
_HELLO = [[1, 2], 1, 0, None, 0, None, "x", None]
_UPDATE = [_NAME, 1, 1, 1, bytes(8), 5, 0.5, 0, 0]


def _fields(kind: Kind, good: list[Any], place: int, value: Any) -> Said:
    return kind, packed(kind, [*good[:place], value, *good[place + 1 :]])


ENVELOPES: dict[str, Said] = {
    "nothing": (Kind.HELLO, b""),
    "one byte": (Kind.HELLO, b"\0"),
    "not UTF-8": (Kind.HELLO, b"\xff\xfe\xc3\x28\xa0\xa1" * 5),
    "not JSON": (Kind.HELLO, b'{"client_id": "m1", '),
    "a forged registration in JSON": (
        Kind.HELLO,
        json.dumps({"client_id": "m1", "weights": [1e30] * 100, "nan": math.nan}).encode(),
    ),
    "100,000 nested arrays in JSON": (Kind.UPDATE, b"[" * 40_000),
    "an evil pickle": (Kind.UPDATE, pickle.dumps(Attack())),
    "an evil pickle in an envelope": (Kind.HELLO, payload_with(Kind.HELLO, pickle.dumps(Attack()))),
    "60 kB of noise": (Kind.UPDATE, np.random.default_rng(1).bytes(60_000)),
    "another magic": (Kind.BYE, sealed(b"XX" + bytes([VERSION, 6, 2, 0, 0]) + b"\x91\x01")),
    "version 1": (Kind.BYE, sealed(b"PF" + bytes([1, 6, 2, 0, 0]) + b"\x91\x01")),
    "version 255": (Kind.BYE, sealed(b"PF" + bytes([255, 6, 2, 0, 0]) + b"\x91\x01")),
    "a wrong checksum": (Kind.BYE, _damaged()),
    "another kind": (Kind.HELLO, packed(Kind.BYE, [1])),
    "a kind that does not exist": (
        Kind.BYE,
        sealed(b"PF" + bytes([VERSION, 99, 2, 0, 0]) + b"\x91\x01"),
    ),
    "a message of the coordinator": (Kind.NEED, packed(Kind.WELCOME, [1])),
    "a header beyond the end": (
        Kind.BYE,
        sealed(b"PF" + bytes([VERSION, 6, 255, 255, 0]) + b"\x91\x01"),
    ),
    "an authentication beyond the end": (
        Kind.BYE,
        sealed(b"PF" + bytes([VERSION, 6, 2, 0, 255]) + b"\x91\x01"),
    ),
    "a tail where none belongs": (Kind.BYE, payload_with(Kind.BYE, b"\x91\x01", b"tail")),
    "4 G elements": _header(Kind.NEED, b"\xdd\xff\xff\xff\xff"),
    "4 G pairs": _header(Kind.NEED, b"\xdf\xff\xff\xff\xff"),
    "4 GB of bytes": _header(Kind.NEED, b"\x93\xc6\xff\xff\xff\xff"),
    "4 GB of text": _header(Kind.STATUS, b"\x92\xc3\xdb\xff\xff\xff\xff"),
    "1,000 nested arrays": _header(Kind.HELLO, b"\x91" * 1000 + b"\x01"),
    "4,000 nested arrays": _header(Kind.HELLO, b"\x91" * 4000 + b"\x01"),
    "4,000 empty maps": _header(Kind.HELLO, _empty_maps(4000)),
    "duplicate keys": _header(Kind.BYE, b"\x82\xa1a\x01\xa1a\x02"),
    "an extension": _header(Kind.BYE, b"\x91\xd4\x01\x00"),
    "a timestamp": _header(Kind.BYE, b"\x91\xd6\xff\x00\x00\x00\x00"),
    "text that is not UTF-8": _header(Kind.STATUS, b"\x92\xc3\xa2\xff\xfe"),
    "a byte msgpack never uses": _header(Kind.BYE, b"\x91\xc1"),
    "half a header": _header(Kind.HELLO, msgpack.packb(_HELLO)[:9]),
    "bytes after the header": _header(Kind.BYE, b"\x91\x01\x01"),
    "too few fields": (Kind.HELLO, packed(Kind.HELLO, [1])),
    "too many fields": (Kind.BYE, packed(Kind.BYE, [1, 2])),
    "a map for a list": (Kind.BYE, packed(Kind.BYE, {"incarnation": 1})),
    "NaN": _fields(Kind.UPDATE, _UPDATE, 6, math.nan),
    "infinity": _fields(Kind.UPDATE, _UPDATE, 6, math.inf),
    "1e308": _fields(Kind.UPDATE, _UPDATE, 6, 1e308),
    "a negative sequence": _fields(Kind.UPDATE, _UPDATE, 2, -1),
    "2^64 - 1 for 32 bits": _fields(Kind.UPDATE, _UPDATE, 2, 2**64 - 1),
    "a float for an integer": _fields(Kind.UPDATE, _UPDATE, 3, 1e300),
    "text for an integer": _fields(Kind.UPDATE, _UPDATE, 3, "1; DROP TABLE journal;--"),
    "truth for an integer": _fields(Kind.HELLO, _HELLO, 1, True),
    "no weight": _fields(Kind.UPDATE, _UPDATE, 3, 0),
    "an incarnation that leaves no higher one": _fields(Kind.HELLO, _HELLO, 1, 2**31),
    "5,000 characters": _fields(Kind.HELLO, _HELLO, 6, "../" * 1000),
    "an offer of 1 TB": (Kind.OFFER, packed(Kind.OFFER, [[bytes(16), 2**40]])),
    "an offer of nothing": (Kind.OFFER, packed(Kind.OFFER, [[bytes(16), 0]])),
    "a digest as a path": (Kind.OFFER, packed(Kind.OFFER, [["../../../../etc/x", 10]])),
    "no ranges": (Kind.NEED, packed(Kind.NEED, [bytes(16), [], None])),
    "1,000 ranges": (Kind.NEED, packed(Kind.NEED, [bytes(16), [[0, 1]] * 1000, None])),
    "part 2^32": (Kind.PART, packed(Kind.PART, [bytes(16), [1, None], 1, 2**32])),
}


@dataclass
class Insider:
    """What a member knows."""

    agent: str
    state: FederationState

    def update(self, tail: bytes | None = None, **fields: Any) -> list[Said]:
        """An update that passes everything but what is given here."""
        state, member = self.state, self.state.members[self.agent]
        size = state.terms.lattice.size
        change = np.ones(size, dtype=np.int64)
        tail = encode_integers(change, state.terms.lattice, Coding.PLAIN) if tail is None else tail
        values: dict[str, Any] = {
            "base": self.name(),
            "incarnation": member.incarnation,
            "seq": member.last_seq + 1,
            "weight": 1,
            "definition": state.terms.digest[:8],
            "dual_check": upper_half(checksum(member.contribution.dual + change)) ^ 1,
            "score": None,
            "want": 0,
            "others": 0,
        }
        return [(Kind.UPDATE, wire.encode(Update(**{**values, **fields}), tail))]

    def name(self, **changes: Any) -> Any:
        k = max(k for k in self.state.versions)
        name = (self.state.epoch, k, checksum(self.state.versions[k]))

        return ModelName(*name)._replace(**changes)

    def plain(self, dtype: str, value: float, size: int | None = None) -> bytes:
        n = self.state.terms.lattice.size if size is None else size
        return b"\x04" + np.full(n, value, dtype=dtype).tobytes()

    def zero_terms(self) -> bytes:
        """Few bytes that ask for as much work as a whole matrix of full rank."""
        writer, numbers = BitWriter(), 0
        for rows, columns in self.state.terms.lattice.shapes:
            most = most_terms((rows, columns))
            if most:
                writer.small(most, most)
                writer.number(0, SHIFT_BITS)
                writer.unary(np.zeros(most - 1, dtype=np.int64))
                writer.number(0, 2)
                numbers += most * (rows + columns)
            else:
                writer.number(0, SHIFT_BITS)
                numbers += rows * columns
        entropy_codec.write_tensor(writer, np.zeros(numbers, dtype=np.int64))
        return bytes([FACTORS]) + writer.to_bytes()

    def transfer(self, offset: int, piece: bytes, size: int = 64) -> list[Said]:
        content = Content(content_digest(b"never sent" + piece), size)
        chunk = Chunk(content=content, offset=offset, step=None)
        offered = (Kind.OFFER, wire.encode(Offer(content=content)))
        return [offered, (Kind.CHUNK, wire.encode(chunk, piece))]

    def hello(self, **changes: Any) -> list[Said]:
        fields = {**dict(enumerate(_HELLO)), **{int(k[1:]): v for k, v in changes.items()}}
        return [(Kind.HELLO, packed(Kind.HELLO, list(fields.values())))]


OF_A_MEMBER: dict[str, Callable[[Insider], list[Said]]] = {
    "wrong shape: one too few": lambda i: i.update(
        i.plain("<i4", 0, i.state.terms.lattice.size - 1)
    ),
    "wrong shape: one too many": lambda i: i.update(
        i.plain("<i4", 0, i.state.terms.lattice.size + 1)
    ),
    "wrong dtype: float64": lambda i: i.update(i.plain("<f8", 1.0)),
    "NaN as float32": lambda i: i.update(i.plain("<f4", math.nan)),
    "infinity as float32": lambda i: i.update(i.plain("<f4", math.inf)),
    "1e30 as float32": lambda i: i.update(i.plain("<f4", 1e30)),
    "the largest integers": lambda i: i.update(i.plain("<i4", 2**31 - 1)),
    "no change at all": lambda i: i.update(b""),
    "an encoding that does not exist": lambda i: i.update(b"\xc8" + bytes(40)),
    "a zip bomb": lambda i: i.update(b"\0" + zlib.compress(bytes(20_000_000))),
    "40 kB for few numbers": lambda i: i.update(b"\0" + b"\xff" * 40_000),
    "terms that are all zero": lambda i: i.update(i.zero_terms()),
    "255 terms": lambda i: i.update(b"\x01\xff" + bytes(300)),
    "a shift by 255": lambda i: i.update(b"\x01\x01\xff" + bytes(40)),
    "another dual": lambda i: i.update(),
    "all the weight": lambda i: i.update(weight=2**32 - 1),
    "settings of nobody": lambda i: i.update(definition=b"settings"),
    "an update of long ago": lambda i: i.update(seq=1),
    "an incarnation that is over": lambda i: i.update(incarnation=0),
    "an epoch that is over": lambda i: i.update(
        base=i.name(epoch=i.state.epoch._replace(counter=0))
    ),
    "an epoch 2^31 ahead": lambda i: i.update(
        base=i.name(epoch=i.state.epoch._replace(counter=2**31))
    ),
    "a base that is gone": lambda i: i.update(base=i.name(k=0)),
    "a replayed hello": lambda i: i.hello(_0=None),
    "an old bye": lambda i: [(Kind.BYE, packed(Kind.BYE, [0]))],
    "an offer of 256 MB": lambda i: [
        (Kind.OFFER, packed(Kind.OFFER, [[bytes(16), 256 * 2**20]])),
    ],
    "a chunk nobody asked for": lambda i: i.transfer(0, b"x" * 64)[1:],
    "a chunk beyond the end": lambda i: i.transfer(60, b"x" * 64),
    "a transfer that is not what was offered": lambda i: i.transfer(0, b"x" * 64),
}
