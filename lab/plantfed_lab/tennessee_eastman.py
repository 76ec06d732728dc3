"""The Tennessee Eastman process, split over plants that each know a few of its faults."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plantfed_lab.process_variables import CLASSES, VARIABLES
from plantfed_shared.definition import (
    PERSONAL_OF_MODE,
    Algorithm,
    DenseModel,
    FederationDefinition,
    Input,
    Loss,
    Mode,
    Schedule,
)
from plantfed_shared.parameters import Floats

Labels = NDArray[np.int64]
Readings = NDArray[np.float64]

DATA = Path(__file__).with_name("data")
CLIP = 8.0
FAULT_ONSET = 160
"""Test runs are normal until this row."""
THIN: dict[str, dict[str, Any]] = {
    "algorithm": {"memory": 0.25, "penalty": 0.25, "relaxation": 1.0},
    "schedule": {"pace": 0.6},
    "compression": {"kind": "low-rank", "bits": 3, "keep": 0.15, "keep_at_most": 0.15},
}
"""Settings that make messages short, by section; the rest of a change waits in the memory."""
THIN_RELEASES = {"release_bits": 6, "coarsest_release_bits": 4}
"""What makes the difference of two of its models short."""
CNN1D = DATA / "cnn1d.pfm"
"""Compiled 1-D CNN over a window of all variables; made by ``lab/make_cnn1d.py``."""
WINDOW_ROWS = 16
"""Of its samples: 48 minutes."""
MAX_PLANTS_WITH_WINDOWS = 30
"""With more, a plant's block of the normal class has less than one window."""
MAX_PLANTS = 400
"""With more, a plant gets less than one training row of the normal class."""


@dataclass(frozen=True, slots=True)
class Plant:
    """What one plant keeps to itself.

    Attributes:
        id: "plant-01" and so on.
        x_train: float32 (samples, 52), z-scores clipped to +-8; of windows, (samples, 16 * 52).
        y_train: int64 (samples,), class numbers.
        x_test: as x_train.
        y_test: as y_train.
        readings_train: float64 (rows, 52), the same rows in process units, not clipped.
        readings_test: as readings_train.
        labels_train: int64 (rows,), class number of each reading.
        labels_test: as labels_train.
    """

    id: str
    x_train: Floats
    y_train: Labels
    x_test: Floats
    y_test: Labels
    readings_train: Readings
    readings_test: Readings
    labels_train: Labels
    labels_test: Labels


@dataclass(frozen=True, slots=True)
class _Runs:
    """The shipped file: z-scores (class, row, variable) and how to get process units back."""

    train: NDArray[np.float16]
    test: NDArray[np.float16]
    mean: Floats
    std: Floats


def plants(
    seed: int, n_plants: int = 20, faults_per_plant: int = 5, *, windows: bool = False
) -> list[Plant]:
    """Split the process: every plant has normal operation and a few random faults.

    The 480 training rows of a class are shuffled and shared evenly among the plants that have it;
    its 800 test rows are shared as contiguous blocks.  No row occurs twice, and plants differ in
    their classes and in size.  All draws come from one ``RandomState(seed)`` (NumPy froze its
    streams, NEP 19) in the order written here.

    Args:
        seed: of all draws.
        n_plants: how many.
        faults_per_plant: of the 21 faults.
        windows: samples are windows of 16 rows; for that the training rows are not shuffled but
            shared as contiguous blocks too, and no window reaches over the end of one.
    """
    runs = _load()
    rng = np.random.RandomState(seed)
    n_classes, n_train = runs.train.shape[:2]
    onset = np.arange(FAULT_ONSET, runs.test.shape[1])
    faults = np.arange(1, n_classes)
    classes_of = [
        [0, *np.sort(rng.choice(faults, faults_per_plant, replace=False)).tolist()]
        for _ in range(n_plants)
    ]
    train_rows: list[dict[int, Labels]] = [{} for _ in range(n_plants)]
    test_rows: list[dict[int, Labels]] = [{} for _ in range(n_plants)]
    for number in range(n_classes):
        owners = [i for i in range(n_plants) if number in classes_of[i]]
        if not owners:
            continue  # a fault nobody has draws no permutation
        in_time = np.arange(n_train)
        train_rows_of_class = in_time if windows else rng.permutation(n_train)
        train_parts = np.array_split(train_rows_of_class, len(owners))
        test_parts = np.array_split(onset, len(owners))
        for owner, train_part, test_part in zip(owners, train_parts, test_parts, strict=True):
            train_rows[owner][number] = train_part
            test_rows[owner][number] = test_part
    made = [
        _plant(f"plant-{i + 1:02d}", runs, train_rows[i], test_rows[i]) for i in range(n_plants)
    ]
    return [_windowed(plant) for plant in made] if windows else made


