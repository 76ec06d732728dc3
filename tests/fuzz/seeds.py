"""``python -m tests.fuzz.seeds --write`` writes the corpus anew: sound inputs and hostile ones.

What a fuzzer has found is added by hand at the end of a file and kept: lines are only added.
"""

import sys
from pathlib import Path

import msgpack
import numpy as np
from tests.e2e.hostile_corpus import ENVELOPES
from tests.fuzz.artefacts import (
    DENSE,
    FILE,
    MANIFEST_TEXT,
    archive,
    dense_graph,
    dense_manifest,
    manifest_text,
    member_names,
    sound,
)
from tests.fuzz.driver import CORPUS
from tests.fuzz.targets import KINDS, LATTICES, TOPICS, coordinator
from tests.shared.wire_payloads import GOLDEN

from plantfed_shared import low_rank
from plantfed_shared.codec import Coding, encode_factors, encode_integers, encode_model
from plantfed_shared.lattice import checksum
from plantfed_shared.low_rank import Factors, most_terms
from plantfed_shared.messages import Epoch, ModelName
from plantfed_shared.topics import UP, Kind

ROOT = Path(__file__).parents[2]
DIGEST = 8


def _split(encoded: bytes) -> tuple[bytes, bytes]:
    """Header and tail of a message."""
    length = int.from_bytes(encoded[4:6], "little")
    return encoded[7 : 7 + length], encoded[7 + length : -DIGEST]


def wire_seeds() -> list[bytes]:
    """Golden and hostile messages, raw and as header and tail."""
    found = []
    messages = [(Kind(e["kind"]), bytes.fromhex(e["hex"])) for e in GOLDEN["messages"].values()]
    for kind, encoded in [*messages, *ENVELOPES.values()]:
        place = KINDS.index(kind)
        if len(encoded) < 1000:
            found.append(bytes([place, 0]) + encoded)
    for kind, encoded in messages:
        header, tail = _split(encoded)
        if len(header) < 250:
            at = len(header) + (len(header) % 4 == 0)
            found.append(bytes([KINDS.index(kind), at, 0]) + header + tail)
    return found


def coordinator_seeds() -> list[bytes]:
    """The same for what agents send."""
    found = []
    for entry in GOLDEN["messages"].values():
        kind = Kind(entry["kind"])
        if kind in UP:
            header, tail = _split(bytes.fromhex(entry["hex"]))
            found += [bytes([who, UP.index(kind), len(header)]) + header + tail for who in (0, 2)]
    state = coordinator(0).state
    base = [list(state.epoch), 0, checksum(state.model)]
    update = [base, 1, 1, 1, state.terms.digest[:8], 0, 0.5, 0, 0]
    header = msgpack.packb(update)
    # no change at all leaves the dual at zero, whose checksum is 0
    change = b"\x04" + bytes(4 * state.terms.lattice.size)
    found.insert(0, bytes([0, UP.index(Kind.UPDATE), len(header)]) + header + change)
    hello = msgpack.packb([[1, 5], 1, 0, None, 0, None, "x", None])
    found.append(bytes([1, UP.index(Kind.HELLO), len(hello)]) + hello)
    return found


