"""Federations whose model was compiled, from the networks that torch exported."""

from pathlib import Path

import numpy as np
from tests.compiler.test_against_torch import compiled

from plantfed_agent.kernel_source import Kernels
from plantfed_agent.samples import Samples, SampleSets
from plantfed_agent.training import TrainingTask
from plantfed_coordinator.federation_file import Federation, load_federation
from plantfed_shared.artefact import Artefact
from plantfed_shared.codec import decode_integers

ANSWERS = {
    "classes": 'classes = ["red", "green", "blue"]',
    "targets": 'targets = [{ name = "t", centre = 100.0, scale = 10.0 }, { name = "u" }]',
    "none": "",
}
WINDOWS = {
    "mlp": (9, 1, "classes"),
    "cnn1d": (3, 16, "classes"),
    "residual": (2, 64, "classes"),
    "gru": (4, 7, "targets"),
    "autoencoder": (2, 64, "none"),
}
"""Architecture -> inputs, rows of a window, what is learnt."""


def write_federation(
    folder: Path,
    name: str = "cnn1d",
    mode: str | None = "fedapm",
    more: str = "",
    model: str = "",
) -> Path:
    """federation.toml and model.pfm; returns the former."""
    exporter = "script" if name == "residual" else "dynamo"
    (folder / "model.pfm").write_bytes(compiled(name, exporter, folder).to_bytes())
    n_inputs, rows, answers = WINDOWS[name]
    inputs = "".join(
        f'[[inputs]]\nname = "{"abcdefghi"[n]}"\ncentre = {n}\nscale = {n + 1}\nclip = 3\n'
        for n in range(n_inputs)
    )
    mode_line = "" if mode is None else f'mode = "{mode}"'
    path = folder / "federation.toml"
    path.write_text(
        f'federation = "toy"\n{ANSWERS[answers]}\n{inputs}[window]\nrows = {rows}\n'
        f"[algorithm]\n{mode_line}\n{more}\n"
        f'[model]\nartefact = "model.pfm"\n{model}\n'
    )
    return path


def federation(folder: Path, name: str = "cnn1d", mode: str = "fedapm") -> Federation:
    return load_federation(write_federation(folder, name, mode))


def kernels_of(made: Federation) -> Kernels:
    assert made.artefact is not None
    artefact = Artefact.from_bytes(made.artefact.encoded)
    return Kernels(lambda _: artefact)


def samples(made: Federation, n: int = 60, seed: int = 0) -> SampleSets:
    rng, definition = np.random.default_rng(seed), made.definition
    x = rng.normal(size=(n, definition.n_inputs)).astype(np.float32)
    if definition.classes:
        y = x[:, :3].argmax(1)
    else:
        y = rng.normal(size=(n, len(definition.targets))).astype(np.float32)
    return SampleSets(Samples(x, y), Samples(x, y), "rows")


def task(made: Federation, agent: str = "a", seq: int = 1) -> TrainingTask:
    lattice = made.definition.lattice()
    base = lattice.to_floats(decode_integers(made.initial, lattice))
    return TrainingTask(agent, seq, base, np.zeros_like(base), None, made.definition)
