"""Learning tasks: machines with their rows, and the network and settings they share.

Tennessee Eastman is shipped.  The others are read from a folder (``--data``); their splits and all
their random draws are those of an independent implementation of the same algorithms, so that the
accuracies can be compared with its.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plantfed_agent.samples import Samples, SampleSets
from plantfed_lab.tennessee_eastman import federation_definition, plants
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


@dataclass(frozen=True, slots=True)
class Task:
    """One data set, split over machines.

    Attributes:
        name: "tep" and so on.
        machines: samples of each, by agent id.
        definition: network and settings, in mode "fedapm".
    """

    name: str
    machines: dict[str, SampleSets]
    definition: FederationDefinition

    def defined(
        self, mode: Mode, schedule: Schedule, lattice_bits: int = 24, **algorithm: Any
    ) -> FederationDefinition:
        """The definition in another mode and schedule.

        Args:
            mode: decides what is personal as well.
            schedule: of the releases.
            lattice_bits: fine by default: what is compared is the algorithm.
            algorithm: settings that differ.
        """
        document = self.definition.model_dump()
        document["algorithm"] |= {"mode": mode, **algorithm}
        # as long as float32, whatever the mode sends: what is compared is the algorithm
        document["compression"] = {"coding": "plain"}
        document["personal"] = PERSONAL_OF_MODE.get(mode, document["personal"])
        document["schedule"] = schedule.model_dump()
        return FederationDefinition.model_validate({**document, "lattice_bits": lattice_bits})


def tennessee_eastman(seed: int, _: Path | None = None) -> Task:
    """20 plants, 22 classes: strong label skew."""
    machines = {
        p.id: SampleSets(Samples(p.x_train, p.y_train), Samples(p.x_test, p.y_test), p.id)
        for p in plants(seed)
    }
    return Task("tep", machines, federation_definition(seed))


def turbofans(seed: int, data: Path | None) -> Task:
    """NASA C-MAPSS FD001: 20 fleets of five engines, health in 4 stages; machines are alike."""
    with np.load(_file(data, "cmapss_fd001.npz")) as file:
        table = file["train"]
    engine = table[:, 0].astype(int)
    varying = [i for i in range(2, table.shape[1]) if table[:, i].std() > 1e-4]
    fleets = np.split(np.random.RandomState(seed).permutation(np.arange(1, 101)), 20)

    def gathered(engines: NDArray[np.int64]) -> Samples:
        runs = [_windows(table[engine == number][:, varying]) for number in engines]
        return Samples(np.concatenate([x for x, _ in runs]), np.concatenate([y for _, y in runs]))

    sets = [(gathered(fleet[:3]), gathered(fleet[3:])) for fleet in fleets]
    return _task("cmapss", seed, _standardised(sets), n_classes=4)


def _windows(values: NDArray[Any], length: int = 15) -> tuple[NDArray[np.float32], Any]:
    """Mean and change over each window of an engine's life, and its stage at the end."""
    end = np.arange(length, len(values) + 1)
    total = np.cumsum(np.vstack([np.zeros(values.shape[1]), values]), axis=0)
    mean = (total[end] - total[end - length]) / length
    change = values[end - 1] - values[end - length]
    stage = np.digitize(len(values) - end, [30, 80, 125])
    return np.concatenate([mean, change], axis=1).astype(np.float32), stage


def bearings(seed: int, data: Path | None) -> Task:
    """CWRU: 8 machines (faulty end x load), 9 faults, 9 training rows each; alike and scarce."""
    with np.load(_file(data, "cwru_12k_bands.npz")) as file:
        x, y = file["X"].astype(np.float32), file["y"].astype(int)
        machine, recording = file["machine"], file["src"]
    rng = np.random.RandomState(seed)
    sets = []
    for number in range(8):
        train: list[int] = []
        test: list[int] = []
        for name in np.unique(recording[machine == number]):
            rows = np.where(recording == name)[0]
            cut = int(0.7 * len(rows))
            train += list(rng.choice(rows[:cut], 1, replace=False))
            test += list(rows[cut:])
        sets.append((Samples(x[train], y[train]), Samples(x[test], y[test])))
    return _task("cwru", seed, _standardised(sets), n_classes=9)


