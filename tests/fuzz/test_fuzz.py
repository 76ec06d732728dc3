"""Nothing but the documented error escapes, in little memory: 100,000 inputs, 10 million in a soak.

The soak takes its seed from ``PLANTFED_FUZZ_SEED``.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.fuzz import driver, targets
from tests.fuzz.targets import SHARES, TARGETS, coordinator

from plantfed_shared import codec, topics, wire
from plantfed_shared.bus.port import MAX_MESSAGE_BYTES

ROOT = Path(__file__).parents[2]
MAX_RSS_MB = 200
ATHERIS = importlib.util.find_spec("atheris") is not None
NO_ATHERIS = "atheris is not installed: NO COVERAGE-GUIDED FUZZING. pip install -e '.[fuzz]'"


def module(name: str, *arguments: object, within_s: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"tests.fuzz.{name}", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=within_s,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        check=False,
    )


def tries(number: int, seed: str, within_s: float) -> None:
    done = module("driver", "--inputs", number, "--seed", seed, within_s=within_s)
    assert done.returncode == 0, done.stderr[-5000:]
    found = json.loads(done.stdout)
    assert found["rss_mb"] < MAX_RSS_MB, found
    assert sum(found["tried"].values()) >= number
    assert set(found["tried"]) == set(TARGETS)
    print(found)


@pytest.mark.timeout(300)
def test_nothing_escapes_in_100_thousand_inputs() -> None:
    tries(100_000, "1", 290)


@pytest.mark.soak
def test_nothing_escapes_in_10_million_inputs() -> None:
    tries(10_000_000, os.environ.get("PLANTFED_FUZZ_SEED", "2"), 7000)


def test_the_shares_are_of_all_inputs() -> None:
    assert sum(SHARES.values()) == pytest.approx(1)
    assert set(SHARES) == set(TARGETS)
    assert driver.LONGEST < MAX_MESSAGE_BYTES


def test_an_update_among_the_seeds_goes_all_the_way_to_the_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(targets, "_calls", 0)
    coordinator.cache_clear()
    assert driver.run("coordinator", driver.seeds("coordinator")[0])
    assert coordinator(0).state.updates == 1
    coordinator.cache_clear()


def test_the_same_seed_gives_the_same_inputs() -> None:
    first, again = (list(driver.inputs("wire", 300, 7)) for _ in range(2))
    assert first == again
    assert first != list(driver.inputs("wire", 300, 8))
    assert len(set(first)) > 250


# ---------------------------------------------------------------------- it finds what is planted


def finds(target: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The input that escaped, as the report has it."""
    for data in driver.inputs(target, 20_000, 3):
        if not driver.run(target, data):
            said = capsys.readouterr().err
            found = re.search(rf"--target {target} --replay ([0-9a-f]+)", said)
            assert found is not None
            assert bytes.fromhex(found[1]) == data
            return said
    pytest.fail("the planted bug was not found")


def test_a_validation_error_that_escapes_is_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wire._decode_header.cache_clear()
    monkeypatch.setattr(wire, "ValidationError", KeyError)
    assert "ValidationError escaped" in finds("wire", capsys)


def test_a_number_that_is_too_large_is_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(codec, "_refuse_large", lambda integers: None)
    assert "AssertionError escaped" in finds("codec", capsys)


def test_an_id_that_is_a_path_is_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(topics, "_is_agent", lambda level: level not in topics.RESERVED_IDS)
    topics._parsed.cache_clear()
    assert "escaped" in finds("topics", capsys)
    topics._parsed.cache_clear()


def test_an_error_that_ends_the_coordinator_is_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("plantfed_coordinator.machine.PeerError", KeyError)
    assert "PeerError escaped" in finds("coordinator", capsys)


# ---------------------------------------------------------------------- guided by coverage


@pytest.mark.skipif(not ATHERIS, reason=NO_ATHERIS)
@pytest.mark.parametrize("target", list(TARGETS))
def test_nothing_escapes_where_coverage_leads(target: str, tmp_path: Path) -> None:
    guided(target, tmp_path, 2_000, 110)


@pytest.mark.soak
@pytest.mark.skipif(not ATHERIS, reason=NO_ATHERIS)
@pytest.mark.parametrize("target", list(TARGETS))
def test_nothing_escapes_where_coverage_leads_for_long(target: str, tmp_path: Path) -> None:
    guided(target, tmp_path, round(1_000_000 * SHARES[target]), 7000)


def guided(target: str, folder: Path, runs: int, within_s: float) -> None:
    options = f"-runs={runs}", "-seed=1", f"-max_len={driver.LONGEST}", "-rss_limit_mb=400"
    where = f"-artifact_prefix={folder}/"
    done = module("with_atheris", target, folder / "corpus", where, *options, within_s=within_s)
    assert done.returncode == 0, done.stderr[-5000:]
    assert f"Done {runs} " in done.stderr, done.stderr[-2000:]
