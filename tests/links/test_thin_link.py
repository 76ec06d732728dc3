"""Real processes on an emulated thin link: what a transfer takes, measured against the line."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.e2e.plant import Plant
from tests.e2e.processes import find_mosquitto, until
from tests.links.emulated import can_tunnel, needs_tunnel
from tests.links.pipe import LinkShape
from tests.links.thin_plant import BrokerLog, Passage, shaped_plant, thin_plant

from plantfed_shared.errors import StorageError

pytestmark = pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")
KEEPALIVE_S = 10
LARGE_BYTES = 4096
"""No chunk of a definition is as long, all but the last of a model are longer."""


@dataclass(frozen=True)
class Transfer:
    """One large content on its way, from the first request for it to the last byte of it.

    Attributes:
        n_bytes: of all its chunks.
        took_s: as the broker saw it, with all crossings of the link.
    """

    n_bytes: int
    took_s: float

    def of_floor(self, shape: LinkShape) -> float:
        """How many times as long as the line needs for these bytes and nothing else."""
        assert shape.bits_per_s is not None
        return self.took_s * shape.bits_per_s / (8 * self.n_bytes)


def download(seen: list[Passage]) -> Transfer:
    """The model in what the broker saw; it was fetched when the last chunk was acknowledged."""
    chunks = [p for p in seen if p.kind == "chunk" and p.to_client and p.client == "m1"]
    begin = next(p for p in chunks if p.n_bytes > LARGE_BYTES)
    end = next(p for p in reversed(seen) if p.kind == "puback" and p.client == "m1")
    return Transfer(sum(p.n_bytes for p in chunks if p.at >= begin.at), end.at - begin.at)


def upload(seen: list[Passage]) -> Transfer:
    """The update in what the broker saw, from its OFFER on."""
    chunks = [p for p in seen if p.kind == "chunk" and not p.to_client]
    begin = next(p for p in seen if p.kind == "offer" and not p.to_client)
    return Transfer(sum(p.n_bytes for p in chunks), chunks[-1].at - begin.at)


def outstanding(seen: list[Passage]) -> int:
    """Messages to the agent that it has not acknowledged."""
    agents = [p for p in seen if p.client == "m1"]
    return sum(p.to_client for p in agents) - sum(p.kind == "puback" for p in agents)


class Watched:
    """The one agent of a thin plant, from its start through one release."""

    def __init__(self, plant: Plant, hidden: tuple[int, int]) -> None:
        self.plant = plant
        self.agent = plant.agents[0]
        plant.define(
            model={"hidden": list(hidden)},
            algorithm={"epochs": 1},
            schedule={"max_releases": 1, "release_after_s": 0.5},
            compression={"coding": "plain"},  # what is measured is the line
        )
        self.agent.configure(broker={"keepalive_s": KEEPALIVE_S})
        assert plant.broker is not None
        self._log = BrokerLog(plant.broker)
        plant.start_coordinator().says("connected to the broker")
        self.agent.start()

    def until_model(self, k: int, within_s: float) -> None:
        """Wait until the agent has a model, and the broker the acknowledgement of all of it."""

        def has_it() -> bool:
            self._log.read()
            with suppress(StorageError):
                name = self.agent.state().model_name
                return name is not None and name.k == k
            return False

        until(has_it, f"model {k} at the agent", within_s)
        until(lambda: outstanding(self._log.read()) == 0, "its acknowledgement")

    def transfers(self) -> tuple[Transfer, Transfer, Transfer]:
        """Model down, update up, model down."""
        seen = self._log.read()
        offered = next(n for n, p in enumerate(seen) if p.kind == "offer")
        return download(seen[:offered]), upload(seen), download(seen[offered:])

    @property
    def connections(self) -> int:
        """Of the agent, so far."""
        assert self.plant.broker is not None
        return self.plant.broker.log.count(f" as m1 (p5, c1, k{KEEPALIVE_S},")


def one_round(
    plant: Plant, shape: LinkShape, hidden: tuple[int, int], within_s: float
) -> list[float]:
    """Model down, update up, model down: each as a multiple of what the line needs at least."""
    watched = Watched(plant, hidden)
    for k in (0, 1):
        watched.until_model(k, within_s)
    assert watched.connections == 1
    return [one.of_floor(shape) for one in watched.transfers()]


BRIEF = LinkShape(bits_per_s=1_000_000.0, rtt_s=0.1)
GENEROUS = 1.5
"""For brief transfers: what a busy machine takes is not small beside the line."""


@needs_tunnel
def test_a_round_on_a_thin_link(tmp_path: Path) -> None:
    with thin_plant(tmp_path, BRIEF) as (plant, _):
        ratios = one_round(plant, BRIEF, (400, 200), 60.0)
    assert max(ratios) < GENEROUS, ratios


@pytest.mark.skipif(can_tunnel(), reason="what stands in for a tunnel where there is none")
def test_a_round_through_a_thin_relay(tmp_path: Path) -> None:
    with shaped_plant(tmp_path, BRIEF) as plant:
        ratios = one_round(plant, BRIEF, (400, 200), 60.0)
    assert max(ratios) < GENEROUS, ratios


@pytest.mark.soak
@pytest.mark.timeout(900)
@needs_tunnel
@pytest.mark.parametrize(("loss", "at_most"), [(0.0, 1.15), (0.05, 2.2)])
@pytest.mark.parametrize("hidden", [(700, 350), (1000, 1000)], ids=["download", "upload"])
def test_a_megabyte_on_a_thin_link(
    tmp_path: Path, loss: float, at_most: float, hidden: tuple[int, int]
) -> None:
    """About a megabyte: of model in the smaller network, of update in the larger one."""
    shape = LinkShape(loss=loss)
    with thin_plant(tmp_path, shape) as (plant, _):
        ratios = one_round(plant, shape, hidden, 600.0)
    assert max(ratios) < at_most, ratios
