"""What a plant and a federation have on disk: rows, ``agent.toml`` and ``federation.toml``.

Odd plants keep CSV files with their historian's own column names and labels, even ones ``.npz``
files with the names of the federation, so that both ways into an agent are used.
"""

import csv
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from plantfed_lab.process_variables import CLASSES, VARIABLES
from plantfed_lab.templating import fill
from plantfed_lab.tennessee_eastman import WINDOW_ROWS, Labels, Plant, Readings
from plantfed_shared.definition import FederationDefinition

CSV_LABEL, NPZ_LABEL = "STATE", "state"
SECTIONS = ("model", "loss", "window", "algorithm", "schedule", "compression")
INSTRUMENTS = {"°C": "TI", "kPa": "PI", "mol%": "AI", "kW": "JI"}
"""First letters of a tag, by unit; flows are FI, levels LI, valves XV (after ISA-5.1)."""


@dataclass(frozen=True, slots=True)
class PlantFiles:
    """The rows of one plant and what it calls its columns.

    Attributes:
        train: file name of the training rows.
        test: of the test rows.
        label: local column of the label.
        group: local column whose values no window reaches over; empty: samples are rows.
        columns: federation input -> local column; empty: the same names.
        labels: local label -> class; empty: the same names.
    """

    train: str
    test: str
    label: str
    group: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


def write_federation_file(
    path: Path, definition: FederationDefinition, artefact: Path | None = None
) -> None:
    """Write a definition as TOML that a human can read and edit.

    Args:
        path: of the file.
        definition: of a dense network.
        artefact: of a network over windows that takes its place; copied beside the file.
    """
    content = {name: getattr(definition, name).model_dump(mode="json") for name in SECTIONS}
    if artefact is not None:
        shutil.copyfile(artefact, path.with_name(artefact.name))
        content["model"] = {"artefact": artefact.name, "seed": definition.model.seed}
        content["window"] = {"rows": WINDOW_ROWS, "step": 1}
        del content["loss"]  # it has that, and says what is personal
    text = fill(
        "federation.toml.j2", d=definition, sections=content.items(), compiled=artefact is not None
    )
    path.write_text(text, encoding="utf-8")


def write_plant(folder: Path, plant: Plant) -> PlantFiles:
    """Write a plant's own rows, in process units, and nothing of anybody else."""
    number = int(plant.id.rpartition("-")[2])
    # one block of each state: where the state changes, a window ends
    of_windows = plant.x_train.shape[1] > len(VARIABLES)
    if number % 2 == 0:
        _write_npz(folder / "train.npz", plant.readings_train, plant.labels_train)
        _write_npz(folder / "test.npz", plant.readings_test, plant.labels_test)
        group = NPZ_LABEL if of_windows else ""
        return PlantFiles(train="train.npz", test="test.npz", label=NPZ_LABEL, group=group)
    tags = _tags(number)
    header = [*tags.values(), CSV_LABEL]
    _write_csv(folder / "train.csv", header, plant.readings_train, plant.labels_train)
    _write_csv(folder / "test.csv", header, plant.readings_test, plant.labels_test)
    return PlantFiles(
        train="train.csv",
        test="test.csv",
        label=CSV_LABEL,
        group=CSV_LABEL if of_windows else "",
        columns=tags,
        labels={_local_label(k): CLASSES[k] for k in np.unique(plant.y_train).tolist()},
    )


def write_agent_file(path: Path, head: str, files: PlantFiles, max_rounds: int) -> None:
    """Write ``agent.toml``.

    Args:
        path: of the file.
        head: its sections ``[agent]`` and ``[broker]``.
        files: of the plant.
        max_rounds: on the same rows.
    """
    text = fill("agent.toml.j2", head=head.rstrip() + "\n", files=files, max_rounds=max_rounds)
    path.write_text(text, encoding="utf-8")


def _tags(plant: int) -> dict[str, str]:
    tags: dict[str, str] = {}
    for number, (name, what, unit) in enumerate(VARIABLES, start=1):
        valve, level = name.startswith("XMV"), what.endswith("level")
        letters = "XV" if valve else "LI" if level else INSTRUMENTS.get(unit, "FI")
        tags[name] = f"U{plant:02d}.{letters}{100 + number}"
    return tags


def _local_label(number: int) -> str:
    return f"F{number:02d}" if number else "OK"


def _write_csv(path: Path, header: Sequence[str], readings: Readings, labels: Labels) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for row, label in zip(readings.tolist(), labels.tolist(), strict=True):
            writer.writerow([*(f"{value:.10g}" for value in row), _local_label(label)])


def _write_npz(path: Path, readings: Readings, labels: Labels) -> None:
    columns = np.array([name for name, _, _ in VARIABLES])
    answers = {NPZ_LABEL: np.array(CLASSES)[labels]}
    np.savez_compressed(path, allow_pickle=False, x=readings, columns=columns, **answers)
