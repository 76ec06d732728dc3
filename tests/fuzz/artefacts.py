"""Artefacts from bytes: a file as it is, or a sound one in which a member is what the bytes say.

Of a member the manifest has the right SHA-256 then, so that what is behind it is reached.
"""

import json
from functools import lru_cache
from io import BytesIO
from typing import Any
from zipfile import ZipFile, ZipInfo

from tests.shared.artefacts import artefact

from plantfed_shared.artefact import MANIFEST, Artefact, member_of
from plantfed_shared.onnx_bytes import (
    ATTRIBUTE_FLOAT,
    ATTRIBUTE_NAME,
    ATTRIBUTE_TYPE,
    ATTRIBUTE_TYPE_FLOAT,
    GRAPH_NODES,
    MODEL_GRAPH,
    MODEL_OPSETS,
    NODE_ATTRIBUTES,
    NODE_INPUTS,
    NODE_OPERATOR,
    NODE_OUTPUTS,
    encoded_field,
    encoded_number,
)
from plantfed_shared.step_names import OUTPUT

FILE, MANIFEST_TEXT = 0, 1
DENSE = 0x80
"""A member stands in a network that is a dense one."""


@lru_cache(maxsize=1)
def sound() -> Artefact:
    return artefact()[0]


@lru_cache(maxsize=1)
def member_names() -> list[str]:
    return sorted(sound().members)


def artefact_in(data: bytes) -> bytes:
    """The archive that one input stands for."""
    what = (data[0] & ~DENSE) % (2 + len(sound().members))
    if what == FILE:
        return data[1:]
    members = dict(sound().members)
    if what == MANIFEST_TEXT:
        return archive(_with_members(data[1:], members), members)
    members[member_names()[what - 2]] = data[1:]
    text = dense_manifest() if data[0] & DENSE else manifest_text()
    return archive(_with_members(text, members), members)


def manifest_text(**changes: Any) -> bytes:
    """A manifest without its members; they are added."""
    said = json.loads(sound().manifest.model_dump_json(exclude={"members"}))
    return json.dumps({**said, **changes}, separators=(",", ":")).encode()


def dense_manifest() -> bytes:
    """With as many numbers, and what :func:`dense_graph` names."""
    sizes = {"body": 3, "head": 3, "weight": 3, "bias": 2}
    parameters = [{"name": n, "shape": [s], "personal": n == "head"} for n, s in sizes.items()]
    return manifest_text(parameters=parameters, statistics=[])


def archive(manifest: bytes, members: dict[str, bytes]) -> bytes:
    written = BytesIO()
    with ZipFile(written, "w") as file:
        for name, content in {MANIFEST: manifest, **members}.items():
            file.writestr(ZipInfo(name), content)
    return written.getvalue()


def dense_graph() -> bytes:
    """Gemm, Relu, Gemm, as a dense network in numpy is made of it."""
    scale = encoded_field(ATTRIBUTE_NAME, b"alpha") + encoded_number(
        ATTRIBUTE_TYPE, ATTRIBUTE_TYPE_FLOAT
    )
    # a float is a field of wire type 5, that is of four bytes
    scale += bytes([ATTRIBUTE_FLOAT << 3 | 5]) + bytes.fromhex("0000803f")
    nodes = [
        _node(b"Gemm", [b"x", b"body", b"head"], b"h", scale),
        _node(b"Relu", [b"h"], b"r"),
        _node(b"Gemm", [b"r", b"weight", b"bias"], OUTPUT.encode()),
    ]
    graph = b"".join(encoded_field(GRAPH_NODES, node) for node in nodes)
    return encoded_field(MODEL_GRAPH, graph) + encoded_field(MODEL_OPSETS, encoded_number(2, 18))


def _node(operator: bytes, inputs: list[bytes], output: bytes, attribute: bytes = b"") -> bytes:
    said = b"".join(encoded_field(NODE_INPUTS, name) for name in inputs)
    said += encoded_field(NODE_OUTPUTS, output) + encoded_field(NODE_OPERATOR, operator)
    return said + (encoded_field(NODE_ATTRIBUTES, attribute) if attribute else b"")


def _with_members(text: bytes, members: dict[str, bytes]) -> bytes:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if not isinstance(said, dict):
        return text
    known = {name: member_of(content).model_dump() for name, content in members.items()}
    return json.dumps({"members": known, **said}).encode(errors="replace")
