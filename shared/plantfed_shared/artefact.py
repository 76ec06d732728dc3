"""A compiled model: what ``plantfed-compile`` writes, agents train and the coordinator serves.

One zip file with nothing but numbers and graphs of standard ONNX operators:

    manifest.json     names, shapes, order, roles, and the SHA-256 of every other member
    head_step.onnx    one SGD step of the personal parameters; absent where nothing is personal
    body_step.onnx    one SGD step of the shared parameters
    whole_step.onnx   one SGD step of all of them at once
    evaluate.onnx     outputs, loss of each row and mean loss
    predict.onnx      outputs
    initial.bin       parameters, then statistics: little-endian, row by row, nothing between them
    self_test.bin     a batch, and the loss and gradients it gives

Reading one needs neither onnx nor onnxruntime.  A member is looked at only after its SHA-256 was
found right; the artefact itself is known by :func:`plantfed_shared.digest.content_digest`.  A
graph that names another file or an operator of a library is refused: nothing in an artefact is
ever executed.
"""

import json
import stat
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, BadZipFile, ZipFile, ZipInfo
from zlib import error as ZlibError

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from plantfed_shared.digest import content_digest
from plantfed_shared.errors import ModelError
from plantfed_shared.model_manifest import FORMAT, Array, GraphName, Manifest, Member
from plantfed_shared.onnx_bytes import nodes_in, operators_in
from plantfed_shared.parameters import Floats
from plantfed_shared.section import MAX_ARTEFACT_BYTES

MANIFEST = "manifest.json"
INITIAL = "initial.bin"
SELF_TEST = "self_test.bin"

MAX_MANIFEST_BYTES = 2**24
MAX_UNPACKED_BYTES = 2 * MAX_ARTEFACT_BYTES
"""Of all members together: weights hardly shrink when packed, but zeros do a thousandfold."""
DAMAGED = (
    BadZipFile,
    EOFError,
    KeyError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
    ZlibError,
    struct.error,
)
"""What zipfile raises for a file that is damaged, or encrypted, or packed in another way."""


@dataclass(frozen=True)
class Artefact:
    """A compiled model, verified.

    Attributes:
        manifest: what is in it.
        members: bytes by file name, all but the manifest; as the manifest says.
    """

    manifest: Manifest
    members: Mapping[str, bytes]

    def graph(self, name: GraphName) -> bytes:
        """An ONNX file, as :class:`plantfed_shared.onnx_session.OnnxSession` takes it."""
        return self.members[f"{name}.onnx"]

    def initial(self) -> dict[str, Floats]:
        """Parameters and statistics by name, in order; new arrays."""
        manifest = self.manifest
        return unpacked(self.members[INITIAL], (*manifest.parameters, *manifest.statistics))

    def self_test_arrays(self) -> dict[str, NDArray[Any]]:
        """See :class:`SelfTest`; new arrays."""
        return unpacked(self.members[SELF_TEST], self.manifest.self_test.arrays)

    def to_bytes(self) -> bytes:
        """The archive; equal artefacts give equal bytes with one version of zlib."""
        written = BytesIO()
        texts = {MANIFEST: self.manifest.model_dump_json(indent=1).encode(), **self.members}
        with ZipFile(written, "w") as archive:
            for name, content in texts.items():
                # ZipInfo has a fixed time of its own
                archive.writestr(ZipInfo(name), content, ZIP_DEFLATED)
        return written.getvalue()

    @classmethod
    def from_bytes(cls, encoded: bytes, where: str = "") -> "Artefact":
        """Read and verify an archive.

        Args:
            encoded: its bytes.
            where: what to call it in an error.

        Raises:
            ModelError: it is truncated, changed, or something else.
        """
        try:
            with ZipFile(BytesIO(encoded)) as archive:
                manifest = _manifest(archive, where)
                _refuse_foreign_members(manifest, where)
                members = {
                    name: _verified(archive, name, member, where)
                    for name, member in manifest.members.items()
                }
        except DAMAGED:
            raise ModelError(
                "is not a whole artefact: it is truncated, damaged or another kind of file",
                where=where,
                hint="Compile the model again with plantfed-compile, or copy the file again",
            ) from None
        _refuse_other_lengths(manifest, members, where)
        _refuse_foreign_graphs(manifest, members, where)
        return cls(manifest, members)


def read_artefact(path: Path) -> Artefact:
    """Read and verify a file.

    Raises:
        ModelError: it cannot be read, is truncated, changed, or something else.
    """
    return Artefact.from_bytes(read_whole_file(path, MAX_ARTEFACT_BYTES, "an artefact"), str(path))


