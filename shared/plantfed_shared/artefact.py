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
found right; the artefact itself is known by :func:`plantfed_shared.definition.content_digest`.  A
graph that names another file or an operator of a library is refused: nothing in an artefact is
ever executed.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zipfile import ZIP_DEFLATED, BadZipFile, ZipFile, ZipInfo
from zlib import error as ZlibError

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from plantfed_shared.definition import MAX_PARAMETERS, Settings, content_digest
from plantfed_shared.errors import ModelError
from plantfed_shared.onnx_bytes import operators_in
from plantfed_shared.parameters import Floats, Parameter, ParameterSpecification

FORMAT: Literal["plantfed-model/1"] = "plantfed-model/1"
MANIFEST = "manifest.json"
INITIAL = "initial.bin"
SELF_TEST = "self_test.bin"

MAX_MANIFEST_BYTES = 2**24
MAX_MEMBER_BYTES = 4 * 2 * MAX_PARAMETERS
"""Of any other member: the parameters, and as much again for what goes with them."""

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

LossKind = Literal["cross-entropy", "bce", "mse", "huber", "reconstruction"]
GraphName = Literal["head_step", "body_step", "whole_step", "evaluate", "predict"]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Name = Annotated[str, Field(min_length=1, max_length=400)]
Size = Annotated[int, Field(ge=0)]


class Array(Settings):
    """An array by name.

    Attributes:
        name: unique among its kind.
        dtype: of its elements.
        shape: its dimensions; without the batch where it is an input or an output of a graph.
    """

    name: Name
    dtype: Literal["float32", "int64"] = "float32"
    shape: tuple[Size, ...]

    @property
    def n_bytes(self) -> int:
        """In a ``.bin`` member."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize


class Trained(Array):
    """A parameter, or a statistic.

    Attributes:
        personal: it never leaves the machine.
    """

    personal: bool


class Member(Settings):
    """A file in the archive.

    Attributes:
        sha256: of its bytes.
        n_bytes: its length.
    """

    sha256: Sha256
    n_bytes: Annotated[int, Field(ge=0, le=MAX_MEMBER_BYTES)]


class Graph(Settings):
    """What a graph takes and gives, by name.

    Attributes:
        inputs: every one has to be fed.
        outputs: all of them.
        trains: names of the parameters it takes a step of; empty for no step.
    """

    inputs: tuple[Name, ...]
    outputs: tuple[Name, ...]
    trains: tuple[Name, ...] = ()


class LossOfModel(Settings):
    """What the graphs minimise, as a mean over rows.

    Attributes:
        kind: "cross-entropy" (of softmax), "bce" (of sigmoid; mean over rows and outputs), "mse"
            (half squared error, mean over rows and outputs), "huber" (the same within delta) or
            "reconstruction" (mse against the input itself, without a target).
        delta: where Huber turns from square to linear.
    """

    kind: LossKind
    delta: float = 1.0


class MadeWith(Settings):
    """Versions that made an artefact, for the reader."""

    plantfed: str
    onnx: str
    onnxruntime: str
    source_sha256: Sha256


class SelfTest(Settings):
    """What a machine has to compute itself before it may train.

    The batch is taken through ``whole_step`` with lr = 1, k = 0 and without duals, so that p - p'
    is the gradient.  Of one with more than :data:`SAMPLE` elements every n-th is there.

    Attributes:
        loss: mean loss of the batch.
        tolerance: largest difference, in parts of the largest gradient and of the loss.
        arrays: in ``self_test.bin``: the input, the target where there is one, then for each
            parameter ``gradient.<name>``.
    """

    loss: float
    tolerance: float
    arrays: tuple[Array, ...]


SAMPLE = 4096
"""Elements of one gradient that a self-test keeps."""


def sampled(gradient: Floats) -> Floats:
    """float32 (at most SAMPLE,): evenly spaced elements of a gradient, row by row."""
    flat: Floats = gradient.ravel()
    return flat[:: -(-flat.size // SAMPLE) or 1]


class Manifest(Settings):
    """What one must know to run the graphs.

    Names of graph inputs and outputs follow from it: see :mod:`plantfed_shared.step_names`.

    Attributes:
        format: :data:`FORMAT`.
        opset: of ``ai.onnx``, for all graphs.
        loss: what is minimised.
        momentum: whether the steps have velocities.
        input: of the network.
        target: the right answers; None for reconstruction.
        output: of the network: what the loss is taken of, so logits and not probabilities.
        parameters: in order; what is trained.
        statistics: in order; what the steps update without a gradient (batch norm).
        graphs: by name.
        members: by file name, all but the manifest.
        self_test: see :class:`SelfTest`.
        made_with: see :class:`MadeWith`.
    """

    format: Literal["plantfed-model/1"] = FORMAT
    opset: Annotated[int, Field(ge=1)]
    loss: LossOfModel
    momentum: bool = False
    input: Array
    target: Array | None
    output: Array
    parameters: tuple[Trained, ...] = Field(min_length=1)
    statistics: tuple[Trained, ...] = ()
    graphs: dict[GraphName, Graph]
    members: dict[str, Member]
    self_test: SelfTest
    made_with: MadeWith

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        for graph in self.graphs:
            if f"{graph}.onnx" not in self.members:
                raise ValueError(f"{graph}.onnx is not among the members")
        needed = {"body_step", "whole_step", "evaluate", "predict"}
        if any(p.personal for p in self.parameters):
            needed.add("head_step")
        if missing := needed - set(self.graphs):
            raise ValueError(f"there is no graph {', '.join(sorted(missing))}")
        names = [t.name for t in (*self.parameters, *self.statistics)]
        if len(set(names)) != len(names):
            raise ValueError("two parameters or statistics have the same name")
        if sum(prod(p.shape) for p in self.parameters) > MAX_PARAMETERS:
            raise ValueError(f"more than {MAX_PARAMETERS} parameters")
        return self

    def parameter_specification(self) -> ParameterSpecification:
        """The parameters as the federation knows them; statistics are no part of it."""
        return ParameterSpecification(
            tuple(Parameter(p.name, p.shape, p.personal) for p in self.parameters)
        )


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
    try:
        encoded = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}", where=str(path)) from None
    return Artefact.from_bytes(encoded, str(path))


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


def _refuse_foreign_graphs(manifest: Manifest, members: Mapping[str, bytes], where: str) -> None:
    """A graph can name files and libraries' operators; ours never do."""
    for name in manifest.graphs:
        try:
            operators_in(members[f"{name}.onnx"])
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
