"""Reading a model file, and refusing what cannot become a network in one clear line."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto, checker, external_data_helper, inliner

from plantfed_shared.artefact import read_whole_file
from plantfed_shared.definition import MAX_PARAMETERS
from plantfed_shared.errors import ModelError
from plantfed_shared.step_names import RESERVED

OLDEST_OPSET, NEWEST_OPSET = 13, 22

MAX_FILE_BYTES = 2 * 4 * MAX_PARAMETERS
"""Of the file and its external data: twice what the largest model has."""

STANDARD_DOMAINS = ("", "ai.onnx")


def read_model(path: Path) -> tuple[ModelProto, str]:
    """An ONNX file with all its weights, checked; and the SHA-256 of the file.

    Raises:
        ModelError: it cannot be read, is truncated or something else, is too large, has external
            data outside its folder, or an opset from before 13 or after 22.
    """
    where = str(path)
    with suppress(OSError, ValueError):  # said below
        _refuse_large(path.stat().st_size, where)
    encoded = read_whole_file(path, MAX_FILE_BYTES, "a model")
    try:
        model = onnx.load_model_from_string(encoded)
    except DecodeError:
        raise not_whole(where) from None
    if not model.graph.node or not model.opset_import:
        raise not_whole(where)
    _refuse_opset(model, where)
    _load_external_data(model, path)
    try:
        model = inliner.inline_local_functions(model)
        _check(model, where)
    except checker.ValidationError as error:
        said = str(error).strip().splitlines()[0]
        raise ModelError(f"is not a valid ONNX model: {said}", where=where) from None
    _refuse_our_names(model, where)
    return model, sha256(encoded).hexdigest()


def opset_of(model: ModelProto) -> int:
    """Version of ``ai.onnx`` it imports; 0 for none."""
    return max((o.version for o in model.opset_import if o.domain in STANDARD_DOMAINS), default=0)


def not_whole(where: str) -> ModelError:
    """What is wrong with a file that no ONNX model can be read from."""
    return ModelError(
        "is not a whole ONNX file: it is truncated, damaged or another kind of file",
        where=where,
        hint="Export the model again, or copy the file again",
    )


def _refuse_large(n_bytes: int, where: str) -> None:
    if n_bytes > MAX_FILE_BYTES:
        raise ModelError(
            f"has {n_bytes / 1e6:,.0f} MB of weights; at most {MAX_FILE_BYTES / 1e6:,.0f} MB "
            f"({MAX_PARAMETERS:,} parameters) can be trained",
            where=where,
            hint="Use a smaller network",
        )


def _refuse_opset(model: ModelProto, where: str) -> None:
    opset = opset_of(model)
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise ModelError(
            f"has opset {opset}; {OLDEST_OPSET} to {NEWEST_OPSET} are known",
            where=where,
            hint="Export it again with opset_version=20",
        )


def _load_external_data(model: ModelProto, path: Path) -> None:
    """Into the model, from files in its own folder only."""
    external = [t for t in tensors(model) if external_data_helper.uses_external_data(t)]
    folder = path.resolve().parent
    try:
        _refuse_foreign_data(external, folder, str(path))
        for tensor in external:
            external_data_helper.load_external_data_for_tensor(tensor, str(folder))
            tensor.data_location = TensorProto.DEFAULT
            del tensor.external_data[:]
    except (OSError, ValueError, checker.ValidationError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        what = f"has external data that cannot be read: {said}"
        raise ModelError(what, where=str(path)) from None


def _refuse_foreign_data(external: Iterable[TensorProto], folder: Path, where: str) -> None:
    total = 0
    for tensor in external:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        file = (folder / location).resolve()
        if not location or Path(location).is_absolute() or not file.is_relative_to(folder):
            raise ModelError(
                f"has external data of {tensor.name!r} outside its folder: {location!r}",
                where=where,
                hint="Put the data file beside the model and export again",
            )
        if not file.is_file():
            raise ModelError(
                f"has its weights in {location!r}, which is not there",
                where=where,
                hint="Copy that file to the same folder too",
            )
        total += int(entries.get("length", 0)) or file.stat().st_size
        _refuse_large(total, where)


def tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Every tensor of the main graph and of its nodes' attributes."""
    yield from model.graph.initializer
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _check(model: ModelProto, where: str) -> None:
    checker.check_model(_without_foreign_nodes(model))
    if not model.graph.output:
        raise ModelError("has no output", where=where, hint="Export a module that returns a tensor")


def _refuse_our_names(model: ModelProto, where: str) -> None:
    names = [t.name for t in model.graph.initializer]
    names += [name for node in model.graph.node for name in node.output]
    clashing = [name for name in names if name.startswith(RESERVED)]
    if clashing:
        raise ModelError(
            f"has a value named {clashing[0]!r}: names that begin with {RESERVED!r} are ours",
            where=where,
            hint="Rename it, or give the model as it was exported, not a compiled graph",
        )


def _without_foreign_nodes(model: ModelProto) -> ModelProto:
    """Nodes of other domains are named later, all at once, with what to do."""
    if all(node.domain in STANDARD_DOMAINS for node in model.graph.node):
        return model
    kept = ModelProto()
    kept.CopyFrom(model)
    for node in kept.graph.node:
        if node.domain not in STANDARD_DOMAINS:
            node.op_type, node.domain = "Identity", ""
            del node.attribute[:], node.input[1:], node.output[1:]
    return kept
