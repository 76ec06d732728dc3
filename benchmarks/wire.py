"""An update as bytes and back, against the ways others do it.

The same dense change in five forms: PlantFed's envelope with the integers of the lattice, entropy-
coded, which is the default, and plain in four bytes each; msgpack of a dict with the same integers
in two bytes each, without digest and validation; JSON with lists of floats, as several federated
learning projects over MQTT send it; the float32 file of ``np.save``.  All are exact.  And the
largest 2 % of the change in 4 bits each, in PlantFed's envelope, which is not: that is another
message, whose rest the machine adds to its next change.
"""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np

from benchmarks.report import Grid, Report
from benchmarks.timing import interleaved
from plantfed_agent.selection import selected
from plantfed_shared import wire
from plantfed_shared.codec import Coding, decode_integers, encode_integers, forget_decoded
from plantfed_shared.definition import Compression
from plantfed_shared.lattice import Integers, Lattice
from plantfed_shared.messages import Epoch, ModelName, Update
from plantfed_shared.parameters import Floats
from plantfed_shared.topics import Kind

SIZES_BYTES = (10_000, 100_000, 1_000_000)
SAMPLES, QUICK_SAMPLES = 15, 7
STEP = 2.0**-16
WIDTH_BYTES = 2
"""Of a number of the change, where nothing is done to make it smaller."""
TOP_K = Compression(kind="top-k", keep=0.02)

UPDATE = Update(
    base=ModelName(Epoch(1, 0x1234_5678_9ABC_DEF0), 417, 0xFEDC_BA98_7654_3210),
    incarnation=1,
    seq=418,
    weight=1,
    definition=b"8 bytes.",
    dual_check=0x0F1E_2D3C,
    score=0.75,
    want=0,
    others=0,
)


@dataclass(frozen=True)
class Format:
    """One way to send a change.

    Attributes:
        name: of it.
        encode: a whole message.
        decode: what a receiver has of it.
        step: of the lattice, times which what is decoded is the change; 1 where it is floats.
        exact: all of the change is in it.
    """

    name: str
    encode: Callable[[], bytes]
    decode: Callable[[bytes], Any]
    step: float = STEP
    exact: bool = True


def run(*, quick: bool) -> Report:
    """Time all formats at all sizes."""
    return measure(SIZES_BYTES, QUICK_SAMPLES if quick else SAMPLES)


def measure(sizes_bytes: Sequence[int], samples: int) -> Report:
    """One table per size of the update."""
    report = Report("wire")
    for size in sizes_bytes:
        formats = formats_of(change_of(size // WIDTH_BYTES))
        encoded = {f.name: f.encode() for f in formats}
        encoding = interleaved({f.name: f.encode for f in formats}, samples)
        decoding = interleaved({f.name: _decoder(f, encoded[f.name]) for f in formats}, samples)
        own = len(encoded[formats[0].name])
        rows = [
            (
                name,
                len(encoded[name]),
                len(encoded[name]) / own,
                encoding[name].seconds * 1e6,
                encoding[name].ratio,
                decoding[name].seconds * 1e6,
                decoding[name].ratio,
            )
            for name in encoded
        ]
        columns = ("format", "bytes", "ratio", "encode us", "ratio", "decode us", "ratio")
        unique = [
            f"{c} {columns[i - 1].split()[0]}" if c == "ratio" else c for i, c in enumerate(columns)
        ]
        title = f"{size // WIDTH_BYTES:,} parameters, {size // 1000:,} KB in two bytes each"
        report.grids.append(Grid(title, unique, rows))
    report.notes.append(
        f"processor time, medians of {samples} samples taken in turn; ratios to PlantFed's "
        "default, entropy-coded; only PlantFed's have a digest and a validated header; the change "
        "is normal noise of 300 units, 10.3 bits a number; all but top-k carry all of it exactly, "
        f"top-k the largest {TOP_K.keep:.0%} in {TOP_K.bits} bits each, choosing them included"
    )
    return report


def change_of(n: int) -> Integers:
    """A change whose integers need two bytes, like those of a round."""
    return np.random.default_rng(0).normal(scale=300, size=n).round().astype(np.int64)


def formats_of(change: Integers) -> list[Format]:
    """All formats, PlantFed's default first."""
    floats = (change * STEP).astype(np.float32)
    header = UPDATE.model_dump()
    lattice = Lattice((change.size,), (16,))

    def encode_own(integers: Integers, coding: Coding) -> bytes:
        return wire.encode(UPDATE, encode_integers(integers, lattice, coding))

    def encode_largest() -> bytes:
        largest = selected(lattice, TOP_K, TOP_K.keep, lattice.transmitted_change(change))
        return encode_own(largest, Coding.ENTROPY)

    # what came last is kept decoded, and here the same comes again and again
    def decode_own(encoded: bytes) -> Integers:
        forget_decoded()
        return decode_integers(wire.decode(encoded, Kind.UPDATE).tail, lattice)

    return [
        Format("PlantFed", lambda: encode_own(change, Coding.ENTROPY), decode_own),
        Format("PlantFed, plain", lambda: encode_own(change, Coding.PLAIN), decode_own),
        Format("PlantFed, top-k", encode_largest, decode_own, exact=False),
        Format(
            "msgpack dict",
            lambda: _packed({**header, "change": change.astype("<i2").tobytes()}),
            lambda encoded: np.frombuffer(msgpack.unpackb(encoded)["change"], dtype="<i2"),
        ),
        Format(
            "JSON lists",
            lambda: json.dumps({"seq": UPDATE.seq, "change": floats.tolist()}).encode(),
            lambda encoded: np.array(json.loads(encoded)["change"], dtype=np.float32),
            step=1,
        ),
        Format("np.save float32", lambda: _saved(floats), lambda e: np.load(io.BytesIO(e)), step=1),
    ]


def _decoder(form: Format, encoded: bytes) -> Callable[[], Any]:
    return lambda: form.decode(encoded)


def _packed(fields: dict[str, Any]) -> bytes:
    packed: bytes = msgpack.packb(fields)
    return packed


def _saved(floats: Floats) -> bytes:
    file = io.BytesIO()
    np.save(file, floats)
    return file.getvalue()
