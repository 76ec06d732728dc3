"""The federation file: a definition, or one whose [model] names an artefact that was compiled.

    [model]
    artefact = "model.pfm"    # written by plantfed-compile; relative to this file
    layout = "columns"        # only where rows and columns of a sample could be either way
    seed = 0                  # of the order of rows

What agents receive instead are digest, size and shapes of the artefact, which they fetch.
"""

from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from plantfed_shared.artefact import Artefact, read_whole_file
from plantfed_shared.codec import encode_integers
from plantfed_shared.definition import PERSONAL_OF_MODE, FederationDefinition, Settings
from plantfed_shared.errors import ConfigError
from plantfed_shared.lattice import Integers
from plantfed_shared.logit_bias import logit_bias
from plantfed_shared.model_manifest import Manifest, Trained
from plantfed_shared.model_section import (
    AnyModel,
    CompiledModel,
    ModelTensor,
)
from plantfed_shared.parameters import flatten
from plantfed_shared.section import MAX_ARTEFACT_BYTES
from plantfed_shared.settings_file import check_settings, read_document
from plantfed_shared.topics import Topics
from plantfed_shared.transfer import Blob

Layout = Literal["rows", "columns"]


class ArtefactSection(Settings):
    """[model] where it names an artefact.

    Attributes:
        artefact: path, relative to the federation file.
        layout: see :class:`plantfed_shared.model_section.CompiledModel`; None where it is clear.
        seed: of the order of rows.
    """

    artefact: Path
    layout: Layout | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


class Federation(NamedTuple):
    """What a federation file says.

    Attributes:
        definition: as agents receive it.
        artefact: of its model, to be served; None for a dense one.
        initial: the shared parameters it begins with, encoded; empty where they are drawn.
    """

    definition: FederationDefinition
    artefact: Blob | None = None
    initial: bytes = b""


def load_federation(path: Path) -> Federation:
    """Read a federation file, and the artefact it names.

    Raises:
        ConfigError: see :func:`plantfed_shared.settings_file.read_settings`; the federation's id
            can't be a topic level; or the artefact cannot be used in a federation.
        ModelError: the artefact cannot be read, or is not whole.
    """
    document = read_document(path)
    model = document.get("model")
    if isinstance(model, dict) and "artefact" in model:
        federation = _with_artefact(path, document, model)
    else:
        document = _with_mode(document, has_head="personal" in document)
        federation = Federation(check_settings(document, FederationDefinition, str(path)))
    try:
        Topics(federation.definition.federation)
    except ConfigError as error:
        raise ConfigError(error.what, where=f"{path}: federation", hint=error.hint) from None
    return federation


def load_definition(path: Path) -> FederationDefinition:
    """What agents receive of a federation file.

    Raises:
        ConfigError: see :func:`load_federation`.
        ModelError: see there.
    """
    return load_federation(path).definition


def artefact_file(path: Path) -> Path | None:
    """The file of the compiled model that a federation file names, if it names one.

    Raises:
        ConfigError: see :func:`load_federation`.
    """
    model = read_document(path).get("model")
    if not isinstance(model, dict) or "artefact" not in model:
        return None
    section = check_settings(model, ArtefactSection, f"{path}: model")
    return path.resolve().parent / section.artefact


def personal_in_mode(mode: str, model: AnyModel) -> list[str] | None:
    """What is personal in a mode; None where the mode leaves that to the federation file."""
    if mode in PERSONAL_OF_MODE:
        return list(PERSONAL_OF_MODE[mode])
    return _head(model.parameters) if isinstance(model, CompiledModel) else None


def with_definition(
    federation: Federation, definition: FederationDefinition, where: str
) -> Federation:
    """The same model in a federation with other settings.

    Args:
        federation: with the model.
        definition: with the same model.
        where: its file, for errors.

    Raises:
        ConfigError: it has initial weights that are too large for the settings.
    """
    if federation.artefact is None:
        return Federation(definition)
    artefact = Artefact.from_bytes(federation.artefact.encoded, where)
    return Federation(definition, federation.artefact, _initial(definition, artefact, where))


def _with_mode(document: dict[str, Any], *, has_head: bool) -> dict[str, Any]:
    """Without a mode it is "auto", which needs no choosing, or "fedapm" where there is a head."""
    algorithm = document.get("algorithm", {})
    if not isinstance(algorithm, dict) or "mode" in algorithm:
        return document
    return {**document, "algorithm": {**algorithm, "mode": "fedapm" if has_head else "auto"}}


