"""Fixed messages, vectors and their bytes: what is on the wire for ever.

``python -m tests.shared.golden_wire --write`` writes ``golden_wire.json`` anew.  Only a new version
of the wire format may change a line that is there; a new kind of message adds one.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tests.newcomers import newcomer
from tests.shared.vectors import int64

from plantfed_shared.codec import Coding, encode_factors, encode_integers, encode_model
from plantfed_shared.digest import content_digest
from plantfed_shared.lattice import Lattice, checksum
from plantfed_shared.low_rank import Factors
from plantfed_shared.low_rank import Part as PartOfChange
from plantfed_shared.messages import (
    KIND_OF_MESSAGE,
    NO_GROUP,
    Bye,
    Chunk,
    Code,
    Content,
    Epoch,
    Group,
    Hello,
    Manifest,
    Message,
    ModelName,
    ModelOffer,
    ModelStep,
    Need,
    Offer,
    Part,
    Range,
    Start,
    State,
    Status,
    Update,
    Verdict,
    Want,
    Welcome,
)
from plantfed_shared.wire import encode

FILE = Path(__file__).with_name("golden_wire.json")

_EPOCH = Epoch(3, 0x0123456789ABCDEF)
_NAME = ModelName(_EPOCH, 1234, 0xFEDCBA9876543210)
_BLOB = Content(bytes(range(16)), 100_000)
_DEFINITION = Content(bytes(range(16, 32)), 2048)
_OFFER = ModelOffer(_NAME, _DEFINITION, False)
_FINAL = ModelOffer(_NAME, _DEFINITION, True)

_CHANGE = int64([0, 1, -1, 127, -128])


def _lattice(*sizes: int) -> Lattice:
    return Lattice(sizes, (16,) * len(sizes))


def _factors(rows: int, columns: int, *terms: tuple[int, list[int], list[int]]) -> Factors:
    """Shift, left and right of each term."""
    left = np.array([term[1] for term in terms], dtype=np.int64).reshape(-1, rows).T
    right = np.array([term[2] for term in terms], dtype=np.int64).reshape(-1, columns)
    return Factors(tuple(term[0] for term in terms), left, right)


MESSAGES: dict[str, tuple[Message, bytes]] = {
    "hello, first": (
        newcomer("0.1.0"),
        b"",
    ),
    "hello, with an update outstanding": (
        Hello(
            epoch=_EPOCH,
            incarnation=2,
            applied_seq=87,
            outstanding=0x1122334455667788,
            dual_checksum=2**64 - 1,
            newest=_NAME,
            software="0.1.0",
            proof=0x0102030405060708,
        ),
        b"",
    ),
    "update": (
        Update(
            base=_NAME,
            incarnation=2,
            seq=88,
            weight=480,
            definition=bytes(range(16, 24)),
            dual_check=0x88776655,
            score=0.8125,
            want=131072,
            others=179,
        ),
        encode_integers(_CHANGE, _lattice(2, 3), Coding.ENTROPY),
    ),
    "update, without a score": (
        Update(
            base=ModelName(Epoch(1, 0), 0, 0),
            incarnation=1,
            seq=1,
            weight=1,
            definition=bytes(8),
            dual_check=1,
            score=None,
            want=0,
            others=0,
        ),
        encode_integers(int64([]), _lattice(), Coding.ENTROPY),
    ),
    "offer": (Offer(content=Content(bytes(range(32, 48)), 100_000)), b""),
    "want, first": (Want(have=None, window=1024, others=0), b""),
    "want, with a model": (Want(have=_NAME, window=131072, others=0), b""),
    "want, after others": (Want(have=_NAME, window=131072, others=255), b""),
    "need": (
        Need(
            digest=bytes(range(16)),
            ranges=(Range(0, 49152), Range(98304, 2**32 - 1)),
            step=None,
        ),
        b"",
    ),
    "need, of a whole model": (
        Need(digest=bytes(range(16)), ranges=(Range(0, 1),), step=ModelStep(1234, None)),
        b"",
    ),
    "need, of a difference": (
        Need(digest=bytes(range(16)), ranges=(Range(0, 1),), step=ModelStep(1234, 1230)),
        b"",
    ),
    "part": (
        Part(digest=bytes(range(16)), step=ModelStep(1234, None), group=0xFEDCBA98, part=1),
        b"",
    ),
    "part, of an artefact": (
        Part(digest=bytes(range(16)), step=None, group=NO_GROUP, part=0),
        b"",
    ),
    "group": (
        Group(content=_BLOB, step=ModelStep(1234, 1230), number=0xFEDCBA98, missed=None),
        b"",
    ),
    "group, after a part that was missed": (
        Group(content=_BLOB, step=ModelStep(1234, None), number=7, missed=2),
        b"",
    ),
    "group, of an artefact": (Group(content=_BLOB, step=None, number=7, missed=None), b""),
    "chunk": (Chunk(content=_BLOB, offset=49152, step=None), b"forty-nine thousand bytes on"),
    "bye": (Bye(incarnation=2), b""),
    "status, online": (Status(online=True, software="0.1.0"), b""),
    "status, offline": (Status(online=False, software=""), b""),
    "welcome": (
        Welcome(epoch=_EPOCH, incarnation=1, dual_checksum=0, dual=None, offer=_OFFER),
        b"",
    ),
    "welcome, with a dual": (
        Welcome(
            epoch=_EPOCH,
            incarnation=3,
            dual_checksum=0x8877665544332211,
            dual=Content(bytes(range(48, 64)), 21889),
            offer=_OFFER,
        ),
        b"",
    ),
    "state, of no member": (
        State(
            epoch=_EPOCH,
            incarnation=0,
            last_seq=0,
            last_digest=None,
            dual_checksum=0,
            verdict=None,
            offer=None,
        ),
        b"",
    ),
    "state, final": (
        State(
            epoch=_EPOCH,
            incarnation=2,
            last_seq=88,
            last_digest=0x1122334455667788,
            dual_checksum=0x8877665544332211,
            verdict=None,
            offer=_FINAL,
        ),
        b"",
    ),
    **{
        f"state, {code}": (
            State(
                epoch=_EPOCH,
                incarnation=2,
                last_seq=87,
                last_digest=1,
                dual_checksum=2,
                verdict=Verdict(0x1122334455667788, code, "why: größer als 2³⁰"),
                offer=None,
            ),
            b"",
        )
        for code in Code
    },
    "start": (Start(offer=_OFFER, deadline_s=600.0), b""),
    "model": (Manifest(offer=_OFFER), b""),
}

VECTORS: list[tuple[tuple[int, ...], list[int]]] = [
    ((), []),
    ((0,), []),
    ((1,), [0]),
    ((1,), [1]),
    ((1,), [-1]),
    ((3,), [1, 2, 3]),
    ((3,), [3, 2, 1]),
    ((2,), [127, -128]),
    ((2,), [32768, -32769]),
    ((2,), [2**30 - 1, 1 - 2**30]),
    ((40,), list(range(-20, 20))),
    # sparse, of few bits in units of a power of two, and with an empty tensor: as top-k sends it
    ((60, 0, 20), [0] * 17 + [7 << 9] + [0] * 30 + [-(3 << 9)] + [0] * 11 + [0, 5, -4, 0, 1] * 4),
    # most signs alike, so that they are a subset
    ((30,), [-5] + [4, 6, 5] * 9 + [-4, 5]),
]
"""(sizes of the tensors, integers)."""

MODEL, BASE = int64(VECTORS[-2][1]), int64(list(range(80)))
MODEL_LATTICE = _lattice(*VECTORS[-2][0])
MODEL_NAME = ModelName(_EPOCH, 1234, checksum(MODEL))
MODELS: dict[str, tuple[str, int | None, int]] = {
    f"{coding}, {what}": (coding, base_k, turnovers)
    for coding in Coding
    for what, base_k, turnovers in (
        ("whole", None, 0),
        ("difference", 1230, 0),
        ("whole with turnovers", None, 1),
        ("difference with turnovers", 1230, 70_000),
    )
}
"""(coding, release it is the difference from, turnovers)."""

FACTORS_LATTICE = Lattice((54, 5, 20), (16, 16, 16), rows=(9, 1, 4))
FACTORS: dict[str, list[PartOfChange]] = {
    "nothing": [_factors(9, 6), int64([0] * 5), _factors(4, 5)],
    "terms": [
        _factors(
            9,
            6,
            (11, [1, -3, 0, 2, 1, 1, -1, 0, 3], [0, 1, 3, -2, 0, 1]),
            (9, [0, 1, 0, 0, -1, 2, 0, 0, 1], [1, 0, -1, 0, 0, 3]),
            (10, [2, 0, 0, 0, 1, 0, 0, 1, 0], [0, 0, 1, 1, -1, 0]),
        ),
        int64([-512, 0, 256, 0, 768]),
        _factors(4, 5, (0, [127, 1, 0, -2], [-127, 0, 0, 1, 1])),
    ],
    "rows that are zero": [
        _factors(
            9,
            6,
            (8, [0, 0, 0, 0, 0, 0, 1, -2, 3], [0, 1, 3, -2, 1, 1]),
            (8, [0, 0, 0, 0, 0, 0, 2, 1, 1], [1, 1, -1, 2, 1, 3]),
            (7, [0, 0, 0, 0, 0, 0, 1, 1, -3], [2, 1, 1, 1, -1, 1]),
        ),
        int64([0] * 5),
        _factors(4, 5),
    ],
}


def golden() -> dict[str, Any]:
    """What the file holds, made by the code as it is now."""
    return {
        "messages": {
            name: {"kind": KIND_OF_MESSAGE[type(message)].value, "hex": encode(message, tail).hex()}
            for name, (message, tail) in MESSAGES.items()
        },
        "vectors": [
            {
                "sizes": list(sizes),
                "integers": integers,
                "checksum": f"{checksum(int64(integers)):016x}",
                **{
                    coding.value: encode_integers(int64(integers), _lattice(*sizes), coding).hex()
                    for coding in Coding
                },
            }
            for sizes, integers in VECTORS
        ],
        "factors": {
            name: encode_factors(parts, FACTORS_LATTICE).hex() for name, parts in FACTORS.items()
        },
        "models": {name: _model(*how).hex() for name, how in MODELS.items()},
        "digests": [
            {"content": content, "digest": content_digest(content.encode()).hex()}
            for content in ("", "PlantFed")
        ],
    }


def _model(coding: str, base_k: int | None, turnovers: int) -> bytes:
    base = None if base_k is None else (base_k, BASE)
    return encode_model(MODEL_NAME, MODEL, MODEL_LATTICE, coding, base, turnovers)


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("python -m tests.shared.golden_wire --write")
    FILE.write_text(json.dumps(golden(), indent=1) + "\n", encoding="utf-8")
