"""The shared parameters of a federation as a file."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from plantfed_coordinator.state import FederationState
from plantfed_shared.errors import StorageError
from plantfed_shared.lattice import checksum
from plantfed_shared.parameters import unflatten


def export_shared(state: FederationState, path: Path) -> None:
    """Write an ``.npz`` file: one float32 array per shared parameter, and ``manifest``, JSON text.

    Raises:
        StorageError: it cannot be written.
    """
    definition = state.terms.definition
    shared = definition.parameter_specification().shared
    values = unflatten(state.terms.lattice.to_floats(state.model), shared)
    manifest = {
        "federation": definition.federation,
        "epoch": state.epoch.counter,
        "release": state.k,
        "checksum": f"{checksum(state.model):016x}",
        "definition": json.loads(state.terms.encoded),
    }
    arrays: dict[str, Any] = {p.name: value for p, value in zip(shared, values, strict=True)}
    written = path.with_name(path.name + ".part")
    try:
        with written.open("wb") as file:
            np.savez(file, **arrays, manifest=np.array(json.dumps(manifest)))
        written.replace(path)
    except OSError as error:
        raise StorageError(f"cannot be written: {error.strerror}", where=str(path)) from None
    finally:
        with suppress(OSError):
            written.unlink()
