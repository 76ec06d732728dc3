"""What holds mode auto against the others: its tables and goals say what was found."""

from math import nan

import numpy as np
import pytest

from benchmarks.learning import one_setting, other_meaning
from benchmarks.learning.one_setting import Job, Outcome
from benchmarks.learning.tasks import renamed, tennessee_eastman


def found(**means: tuple[float, float]) -> dict[Job, Outcome]:
    """Two seeds of each contender, a point around its (mean, worst)."""
    return {
        Job("cwru", None, seed, name.replace("_", ", "), 1.0, 0.3, 100): Outcome(
            mean + d, worst + d, mean, mean / 2, nan, nan
        )
        for name, (mean, worst) in means.items()
        for seed, d in ((10, -0.01), (11, 0.01))
    }


def test_auto_is_held_against_the_best_other_and_not_against_central() -> None:
    outcomes = found(
        fedavg=(0.8, 0.5), fedavg_prior=(0.9, 0.4), central=(0.99, 0.98), auto=(0.896, 0.37)
    )
    behind, worst = one_setting._goals(["cwru"], 0.3, outcomes, "other seeds")
    assert (behind.value, behind.met) == (pytest.approx(0.004), True)
    assert (worst.value, worst.met) == (pytest.approx(0.03), False)
    (few,) = one_setting._goals(["cwru"], 0.1, outcomes, "other seeds")
    assert few.limit == pytest.approx(0.01)


def test_a_table_has_the_columns_that_somebody_has() -> None:
    table = one_setting.grid("cwru", "x", found(fedavg=(0.8, 0.5), auto=(0.9, 0.4)))
    assert list(table.columns) == [
        "contender",
        "mean",
        "worst machine",
        "newest release",
        "without prior",
    ]
    assert table.rows[0][3:] == ("", "")
    assert table.rows[1][1:] == pytest.approx((0.9, 0.4, 0.9, 0.45))


def test_an_error_is_held_against_the_smallest_other() -> None:
    rmse = {
        Job("cmapss-life", None, 10, name, 1.0, 0.3, 100): Outcome(-e, -e, -e, -e, nan, nan)
        for name, e in (("fedavg", 20.0), ("fedprox", 25.0), ("auto", 20.3))
    }
    goal = other_meaning._goal("cmapss-life", rmse)
    assert (goal.value, goal.met) == (pytest.approx(1.015), True)


def test_a_quarter_of_the_plants_is_renamed_and_each_keeps_its_rows() -> None:
    task = tennessee_eastman(3)
    other = renamed(task, 3)
    changed = 0
    for name, sets in task.machines.items():
        mine = other.machines[name].train
        assert mine.x is sets.train.x
        pairs = set(zip(sets.train.y.tolist(), mine.y.tolist(), strict=True))
        assert len(pairs) == len(np.unique(sets.train.y)) == len(np.unique(mine.y))
        changed += mine.y is not sets.train.y
    assert changed == len(task.machines) // 4
