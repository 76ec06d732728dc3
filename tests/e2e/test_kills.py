"""SIGKILL at random moments, again and again: nothing acknowledged is lost, nothing counts twice.

It cannot show that a commit is on the disk, which takes a power cut; only that no answer, and no
acknowledgement to the broker, goes out before its commit.
"""

import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.e2e.judging import (
    acknowledged,
    assert_agents_agree,
    assert_journal_counts_everything_once,
    assert_replay_is_exact,
    lost_updates,
)
from tests.e2e.plant import Plant
from tests.e2e.processes import find_mosquitto, until

from plantfed_coordinator.journal import FILE_NAME
from plantfed_coordinator.records import Released
from plantfed_shared.errors import StorageError
from plantfed_shared.store import reading

N_AGENTS = 3
HASTY = (sys.executable, "-P", str(Path(__file__).with_name("hasty_coordinator.py")))

pytestmark = pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")


@dataclass(frozen=True)
class Kills:
    """How many of each; mosquitto's persistence is its default, so it forgets everything."""

    coordinator: int
    agents: int
    broker: int

    def in_random_order(self, rng: random.Random) -> list[str]:
        victims = ["coordinator"] * self.coordinator + ["broker"] * self.broker
        victims += [rng.choice(["m1", "m2", "m3"]) for _ in range(self.agents)]
        rng.shuffle(victims)
        return victims


SHORT = Kills(coordinator=4, agents=2, broker=1)
LONG = Kills(coordinator=200, agents=100, broker=20)


def kill_and_start_again(plant: Plant, victim: str) -> None:
    if victim == "coordinator":
        assert plant.coordinator is not None
        plant.coordinator.kill()
        assert lost_updates(plant) == {}
        plant.start_coordinator()
    elif victim == "broker":
        assert plant.broker is not None
        plant.broker.kill()
        assert not (plant.folder / "mosquitto" / "mosquitto.db").exists(), "it forgets nothing"
        plant.start_mosquitto()
    else:
        (agent,) = (a for a in plant.agents if a.id == victim)
        agent.process.kill()
        agent.start()


def kill_all(plant: Plant, victims: list[str], rng: random.Random) -> None:
    """Between two kills there are two releases, or, one time in three, less than a second."""
    for number, victim in enumerate(victims):
        if rng.random() < 2 / 3:
            then = released(plant)
            until(lambda t=then: released(plant) >= t + 2, f"releases after kill {number}", 60)  # type: ignore[misc]
            time.sleep(rng.uniform(0.0, 0.3))  # any moment between two releases
        else:
            time.sleep(rng.uniform(0.0, 1.0))  # any moment of a start
        kill_and_start_again(plant, victim)


def everybody_goes_on(plant: Plant) -> None:
    then = {agent.id: acknowledged(plant, agent.id) for agent in plant.agents}
    for agent in plant.agents:
        wanted = then[agent.id] + 2
        until(lambda a=agent, n=wanted: acknowledged(plant, a.id) >= n, f"{agent.id} goes on")  # type: ignore[misc]


def released(plant: Plant) -> int:
    """Without reading all of the journal each time."""
    try:
        with reading(plant.state_dir / FILE_NAME) as database:
            rows = database.execute("SELECT count(*) FROM journal WHERE kind = 'release'")
    except StorageError:
        return 0
    return int(rows[0][0])


def begin(plant: Plant, **schedule: object) -> None:
    # a round takes next to nothing: most kills hit something that is being said or written
    plant.define(schedule={"min_members": N_AGENTS, **schedule})
    for agent in plant.agents:
        agent.configure(
            broker={"keepalive_s": 10},
            training={"nice": 0, "max_rounds_without_new_rows": 10**6},
        )
    plant.start_mosquitto()
    plant.start_coordinator().says("connected to the broker")
    for agent in plant.agents:
        agent.start()


def end(plant: Plant) -> None:
    for agent in plant.agents:
        agent.process.says("connected to the broker")  # it may have been killed just now
        assert agent.process.stop() == 0
    assert plant.coordinator is not None
    assert plant.coordinator.stop() == 0
    assert_journal_counts_everything_once(plant, [agent.id for agent in plant.agents])
    assert_agents_agree(plant)
    assert_replay_is_exact(plant)
    for log in plant.folder.rglob("*.log"):
        before, found, after = log.read_text().partition("Traceback")
        assert not found, f"{log}:\n{before[-500:]}{found}{after[:3000]}"


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(SHORT, id="short"),
        pytest.param(LONG, id="long", marks=[pytest.mark.soak, pytest.mark.timeout(3600)]),
    ],
)
def test_an_asynchronous_federation(tmp_path: Path, kills: Kills) -> None:
    rng = random.Random(1)
    with Plant(tmp_path, agents=N_AGENTS) as plant:
        begin(plant, arrivals=2, release_after_s=0.3)
        kill_all(plant, kills.in_random_order(rng), rng)
        everybody_goes_on(plant)
        end(plant)


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(SHORT, id="short"),
        pytest.param(LONG, id="long", marks=[pytest.mark.soak, pytest.mark.timeout(3600)]),
    ],
)
def test_a_synchronous_federation_ends_at_the_same_model(tmp_path: Path, kills: Kills) -> None:
    """Fixed rows, everybody waited for: every model is, to the last bit, that without kills."""
    rng = random.Random(2)
    killed = run_synchronously(tmp_path / "killed", kills.in_random_order(rng), rng)
    assert len(killed) >= kills.coordinator
    quiet = run_synchronously(tmp_path / "quiet", [], rng, releases=len(killed))
    assert quiet[: len(killed)] == killed


def run_synchronously(
    folder: Path, victims: list[str], rng: random.Random, releases: int = 0
) -> list[tuple[int, int]]:
    """All releases and the checksums of their models; at least so many."""
    folder.mkdir()
    with Plant(folder, agents=N_AGENTS) as plant:
        begin(plant, kind="sync", participation=0.7, deadline_s=1e6)
        kill_all(plant, victims, rng)
        everybody_goes_on(plant)
        until(lambda: released(plant) >= releases, "as many releases", 60 + releases)
        end(plant)
        return [(r.k, r.checksum) for r in plant.journal() if isinstance(r, Released)]


def test_a_coordinator_that_acknowledges_before_it_commits_is_caught(tmp_path: Path) -> None:
    """The control: otherwise the tests above would show nothing."""
    rng = random.Random(3)
    with Plant(tmp_path, agents=N_AGENTS) as plant:
        plant.coordinator_program = HASTY
        begin(plant, arrivals=2, release_after_s=0.3)
        lost: dict[str, int] = {}
        for _ in range(10):
            plant.goes_on(2)
            time.sleep(rng.uniform(0.0, 0.3))
            assert plant.coordinator is not None
            plant.coordinator.kill()
            lost = lost_updates(plant)
            if lost:
                break
            plant.start_coordinator()
        assert lost
