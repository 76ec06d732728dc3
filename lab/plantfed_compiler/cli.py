"""``plantfed-compile``: from an ONNX file to what agents train."""

from contextlib import suppress
from math import inf
from pathlib import Path

import click

from plantfed_compiler.compiling import Compiled, Options, compile_model
from plantfed_shared.artefact import digest_of
from plantfed_shared.errors import StorageError
from plantfed_shared.model_manifest import (
    LossOfModel,
)
from plantfed_shared.version import software_version
from plantfed_shared.wording import counted


def _positive(_context: click.Context, _option: click.Parameter, given: float) -> float:
    # click's own range takes nan
    if not 0 < given < inf:
        raise click.BadParameter(f"{given} is not a number above 0")
    return given


def _sizes(
    _context: click.Context, _parameter: click.Parameter, given: list[str]
) -> dict[str, int]:
    sizes = {}
    for text in given:
        name, _, size = text.rpartition("=")
        if not name or not size.isdigit() or int(size) < 1:
            raise click.BadParameter(f"{text!r} is not NAME=SIZE, as length=128")
        sizes[name] = int(size)
    return sizes


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--loss",
    type=click.Choice(["cross-entropy", "bce", "mse", "huber", "reconstruction"]),
    required=True,
    help="What machines minimise.",
)
@click.option(
    "--personal",
    multiple=True,
    metavar="PATTERN",
    help="Parameters that never leave a machine, as 'head.*'; may be given again.",
)
@click.option("--frozen", multiple=True, metavar="PATTERN", help="Parameters that are not trained.")
@click.option(
    "--batch-norm",
    type=click.Choice(["batch", "frozen"]),
    default="batch",
    show_default=True,
    help="Train with the statistics of each batch, or with those of the file.",
)
@click.option(
    "--share-statistics",
    multiple=True,
    metavar="PATTERN",
    help="Batch-norm statistics that are averaged over machines; without, each keeps its own.",
)
@click.option("--momentum", is_flag=True, help="Give the steps velocities.")
@click.option(
    "--huber-delta",
    type=float,
    default=1.0,
    show_default=True,
    callback=_positive,
    help="For huber.",
)
@click.option(
    "--size",
    "sizes",
    multiple=True,
    metavar="NAME=SIZE",
    callback=_sizes,
    help="Of a dynamic dimension other than the batch.",
)
@click.option("--output-name", metavar="NAME", help="Output the loss is taken of; else the first.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write; else the model's name with .pfm.",
)
@click.version_option(software_version())
def command(
    model: Path,
    loss: str,
    personal: tuple[str, ...],
    frozen: tuple[str, ...],
    batch_norm: str,
    share_statistics: tuple[str, ...],
    momentum: bool,
    huber_delta: float,
    sizes: dict[str, int],
    output_name: str | None,
    output: Path | None,
) -> None:
    """Compile the ONNX file MODEL into an artefact that machines train with onnxruntime alone.

    Exit codes: 0 done, 2 wrong command line, 65 the model cannot be used, 74 the artefact cannot
    be written, 78 onnx or onnxruntime is missing, 130 Ctrl-C.
    """
    options = Options(
        loss=LossOfModel.model_validate({"kind": loss, "delta": huber_delta}),
        personal=personal,
        shared_statistics=share_statistics,
        frozen=frozen,
        batch_norm="frozen" if batch_norm == "frozen" else "batch",
        momentum=momentum,
        sizes=sizes,
        output=output_name,
    )
    compiled = compile_model(model, options)
    path = output or model.with_suffix(".pfm")
    encoded = compiled.artefact.to_bytes()
    _write(path, encoded)
    _tell(compiled, path, encoded)


def _write(path: Path, encoded: bytes) -> None:
    """All of it or nothing."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(encoded)
        part.replace(path)
    except OSError as error:
        raise StorageError(f"cannot be written: {error.strerror}", where=str(path)) from None
    finally:
        with suppress(OSError):
            part.unlink()


def _tell(compiled: Compiled, path: Path, encoded: bytes) -> None:
    manifest = compiled.artefact.manifest
    for kind, tensors in (("parameter", manifest.parameters), ("statistic", manifest.statistics)):
        for tensor in tensors:
            role = "personal" if tensor.personal else "shared"
            size = "x".join(map(str, tensor.shape))
            click.echo(f"{kind}: {tensor.name}  {size}  {role}")
    for note in compiled.notes:
        click.echo(f"note: {note}")
    click.echo(f"slopes: agree with finite differences to {compiled.difference:.1e}")
    click.echo(f"written: {path}, {counted(len(encoded), 'byte')}, {digest_of(encoded).hex()}")