def digits(seed: int, data: Path | None, n_machines: int = 20) -> Task:
    """MNIST-5k at 14 x 14: each machine has 5 digits and calls them by names of its own."""
    with np.load(_file(data, "mnist5k.npz")) as file:
        images, y = file["X"], file["y"]
    x = images.reshape(-1, 14, 2, 14, 2).mean((2, 4)).reshape(-1, 196)
    x = ((x - x.mean(0)) / x.std()).astype(np.float32)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(x))
    half = len(x) // 2
    train_rows, test_rows = order[:half], order[half:]
    sizes = np.clip((rng.lognormal(0, 0.5, n_machines) * 60).astype(int), 20, 200)
    sets = []
    for size in sizes:
        known, names = rng.choice(10, 5, replace=False), rng.permutation(10)
        own = train_rows[np.isin(y[train_rows], known)]
        test = test_rows[np.isin(y[test_rows], known)]
        chosen = rng.choice(own, size, replace=False)
        tested = rng.choice(test, 100, replace=len(test) < 100)
        sets.append((Samples(x[chosen], names[y[chosen]]), Samples(x[tested], names[y[tested]])))
    task = _task("digits", seed, sets, n_classes=10)
    model = {"hidden": (64, 32), "activation": ("relu", "tanh"), "seed": seed}
    changes = {"model": model, "algorithm": {"batch": 20, "weight_decay": 0.0, "epochs": 3}}
    document = {**task.definition.model_dump(), **changes}
    return replace(task, definition=FederationDefinition.model_validate(document))


TASKS: dict[str, Callable[[int, Path | None], Task]] = {
    "tep": tennessee_eastman,
    "cmapss": turbofans,
    "cwru": bearings,
}
FILES = {"cmapss": "cmapss_fd001.npz", "cwru": "cwru_12k_bands.npz", "digits": "mnist5k.npz"}


def is_here(name: str, data: Path | None) -> bool:
    """Whether a task's data can be read."""
    return name not in FILES or (data is not None and (data / FILES[name]).is_file())


def _file(data: Path | None, name: str) -> Path:
    if data is None or not (data / name).is_file():
        raise FileNotFoundError(f"{name} is not in {data or 'a folder given by --data'}")
    return data / name


def _standardised(sets: list[tuple[Samples, Samples]]) -> list[tuple[Samples, Samples]]:
    """By mean and standard deviation of all machines' training rows together."""
    pooled = np.concatenate([train.x for train, _ in sets])
    mean, std = pooled.mean(axis=0), pooled.std(axis=0) + 1e-6
    scaled = [[Samples((s.x - mean) / std, s.y) for s in pair] for pair in sets]
    return [(train, test) for train, test in scaled]


def _task(name: str, seed: int, sets: list[tuple[Samples, Samples]], n_classes: int) -> Task:
    """The recipe for all: d-64-32-C with a personal last layer, weights stated per machine."""
    m = len(sets)
    definition = FederationDefinition(
        federation=name,
        model=DenseModel(hidden=(64, 32), activation="relu", seed=seed),
        loss=Loss(kind="cross-entropy"),
        personal=("layer3.*",),
        inputs=tuple(Input(name=f"x{i}") for i in range(sets[0][0].x.shape[1])),
        classes=tuple(f"class {i}" for i in range(n_classes)),
        algorithm=Algorithm(
            learning_rate=1.0 / m,
            weight_decay=0.01,
            penalty=0.01 * m,
            head_proximal=0.01 * m,
            proximal=0.1 * m,
            epochs=3,
            batch=50,
        ),
    )
    machines = {
        f"machine-{i + 1:02d}": SampleSets(train, test, f"machine-{i + 1:02d}")
        for i, (train, test) in enumerate(sets)
    }
    return Task(name, machines, definition)
