"""The baselines against the golden numbers of the reference, with its draws."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from plantfed_agent.row_order import RowOrder
from plantfed_lab.baselines import baseline_accuracies, global_accuracies, local_accuracy
from plantfed_lab.other_mode import OTHER_MODE, accuracies_in
from plantfed_lab.tennessee_eastman import Plant, federation_definition, plants

GOLDEN = Path(__file__).parents[1] / "golden" / "tep_seed0.npz"
ONE_TEST_ROW = 1e-3
"""Another CPU rounds differently, which may flip a test row."""


@pytest.fixture(scope="module")
def selected() -> NDArray[np.int64]:
    with np.load(GOLDEN) as golden:
        rounds: NDArray[np.int64] = golden["selected"]
        return rounds


def golden_accuracy(name: str, round_: int) -> float:
    with np.load(GOLDEN) as golden:
        return float(golden[name][round_])


def reference_order(selected: NDArray[np.int64]) -> RowOrder:
    """Rows as the reference draws them: by client and by round of the federation."""

    def order(
        seed: int, agent: str, seq: int, phase: int, n_rows: int, epochs: int, batch: int
    ) -> Iterator[NDArray[np.int64]]:
        client = int(agent.removeprefix("plant-")) - 1
        rounds = [r for r, clients in enumerate(selected) if client in clients]
        number = seed * 7919 + client * 104729 + rounds[seq - 1] * 31 + phase
        rng = np.random.RandomState(number % 2**32)
        for _ in range(epochs):
            rows = rng.permutation(n_rows)
            yield from (rows[first : first + batch] for first in range(0, n_rows, batch))

    return order


@pytest.mark.parametrize("rounds", [1, 3])
def test_local_training_is_that_of_the_reference(selected: NDArray[np.int64], rounds: int) -> None:
    definition, order = federation_definition(), reference_order(selected)
    found = [
        local_accuracy(p, definition, int((selected[:rounds] == i).sum()), order)
        for i, p in enumerate(plants(seed=0))
    ]
    assert np.mean(found) == pytest.approx(
        golden_accuracy("local_pers", rounds - 1), abs=ONE_TEST_ROW
    )


@pytest.mark.parametrize("rounds", [1, 3])
def test_the_global_model_is_that_of_the_reference(
    selected: NDArray[np.int64], rounds: int
) -> None:
    def select(number: int, n_plants: int) -> Sequence[int]:
        assert n_plants == 20
        chosen: list[int] = selected[number].tolist()
        return chosen

    found = global_accuracies(
        plants(seed=0), federation_definition(), 6 * rounds, reference_order(selected), select
    )
    assert np.mean(list(found.values())) == pytest.approx(
        golden_accuracy("FedAvg_pers", rounds - 1), abs=ONE_TEST_ROW
    )


def test_both_in_two_processes_are_the_same_as_in_this_one() -> None:
    members = [few_rows(plant) for plant in plants(seed=0, n_plants=4)]
    definition = federation_definition()
    rounds = {plant.id: number for number, plant in enumerate(members)}

    found = baseline_accuracies(members, definition, rounds)

    assert found.local == {p.id: local_accuracy(p, definition, rounds[p.id]) for p in members}
    mode, updates = OTHER_MODE[definition.algorithm.mode], sum(rounds.values())
    assert found.of_other_mode == accuracies_in(mode, members, definition, updates)
    assert found.of_global == global_accuracies(members, definition, sum(rounds.values()))


def test_the_other_mode_learns() -> None:
    members = plants(seed=0, n_plants=4)
    for mode in ("auto", "fedapm"):
        found = accuracies_in(mode, members, federation_definition(), 40)
        assert np.mean(list(found.values())) > 0.5, mode


def few_rows(plant: Plant) -> Plant:
    return replace(plant, x_train=plant.x_train[::10], y_train=plant.y_train[::10])
