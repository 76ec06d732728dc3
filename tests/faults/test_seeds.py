"""Seeds of everything that can go wrong: ``make test`` runs 200, ``make soak`` 5,000.

A failing seed names itself and the command that replays it.
"""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from tests.faults import reference
from tests.faults.plan import Disturbance
from tests.faults.world import run_seed

from plantfed_coordinator import fresh_mean
from plantfed_coordinator.fresh_mean import ONE, bearable_share
from plantfed_lab.simulation.engine import Boundary
from plantfed_shared.lattice import Integers

SEEDS, BATCH = 200, 50
SOAK_SEEDS, SOAK_BATCH = 5000, 250
AGAIN_EVERY = 10
"""Of these seeds one is run twice."""
STRIKES = [
    *(f"{role} killed before {b}" for role in ("agent", "coordinator") for b in Boundary),
    "failed write",
    "write of which nobody knows",
    "write to a full disk",
    *Disturbance,
]


def run_batch(first: int, count: int) -> None:
    happened: Counter[str] = Counter()
    updates = forgiven = 0
    for seed in range(first, first + count):
        outcome = run_seed(seed)
        happened += outcome.happened
        updates += outcome.updates
        forgiven += outcome.forgiven
        if seed % AGAIN_EVERY == 0:
            assert run_seed(seed) == outcome, f"seed {seed} ends otherwise when it is run again"
    # faults that never strike, or a federation that does nothing under them, would prove nothing
    assert [kind for kind in STRIKES if not happened[kind]] == []
    assert updates > 20 * count
    assert forgiven < updates / 10


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_nothing_is_lost_nothing_twice_and_nobody_is_stuck(first: int) -> None:
    run_batch(first, BATCH)


@pytest.mark.soak
@pytest.mark.parametrize("first", range(0, SOAK_SEEDS, SOAK_BATCH))
def test_the_same_of_many_more(first: int) -> None:
    run_batch(first, SOAK_BATCH)


@pytest.mark.parametrize("seed", [1, 16, 29])
def test_what_is_held_of_the_duals_is_what_the_reference_holds(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In federations as small as these nothing drifts that far, so less has to be enough."""
    monkeypatch.setattr(fresh_mean, "LARGEST_PULL", 1)
    held: list[bool] = []

    def noting(dual: Integers, move: Integers, part: int) -> int:
        result = bearable_share(dual, move, part)
        held.append(result < ONE)
        return result

    monkeypatch.setattr(fresh_mean, "bearable_share", noting)
    with pytest.raises(AssertionError, match="is another model"):
        run_seed(seed)
    monkeypatch.setattr(reference, "LARGEST_PULL", 1)
    held.clear()
    run_seed(seed)
    assert any(held)
    assert not all(held)


def test_a_seed_is_the_same_whatever_strings_hash_to() -> None:
    """In another process sets have another order; nothing may depend on it."""
    command = [sys.executable, "-m", "tests.faults", "3", "14"]
    printed = {
        subprocess.run(
            command,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(sys.path)},
            cwd=Path(__file__).parents[2],
            check=True,
            capture_output=True,
            text=True,
            timeout=100,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(printed) == 1
    assert run_seed(14).digest in printed.pop()


def test_a_failing_seed_names_the_command_that_replays_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tests.faults.world.PATIENCE_S", 0.0)
    with pytest.raises(AssertionError) as failed:
        run_seed(1)
    assert failed.value.__notes__ == ["replay with: .venv/bin/python -m tests.faults 1"]
