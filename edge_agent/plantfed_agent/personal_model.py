"""The model one machine uses: the shared parameters together with its own head."""

import json
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile, ZipInfo

import numpy as np

from plantfed_agent.column_mapping import ColumnMapping
from plantfed_agent.kernel_source import Kernels
from plantfed_agent.kernels.losses import sigmoid, softmax
from plantfed_agent.samples import samples_of
from plantfed_agent.scores import in_target_units, score
from plantfed_agent.table import Table
from plantfed_shared.definition import FederationDefinition
from plantfed_shared.digest import content_digest
from plantfed_shared.errors import DataError, StorageError
from plantfed_shared.parameters import Floats, Parameters, flatten

MANIFEST = "manifest.json"
FORMAT = "plantfed-personal-model/1"


@dataclass(frozen=True, slots=True)
class PersonalModel:
    """A whole network.

    Attributes:
        definition: of the federation.
        parameters: of the whole model, in the order of the specification; then statistics.
        name: of the shared model in it, for the reader.
        kernels: give its kernel; they have the artefact where its model is compiled.
    """

    definition: FederationDefinition
    parameters: Parameters
    name: str = ""
    kernels: Kernels = field(default_factory=Kernels, compare=False)

    def predict(self, x: Floats) -> Floats:
        """What the network says about samples.

        Args:
            x: float32 (samples, window rows * inputs), scaled as in
                :func:`plantfed_agent.samples.features`.

        Returns:
            float32 (samples, classes): probabilities; (samples, targets): values in target units,
            or with bce probabilities; of an autoencoder (samples, 1): anomaly scores, half the
            mean squared error in scaled units.
        """
        kernel = self.kernels.of(self.definition)
        if self.definition.loss.kind == "reconstruction":
            answers = np.zeros((len(x), 0), np.float32)
            return kernel.row_losses(self.parameters, x, answers)[:, None]
        outputs = kernel.outputs(self.parameters, x)
        if self.definition.classes:
            return softmax(outputs)
        if self.definition.loss.kind == "bce":
            return sigmoid(outputs)
        return in_target_units(outputs, self.definition.targets)

    def score_table(self, table: Table, mapping: ColumnMapping) -> float:
        """How good it is on labelled rows: see :func:`plantfed_agent.scores.score`.

        Raises:
            DataError: a row cannot be used, or there are too few for one sample.
        """
        samples, _ = samples_of(table, self.definition, mapping)
        if not len(samples):
            raise DataError("fewer rows than one sample needs", where=table.source)
        return score(self.kernels.of(self.definition), self.definition, self.parameters, samples)

    def manifest(self) -> dict[str, Any]:
        """What one must know to use the parameters elsewhere, as JSON can hold it."""
        definition = self.definition
        specification = definition.parameter_specification()
        return {
            "format": FORMAT,
            "federation": definition.federation,
            "model": self.name,
            "network": definition.model.model_dump(mode="json"),
            "window": definition.window.model_dump(mode="json"),
            "inputs": [i.model_dump(mode="json") for i in definition.inputs],
            "classes": list(definition.classes),
            "targets": [t.model_dump(mode="json") for t in definition.targets],
            "parameters": [
                {"name": p.name, "shape": list(p.shape), "personal": p.personal}
                for p in specification.parameters
            ],
            "digest": self.digest(),
            "definition": json.loads(definition.to_bytes()),
        }

    def digest(self) -> str:
        """32 hexadecimal digits over structure and parameters."""
        numbers = flatten(self.parameters).astype("<f4").tobytes()
        return content_digest(self.definition.structure() + numbers).hex()

    def export_npz(self, path: Path) -> None:
        """Write an ``.npz`` file: one float32 array per parameter, and ``manifest.json``.

        Equal models give equal bytes.

        Raises:
            StorageError: the file cannot be written.
        """
        specification = self.definition.parameter_specification()
        tensors = (*specification.parameters, *specification.statistics)
        written = path.with_name(path.name + ".part")
        try:
            with ZipFile(written, "w") as archive:
                archive.writestr(ZipInfo(MANIFEST), json.dumps(self.manifest(), indent=2))
                for parameter, values in zip(tensors, self.parameters, strict=True):
                    with archive.open(ZipInfo(f"{parameter.name}.npy"), "w") as member:
                        np.save(member, values)
            written.replace(path)
        except OSError as error:
            raise StorageError(f"cannot be written: {error.strerror}", where=str(path)) from None
        finally:
            with suppress(OSError):
                written.unlink()


def load_npz(path: Path, kernels: Kernels | None = None) -> PersonalModel:
    """Read what :meth:`PersonalModel.export_npz` wrote.

    Args:
        path: of the file.
        kernels: with the artefact of a compiled model, where it is to predict.

    Raises:
        StorageError: the file cannot be read, is not one of those, or was changed.
    """
    try:
        with ZipFile(path) as archive:
            manifest = json.loads(archive.read(MANIFEST))
        with np.load(path, allow_pickle=False) as file:
            definition = FederationDefinition.model_validate(manifest["definition"])
            specification = definition.parameter_specification()
            tensors = (*specification.parameters, *specification.statistics)
            values = [file[t.name] for t in tensors]
            model = PersonalModel(definition, values, manifest["model"], kernels or Kernels())
    except OSError as error:
        raise StorageError(f"cannot be read: {error.strerror}", where=str(path)) from None
    except (BadZipFile, KeyError, TypeError, ValueError) as error:
        raise StorageError(f"is not an exported model: {error}", where=str(path)) from None
    if model.digest() != manifest.get("digest"):
        raise StorageError("its digest is wrong: the file was changed", where=str(path))
    return model
