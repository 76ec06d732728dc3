"""A link that is cut at fifty random moments: every transfer ends, and hardly a byte goes twice."""

import random
import time
from collections import defaultdict
from pathlib import Path

import pytest
from tests.e2e.processes import find_mosquitto, until
from tests.federation_world import World, small_definition
from tests.links.emulated import needs_tunnel
from tests.links.pipe import LinkShape
from tests.links.thin_plant import BrokerLog, thin_plant

from plantfed_coordinator.records import Applied, Served
from plantfed_lab.simulation.draws import stream
from plantfed_lab.simulation.links import Link, LinkQuality, Links
from plantfed_shared.bus.faults import Faults
from plantfed_shared.messages import Chunk
from plantfed_shared.topics import Kind
from plantfed_shared.wire import decode

CUTS = 50
WINDOW_BYTES = 128 * 1024
THIN = LinkQuality(uplink_bits_per_s=256_000, downlink_bits_per_s=256_000, latency_s=0.15)


class Ledger:
    """Which bytes of which content were sent how often."""

    def __init__(self) -> None:
        self.sent: dict[bytes, int] = defaultdict(int)
        self.distinct: dict[bytes, set[int]] = defaultdict(set)
        self.cuts: dict[bytes, int] = defaultdict(int)
        self.on_its_way: bytes | None = None

    def note(self, payload: bytes) -> None:
        """A CHUNK was handed to the broker."""
        envelope = decode(payload, Kind.CHUNK)
        assert isinstance(envelope.message, Chunk)
        digest, offset = envelope.message.content.digest, envelope.message.offset
        self.sent[digest] += len(envelope.tail)
        self.distinct[digest].update(range(offset, offset + len(envelope.tail)))
        self.on_its_way = digest

    def note_cut(self) -> None:
        """What was on its way just now may have to be sent again."""
        if self.on_its_way is not None:
            self.cuts[self.on_its_way] += 1

    def repeated(self) -> dict[bytes, int]:
        """Bytes sent again, by content."""
        return {digest: n - len(self.distinct[digest]) for digest, n in self.sent.items()}


@pytest.mark.parametrize("seed", [1, 2])
def test_fifty_cuts_on_the_virtual_clock(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    links = Links({"m00": Link(THIN, stream(seed, "m00", "losses"))})
    definition = small_definition(model={"hidden": [500, 300]})
    world = World(definition, 1, seed=seed, faults=Faults(), transit=links)
    ledger, rng, publish = Ledger(), random.Random(seed), world.broker.publish

    def note(client: str, topic: str, payload: bytes, now: float, *, retain: bool = False) -> bool:
        if topic.endswith("/chunk"):
            ledger.note(payload)
        return publish(client, topic, payload, now, retain=retain)

    monkeypatch.setattr(world.broker, "publish", note)
    for _ in range(CUTS):
        world.run(rng.uniform(1.0, 20.0))
        ledger.note_cut()
        world.broker.cut("m00", world.now)
        world.run(rng.uniform(0.1, 20.0))
        world.broker.mend("m00", world.now)
    releases = world.state().releases
    assert releases > 5
    assert world.run(300.0, until=lambda: world.state().releases == releases + 2)
    repeated = ledger.repeated()
    assert sum(ledger.cuts.values()) > CUTS / 2
    assert sum(repeated.values()) > 0
    assert all(n <= WINDOW_BYTES * ledger.cuts[digest] for digest, n in repeated.items())


@pytest.mark.soak
@pytest.mark.timeout(1800)
@needs_tunnel
@pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")
def test_fifty_cuts_of_a_real_link(tmp_path: Path) -> None:
    """Packets vanish for up to 12 s: often TCP gets over it, sometimes keep alive ends it."""
    rng = random.Random(1)
    with thin_plant(tmp_path, LinkShape(bits_per_s=1_000_000.0, rtt_s=0.1)) as (plant, link):
        plant.define(
            model={"hidden": [700, 350]},
            algorithm={"epochs": 1},
            schedule={"release_after_s": 0.2},
            compression={"coding": "plain"},
        )
        agent = plant.agents[0]
        agent.configure(broker={"keepalive_s": 10})
        assert plant.broker is not None
        log = BrokerLog(plant.broker)
        plant.start_coordinator().says("connected to the broker")
        agent.start()
        until(lambda: any(p.kind == "chunk" for p in log.read()), "the first chunk")
        for _ in range(CUTS):
            # how long the line is whole and cut is what is tried here, nothing waits for it
            time.sleep(rng.uniform(1.0, 7.0))
            link.cut()
            time.sleep(rng.uniform(0.2, 12.0))
            link.mend()
        plant.goes_on(2, 200)
        records = plant.journal()
        served = [r for r in records if isinstance(r, Served)]
        applied = [r for r in records if isinstance(r, Applied)]
        assert len(served) > 5
        chunks = [p for p in log.read() if p.kind == "chunk"]
        down = sum(p.n_bytes for p in chunks if p.to_client and p.client == "m1")
        up = sum(p.n_bytes for p in chunks if not p.to_client and p.client == "m1")
        model_bytes = 4 * plant.federation().model.size
        assert down <= 1.01 * len(served) * model_bytes + CUTS * WINDOW_BYTES
        assert up <= 1.01 * sum(len(r.change) for r in applied) + CUTS * WINDOW_BYTES
        assert agent.process.stop() == 0
