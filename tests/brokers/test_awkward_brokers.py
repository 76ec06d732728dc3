"""The same federation on brokers that make it hard: it must end with the very same model."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.brokers.meddler import Meddling, Tally, meddler
from tests.e2e.plant import Plant
from tests.e2e.processes import find_mosquitto, until

from plantfed_coordinator.records import Applied, Released
from plantfed_shared.bus.port import MAX_MESSAGE_BYTES

pytestmark = pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")
AGENTS, RELEASES = 3, 3
TINY, LARGE = (8,), (500, 300)
"""Of the large network neither a model nor an update fits one message."""
SHORT_QUEUES = ("max_queued_messages 20", "max_queued_bytes 300000")
sizes = pytest.mark.parametrize(
    "hidden", [pytest.param(TINY, marks=pytest.mark.soak), LARGE], ids=["tiny", "large"]
)


@contextmanager
def federation(folder: Path, hidden: tuple[int, ...]) -> Iterator[Plant]:
    """Synchronous, everybody takes part in every round, and no round ever ends without them."""
    with Plant(folder, agents=AGENTS) as plant:
        plant.define(
            model={"hidden": list(hidden)},
            algorithm={"epochs": 1},
            schedule={
                "kind": "sync",
                "participation": 1.0,
                "deadline_s": 3600.0,
                "min_members": AGENTS,
                "max_releases": RELEASES,
            },
        )
        yield plant


def begin(plant: Plant) -> None:
    plant.start_coordinator()
    for agent in plant.agents:
        agent.start()


def end(plant: Plant) -> list[int]:
    """Wait for the last release, and that all have it; returns the checksums of all releases."""
    until(lambda: plant.releases() == RELEASES, "all releases", 100)
    journal = plant.journal()
    applied = sorted((r.agent, r.seq) for r in journal if isinstance(r, Applied))
    assert applied == [(a.id, seq) for a in plant.agents for seq in range(1, RELEASES + 1)]
    checksums = [r.checksum for r in journal if isinstance(r, Released)]

    def has_the_last(agent: int) -> bool:
        name = plant.agents[agent].state().model_name
        return name is not None and name.checksum == checksums[-1]

    until(lambda: all(map(has_the_last, range(AGENTS))), "the last model everywhere", 60)
    return checksums


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, ...], list[int]]:
    """The checksums of the releases on an ordinary broker, once for each size."""
    return {}


@pytest.fixture
def expected(
    hidden: tuple[int, ...],
    undisturbed: dict[tuple[int, ...], list[int]],
    tmp_path_factory: pytest.TempPathFactory,
) -> list[int]:
    if hidden not in undisturbed:
        with federation(tmp_path_factory.mktemp("undisturbed"), hidden) as plant:
            plant.start_mosquitto()
            begin(plant)
            undisturbed[hidden] = end(plant)
            changes = [len(r.change) for r in plant.journal() if isinstance(r, Applied)]
            assert (min(changes) > MAX_MESSAGE_BYTES) == (hidden == LARGE)
    return undisturbed[hidden]


@contextmanager
def through(plant: Plant, meddling: Meddling) -> Iterator[Tally]:
    """Start everything but the broker, with a relay in front of that."""
    with meddler(plant.port, meddling) as relay:
        url = f"mqtt://127.0.0.1:{relay.port}"
        plant.configure(broker={"url": url})
        for agent in plant.agents:
            agent.configure(broker={"url": url})
        begin(plant)
        yield relay.tally
        for service in (plant.coordinator, *(agent.service for agent in plant.agents)):
            assert service is not None
            assert service.stop() == 0


@sizes
@pytest.mark.parametrize(
    ("longest", "in_flight", "lines"),
    [
        # a packet of the limit itself is let through, and mosquitto counts without the header
        pytest.param(65536 + 5, 20, (), marks=pytest.mark.soak, id="64-KB"),
        pytest.param(65536 + 5, 10, SHORT_QUEUES, marks=pytest.mark.soak, id="10-in-flight"),
        pytest.param(65536 + 5, 1, (), marks=pytest.mark.soak, id="1-in-flight"),
        pytest.param(8192 + 5, 2, (), id="8-KB-2-in-flight"),
    ],
)
def test_a_narrow_broker(
    tmp_path: Path,
    hidden: tuple[int, ...],
    expected: list[int],
    longest: int,
    in_flight: int,
    lines: tuple[str, ...],
) -> None:
    limits = (f"max_packet_size {longest - 5}", f"max_inflight_messages {in_flight}")
    with federation(tmp_path, hidden) as plant:
        plant.start_mosquitto(*limits, *lines)
        with through(plant, Meddling()) as tally:
            assert end(plant) == expected
            assert tally.longest_publish <= longest
            assert tally.most_unacknowledged <= in_flight
            # an agent that broke a limit would have been thrown out
            assert tally.packets["CONNECT"] == AGENTS + 1


@sizes
def test_a_broker_that_delivers_twice_and_out_of_order(
    tmp_path: Path, hidden: tuple[int, ...], expected: list[int]
) -> None:
    with federation(tmp_path, hidden) as plant:
        plant.start_mosquitto()
        with through(plant, Meddling(double=0.3, swap=0.3)) as tally:
            assert end(plant) == expected
            assert tally.doubled > 10
            assert tally.swapped > 3


@pytest.mark.soak
@sizes
def test_a_broker_that_is_killed_and_forgets(
    tmp_path: Path, hidden: tuple[int, ...], expected: list[int]
) -> None:
    with federation(tmp_path, hidden) as plant:
        forgetful = ("persistence false",)
        plant.start_mosquitto(*forgetful)
        begin(plant)
        for release in range(1, RELEASES):
            until(lambda k=release: plant.releases() >= k, f"release {release}")
            assert plant.broker is not None
            plant.broker.kill()
            plant.start_mosquitto(*forgetful)
        assert end(plant) == expected