def codec_seeds() -> list[bytes]:
    """Vectors on all lattices in all encodings."""
    found = []
    rng = np.random.default_rng(5)
    for place, lattice in enumerate(LATTICES):
        for scale in (0, 1, 7, 1000, 2**29):
            vector = (rng.normal(size=lattice.size) * scale).astype(np.int64)
            vector = np.clip(vector, -(2**30) + 1, 2**30 - 1)
            for coding in (Coding.ENTROPY, Coding.PLAIN):
                found.append(bytes([place]) + encode_integers(vector, lattice, coding))
        sparse = np.zeros(lattice.size, dtype=np.int64)
        sparse[:: max(1, lattice.size // 5)] = 3
        found.append(bytes([place]) + encode_integers(sparse, lattice, Coding.ENTROPY))
        name = ModelName(Epoch(1, 2), 3, 4)
        found.append(bytes([place | 0x80]) + encode_model(name, sparse, lattice, Coding.ENTROPY))
        if lattice.has_matrices:
            found.append(bytes([place]) + encode_factors(_parts(place), lattice))
    return [seed for seed in found if len(seed) <= 1500]


def _parts(place: int) -> list[low_rank.Part]:
    parts: list[low_rank.Part] = []
    for rows, columns in LATTICES[place].shapes:
        if most_terms((rows, columns)):
            left, right = np.ones((rows, 2), np.int64), np.full((2, columns), -3)
            parts.append(Factors((0, 4), left, right))
        else:
            parts.append(np.arange(rows * columns))
    return parts


def chunk_seeds() -> list[bytes]:
    """Transfers in order, in disorder, and with holes."""
    ordered = b"".join(bytes([4, (8 * i) & 255, i >> 5, 1]) for i in range(64))
    backwards = b"".join(bytes([4, (8 * i) & 255, i >> 5, 1]) for i in reversed(range(64)))
    holes = b"".join(bytes([4, 2 * i, 0, 0]) + bytes([i % 4, i, 0, 1]) for i in range(64))
    return [head + body for head in (b"\xff\x01\x01\x40", b"\x88\x13\x00\x01") for body in (
        ordered, backwards, holes, b"\x01\x00\x00\x00" * 4 + ordered)]  # fmt: skip


def topic_seeds() -> list[bytes]:
    """Right topics and wrong ones."""
    right = [TOPICS.manifest, TOPICS.status("a"), TOPICS.lane(1, 2), TOPICS.up("m-1", Kind.HELLO)]
    right += [TOPICS.down("m1", kind) for kind in Kind]
    wrong = [
        "",
        "a",
        "m1",
        "../x/up/hello",
        "../up/hello",
        "..%2f/status",
        "a'; DROP TABLE journal;--/up/hello",
        "+/up/#",
        "a\0b",
    ]
    short = [topic.removeprefix(TOPICS.prefix) for topic in right]
    return [text.encode() for text in [*right, *short, *wrong, "site/plantfed", "x" * 70]]


def settings_seeds() -> list[bytes]:
    """The examples, whole and section by section."""
    found = []
    files = ("coordinator/federation", "edge_agent/agent", "coordinator/coordinator")
    for place, name in enumerate(files):
        text = (ROOT / f"{name}.example.toml").read_text(encoding="utf-8")
        lines = [line.split("#")[0].rstrip() for line in text.splitlines()]
        found.append(bytes([place]) + "\n".join(line for line in lines if line).encode())
    return [*found, b"\0x = " + b"[" * 2000, b"\1x = " + b"9" * 5000, b"\2[a.b.c]\nx = 1979-13-01"]


def artefact_seeds() -> list[bytes]:
    """A sound archive, packed and not, manifests that differ, and members."""
    whole = sound()
    manifest = bytes([MANIFEST_TEXT])
    found = [bytes([FILE]) + whole.to_bytes(), manifest + manifest_text()]
    found.append(bytes([FILE]) + archive(whole.manifest.model_dump_json().encode(), {}))
    wide = [
        {"name": "body", "shape": [0, 2**70], "personal": False},
        {"name": "head", "shape": [9], "personal": True},
    ]
    for changes in ({"target": None}, {"statistics": []}, {"parameters": wide}, {"format": "x"}):
        found.append(manifest + manifest_text(**changes))
    found.append(manifest + b"[" * 3000)
    for place, name in enumerate(member_names()):
        found.append(bytes([2 + place]) + whole.members[name])
    predict = bytes([DENSE | 2 + member_names().index("predict.onnx")])
    return [*found, manifest + dense_manifest(), predict + dense_graph()]


def main() -> None:
    """Write all files."""
    made = {
        "wire": wire_seeds(),
        "codec": codec_seeds(),
        "chunks": chunk_seeds(),
        "topics": topic_seeds(),
        "settings": settings_seeds(),
        "coordinator": coordinator_seeds(),
        "artefact": artefact_seeds(),
    }
    for name, seeds in made.items():
        lines = [seed.hex() for seed in seeds if seed]
        (CORPUS / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="ascii")


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    main()
