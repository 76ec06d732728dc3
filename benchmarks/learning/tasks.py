"""Learning tasks: machines with their rows, and the network and settings they share.

Tennessee Eastman is shipped.  The others are read from a folder (``--data``); their splits and all
their random draws are those of an independent implementation of the same algorithms, so that the
accuracies can be compared with its.
"""

from collections.abc import Callable, Iterable
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

LONGEST_LIFE = 125
LIFE_CENTRE, LIFE_SCALE = 85.0, 42.0
"""About mean and standard deviation of min(RUL, 125)."""


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

    def algorithm_in(self, mode: Mode) -> Algorithm:
        """Its settings in another mode; the penalty of "auto" is the same for all sets."""
        kept = self.definition.algorithm.unusual()
        if mode == "auto":
            kept.pop("penalty", None)
        return Algorithm.model_validate(kept | {"mode": mode})

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
        document["algorithm"] = {**self.algorithm_in(mode).model_dump(), **algorithm}
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
    sets = [
        (Samples(train.x, _stage(train.y)), Samples(test.x, _stage(test.y)))
        for train, test in _fleets(seed, data)
    ]
    return _task("cmapss", seed, sets, n_classes=4)


def remaining_life(seed: int, data: Path | None) -> Task:
    """The same rows, with the cycles that are left as a target: min(RUL, 125), loss mse."""
    sets = [
        (Samples(train.x, _life(train.y)), Samples(test.x, _life(test.y)))
        for train, test in _fleets(seed, data)
    ]
    task = _task("cmapss-life", seed, sets, n_classes=2)
    target = {"name": "life", "unit": "cycles", "centre": LIFE_CENTRE, "scale": LIFE_SCALE}
    changes = {"classes": (), "targets": (target,), "loss": {"kind": "mse"}}
    document = {**task.definition.model_dump(), **changes}
    return replace(task, definition=FederationDefinition.model_validate(document))


def _stage(cycles: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.digitize(cycles, [30, 80, 125])


def _life(cycles: NDArray[np.int64]) -> NDArray[np.float32]:
    known = np.minimum(cycles, LONGEST_LIFE)
    return ((known - LIFE_CENTRE) / LIFE_SCALE).astype(np.float32)[:, None]


def _fleets(seed: int, data: Path | None) -> list[tuple[Samples, Samples]]:
    """Training and test rows of each fleet; the answer is how many cycles are left."""
    with np.load(_file(data, "cmapss_fd001.npz")) as file:
        table = file["train"]
    engine = table[:, 0].astype(int)
    varying = [i for i in range(2, table.shape[1]) if table[:, i].std() > 1e-4]
    fleets = np.split(np.random.RandomState(seed).permutation(np.arange(1, 101)), 20)

    def gathered(engines: NDArray[np.int64]) -> Samples:
        runs = [_windows(table[engine == number][:, varying]) for number in engines]
        return Samples(np.concatenate([x for x, _ in runs]), np.concatenate([y for _, y in runs]))

    return _standardised([(gathered(fleet[:3]), gathered(fleet[3:])) for fleet in fleets])


def _windows(values: NDArray[Any], length: int = 15) -> tuple[NDArray[np.float32], Any]:
    """Mean and change over each window of an engine's life, and the cycles left at its end."""
    end = np.arange(length, len(values) + 1)
    total = np.cumsum(np.vstack([np.zeros(values.shape[1]), values]), axis=0)
    mean = (total[end] - total[end - length]) / length
    change = values[end - 1] - values[end - length]
    return np.concatenate([mean, change], axis=1).astype(np.float32), len(values) - end


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


def renamed(task: Task, seed: int, part: float = 0.25) -> Task:
    """A part of the machines calls the classes by names of its own, each another permutation."""
    rng = np.random.default_rng(seed + 99)
    names, n_classes = list(task.machines), len(task.definition.classes)
    machines = dict(task.machines)
    for name in rng.choice(names, int(part * len(names)), replace=False).tolist():
        sets, own = machines[name], rng.permutation(n_classes)
        if sets.test is None:
            raise ValueError(f"{name} has no test samples")
        train, test = (Samples(s.x, own[s.y]) for s in (sets.train, sets.test))
        machines[name] = SampleSets(train, test, name)
    return replace(task, machines=machines)


TASKS: dict[str, Callable[[int, Path | None], Task]] = {
    "tep": tennessee_eastman,
    "cmapss": turbofans,
    "cwru": bearings,
}
OF_OTHER_MEANING: dict[str, Callable[[int, Path | None], Task]] = {
    "digits": digits,
    "tep-renamed": lambda seed, data: renamed(tennessee_eastman(seed, data), seed),
    "cmapss-life": remaining_life,
}
"""Where labels differ from machine to machine, and where there are none."""
FILES = {
    "cmapss": "cmapss_fd001.npz",
    "cmapss-life": "cmapss_fd001.npz",
    "cwru": "cwru_12k_bands.npz",
    "digits": "mnist5k.npz",
}


def is_here(name: str, data: Path | None) -> bool:
    """Whether a task's data can be read."""
    return name not in FILES or (data is not None and (data / FILES[name]).is_file())


def those_here(tasks: Iterable[str], data: Path | None, skipped: list[str]) -> list[str]:
    """Names of the tasks whose data can be read; of the others it is said why they are skipped."""
    found = []
    for name in tasks:
        if is_here(name, data):
            found.append(name)
        else:
            skipped.append(f"{name}: {FILES[name]} is not in a folder given by --data")
    return found


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