def read_whole_file(path: Path, most: int, what: str) -> bytes:
    """The bytes of an ordinary file: reading a pipe may never end, and a device never does.

    Args:
        path: of the file.
        most: bytes.
        what: has no more than that.

    Raises:
        ModelError: it is missing, longer, no ordinary file, or cannot be read.
    """
    hint = "Give the path of a file"
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device"
            raise ModelError(f"is {kind}, not a file", where=str(path), hint=hint)
        if status.st_size > most:
            raise ModelError(
                f"has {status.st_size} bytes; {what} has at most {most}", where=str(path)
            )
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}", where=str(path), hint=hint) from None
    except ValueError:
        raise ModelError("is no path", where=repr(str(path)), hint=hint) from None


def digest_of(encoded: bytes) -> bytes:
    """16 bytes: what a federation and the bus know an artefact by."""
    return content_digest(encoded)


def member_of(content: bytes) -> Member:
    """What the manifest says about a member."""
    return Member(sha256=sha256(content).hexdigest(), n_bytes=len(content))


def packed(arrays: Sequence[NDArray[Any]]) -> bytes:
    """A ``.bin`` member: arrays one after the other, little-endian, row by row."""
    return b"".join(a.astype(a.dtype.newbyteorder("<")).tobytes() for a in arrays)


def unpacked(content: bytes, arrays: Sequence[Array]) -> dict[str, NDArray[Any]]:
    """The inverse of :func:`packed`: new arrays by name."""
    found: dict[str, NDArray[Any]] = {}
    start = 0
    for array in arrays:
        little = np.dtype(array.dtype).newbyteorder("<")
        flat = np.frombuffer(content, little, prod(array.shape), start)
        found[array.name] = flat.reshape(array.shape).astype(array.dtype)
        start += array.n_bytes
    return found


def _manifest(archive: ZipFile, where: str) -> Manifest:
    text = _bounded(archive, MANIFEST, MAX_MANIFEST_BYTES, where)
    try:
        raw = json.loads(text)
        said = raw.get("format") if isinstance(raw, dict) else None
        if said != FORMAT:
            raise ModelError(
                f"is of format {said!r}, not {FORMAT!r}",
                where=where,
                hint="Compile the model again with the plantfed-compile of this version",
            )
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        said = f"{place}: {first['msg']}" if place else first["msg"]
        raise ModelError(f"has a manifest that is wrong: {said}", where=where) from None
    except ValueError:
        raise ModelError("has a manifest that is no JSON", where=where) from None


def _bounded(archive: ZipFile, name: str, most: int, where: str) -> bytes:
    """A member, never unpacked to more than ``most`` bytes, whatever the archive says."""
    with archive.open(name) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ModelError(f"has a member {name} of more than {most} bytes", where=where)
    return content


def _verified(archive: ZipFile, name: str, member: Member, where: str) -> bytes:
    content = _bounded(archive, name, member.n_bytes, where)
    if len(content) != member.n_bytes or sha256(content).hexdigest() != member.sha256:
        raise ModelError(
            f"has another {name} than its manifest says: the file was changed or damaged",
            where=where,
            hint="Copy it again, or compile the model again",
        )
    return content


def _refuse_foreign_members(manifest: Manifest, where: str) -> None:
    known = {f"{name}.onnx" for name in manifest.graphs} | {INITIAL, SELF_TEST}
    for name in sorted(manifest.members.keys() - known):
        raise ModelError(f"has a member {name[:80]!r}, which no artefact has", where=where)
    if sum(member.n_bytes for member in manifest.members.values()) > MAX_UNPACKED_BYTES:
        raise ModelError(
            f"has members of more than {MAX_UNPACKED_BYTES} bytes together", where=where
        )


def _refuse_foreign_graphs(manifest: Manifest, members: Mapping[str, bytes], where: str) -> None:
    """A graph can name files and libraries' operators; ours never do."""
    for name in manifest.graphs:
        try:
            operators_in(members[f"{name}.onnx"])
            nodes_in(members[f"{name}.onnx"])
        except (ValueError, RecursionError) as error:
            raise ModelError(f"has a {name}.onnx that is not ours: {error}", where=where) from None


def _refuse_other_lengths(manifest: Manifest, members: Mapping[str, bytes], where: str) -> None:
    expected: dict[str, Sequence[Array]] = {
        INITIAL: (*manifest.parameters, *manifest.statistics),
        SELF_TEST: manifest.self_test.arrays,
    }
    for name, arrays in expected.items():
        if len(members.get(name, b"")) != sum(a.n_bytes for a in arrays):
            raise ModelError(f"has a {name} of another length than its manifest says", where=where)