def _with_artefact(path: Path, document: dict[str, Any], model: dict[str, Any]) -> Federation:
    section = check_settings(model, ArtefactSection, f"{path}: model")
    artefact_path = path.resolve().parent / section.artefact
    blob = Blob.of(read_whole_file(artefact_path, MAX_ARTEFACT_BYTES, "an artefact"))
    artefact = Artefact.from_bytes(blob.encoded, str(artefact_path))
    manifest = artefact.manifest
    _refuse_what_agents_do_not_train(manifest, str(artefact_path))
    document = {
        **document,
        "model": {
            "kind": "compiled",
            "digest": blob.content.digest.hex(),
            "size": blob.content.size,
            "input_shape": manifest.input.shape,
            "output_shape": manifest.output.shape,
            "layout": section.layout or _layout(document, manifest, str(path)),
            "parameters": [_tensor(t) for t in manifest.parameters],
            "statistics": [_tensor(t) for t in manifest.statistics],
            "seed": section.seed,
        },
        "loss": _loss(document, manifest, str(path)),
    }
    has_head = "personal" in document or any(p.personal for p in manifest.parameters)
    document = _with_mode(document, has_head=has_head)
    document.setdefault("personal", _personal(document, manifest.parameters))
    definition = check_settings(document, FederationDefinition, str(path))
    _refuse_what_holds_no_prior(definition, artefact, str(artefact_path))
    return Federation(definition, blob, _initial(definition, artefact, str(artefact_path)))


def _refuse_what_holds_no_prior(
    definition: FederationDefinition, artefact: Artefact, where: str
) -> None:
    n_classes = len(definition.classes)
    if not definition.algorithm.has_prior or not n_classes:
        return
    shapes = {p.name: p.shape for p in artefact.manifest.parameters}
    if logit_bias(artefact.graph("predict"), shapes, n_classes) is None:
        raise ConfigError(
            f"ends without a bias, and algorithm.mode = '{definition.algorithm.mode}' adds a "
            "machine's class prior to the bias of the outputs",
            where=where,
            hint="Give the last layer a bias of its own and compile it anew, or choose another "
            "mode",
        )


def _refuse_what_agents_do_not_train(manifest: Manifest, where: str) -> None:
    if manifest.momentum:
        raise ConfigError(
            "has steps with momentum, which no algorithm of a federation uses",
            where=where,
            hint="Compile it without --momentum",
        )
    shared = [s.name for s in manifest.statistics if not s.personal]
    if shared:
        raise ConfigError(
            f"shares the statistics {', '.join(shared)}, which agents keep to themselves",
            where=where,
            hint="Compile it without --share-statistics",
        )
    if manifest.loss.kind == "cross-entropy" and manifest.target and manifest.target.shape:
        raise ConfigError(
            "gives several answers for a sample, but a row has one class", where=where
        )


def _tensor(tensor: Any) -> dict[str, Any]:
    return {"name": tensor.name, "shape": tensor.shape, "personal": tensor.personal}


def _loss(document: dict[str, Any], manifest: Manifest, where: str) -> Any:
    """[loss] of the definition; what is wrong with it in itself is refused there."""
    given = document.get("loss", {})
    if not isinstance(given, dict):
        return given
    compiled: dict[str, Any] = {"kind": manifest.loss.kind}
    if manifest.loss.kind == "huber":
        compiled |= {"delta": manifest.loss.delta}
    for name, said in compiled.items():
        if given.get(name, said) != said:
            raise ConfigError(
                f"loss.{name} = {given[name]!r}: the artefact was compiled for {said!r}",
                where=where,
                hint="Leave [loss] out, or compile the model for the other one",
            )
    return {**given, **compiled}


def _personal(document: dict[str, Any], parameters: Iterable[Trained | ModelTensor]) -> list[str]:
    algorithm = document.get("algorithm", {})
    mode = algorithm.get("mode", "fedapm") if isinstance(algorithm, dict) else ""
    return list(PERSONAL_OF_MODE[mode]) if mode in PERSONAL_OF_MODE else _head(parameters)


def _head(parameters: Iterable[Trained | ModelTensor]) -> list[str]:
    # the names themselves: a bracket in one would be a pattern
    return [p.name.replace("[", "[[]") for p in parameters if p.personal]


def _layout(document: dict[str, Any], manifest: Manifest, where: str) -> Layout:
    """How a window becomes the input of a network; what does not fit at all is refused later."""
    inputs = document.get("inputs")
    n_inputs = len(inputs) if isinstance(inputs, list) else 0
    shape = [size for size in manifest.input.shape if size != 1]
    if len(shape) < 2 or n_inputs == 1:
        return "rows"
    as_rows = shape[-1] == n_inputs
    as_columns = shape[0] == n_inputs and prod(shape[1:]) > 1
    if as_rows == as_columns:
        shown = " x ".join(map(str, manifest.input.shape))
        raise ConfigError(
            f"model.layout: the model takes {shown} and there are {n_inputs} inputs: it is not "
            "clear which axis they are",
            where=where,
            hint='Say layout = "rows" (rows, inputs) or "columns" (inputs, rows)',
        )
    return "columns" if as_columns else "rows"


def _initial(definition: FederationDefinition, artefact: Artefact, where: str) -> bytes:
    values, lattice = artefact.initial(), definition.lattice()
    shared = flatten([values[p.name] for p in definition.parameter_specification().shared])
    try:
        model: Integers = lattice.released(lattice.from_floats(shared))
    except ValueError as error:
        raise ConfigError(
            f"has initial weights that cannot be used: {error}", where=where
        ) from None
    return encode_integers(model, lattice, definition.compression.coding)