def federation_definition(
    seed: int = 0, schedule: Schedule | None = None, federation: str = "tennessee-eastman"
) -> FederationDefinition:
    """What all plants agree on: a perceptron 52-64-32-22 whose last layer is personal.

    Args:
        seed: of the initial parameters.
        schedule: of the releases.
        federation: its id.
    """
    runs = _load()
    inputs = tuple(
        Input(name=name, unit=unit, centre=float(mean), scale=float(std), clip=CLIP)
        for (name, _, unit), mean, std in zip(VARIABLES, runs.mean, runs.std, strict=True)
    )
    return FederationDefinition(
        federation=federation,
        model=DenseModel(hidden=(64, 32), activation="relu", seed=seed),
        loss=Loss(kind="cross-entropy"),
        personal=("layer3.*",),
        inputs=inputs,
        classes=CLASSES,
        algorithm=Algorithm(
            learning_rate=0.05,
            weight_decay=0.01,
            head_proximal=0.2,
            epochs=3,
            batch=50,
        ),
        schedule=schedule or Schedule(),
    )


def in_mode(mode: Mode, definition: FederationDefinition) -> FederationDefinition:
    """The same federation in another mode; in "auto" nothing is personal but the class prior."""
    document = definition.model_dump()
    document["algorithm"] = definition.algorithm.in_mode(mode).model_dump()
    document["personal"] = PERSONAL_OF_MODE.get(mode, document["personal"])
    return FederationDefinition.model_validate(document)


def thinned(definition: FederationDefinition) -> FederationDefinition:
    """The same federation for thin links, with short messages."""
    document = definition.model_dump()
    for section, settings in THIN.items():
        document[section] |= settings
    return FederationDefinition.model_validate(document | THIN_RELEASES)


def _load() -> _Runs:
    with np.load(DATA / "tep_braatz.npz") as file:
        return _Runs(file["train"], file["test"], file["mean"], file["std"])


def _plant(
    plant_id: str, runs: _Runs, train_rows: dict[int, Labels], test_rows: dict[int, Labels]
) -> Plant:
    z_train, y_train = _gather(runs.train, train_rows)
    z_test, y_test = _gather(runs.test, test_rows)
    return Plant(
        id=plant_id,
        x_train=np.clip(z_train, -CLIP, CLIP),
        y_train=y_train,
        x_test=np.clip(z_test, -CLIP, CLIP),
        y_test=y_test,
        readings_train=_readings(runs, z_train),
        readings_test=_readings(runs, z_test),
        labels_train=y_train,
        labels_test=y_test,
    )


def _windowed(plant: Plant) -> Plant:
    x_train, y_train = _windows(plant.x_train, plant.labels_train)
    x_test, y_test = _windows(plant.x_test, plant.labels_test)
    return replace(plant, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)


def _windows(x: Floats, labels: Labels) -> tuple[Floats, Labels]:
    """All windows of the blocks of each class, as an agent cuts them with ``step = 1``."""
    windows, answers = [], []
    for number in dict.fromkeys(labels.tolist()):
        block = x[labels == number]
        cut = np.lib.stride_tricks.sliding_window_view(block, WINDOW_ROWS, axis=0)
        windows.append(cut.transpose(0, 2, 1).reshape(len(cut), -1))
        answers.append(np.full(len(cut), number))
    return np.concatenate(windows), np.concatenate(answers)


def _gather(values: NDArray[Any], rows: dict[int, Labels]) -> tuple[Floats, Labels]:
    z = np.concatenate([values[number][chosen] for number, chosen in rows.items()])
    y = np.concatenate([np.full(len(chosen), number) for number, chosen in rows.items()])
    return z.astype(np.float32), y


def _readings(runs: _Runs, z: Floats) -> Readings:
    # in float64: a purge temperature moves by 1e-4 of its value
    readings: Readings = z.astype(np.float64) * runs.std + runs.mean
    return readings
