"""An agent with a rate limit on a real broker, measured on the wire by a relay that counts."""

import asyncio
from contextlib import closing
from pathlib import Path
from time import monotonic

import numpy as np
from tests.contract.brokers import HOST, TOPICS, MqttWorld, free_port, mosquitto, password
from tests.contract.client import on_loop
from tests.contract.conftest import needs_mosquitto
from tests.federation_world import small_definition

from plantfed_agent.agent_store import AgentStore
from plantfed_agent.budget import LinkLimits
from plantfed_agent.link_meter import LinkMeter
from plantfed_agent.machine import AgentMachine
from plantfed_agent.pace import Pace
from plantfed_agent.service import AgentService
from plantfed_agent.training import TrainingOutcome, TrainingTask
from plantfed_coordinator.founding import found_or_continue
from plantfed_coordinator.journal import Journal
from plantfed_coordinator.machine import FederationMachine
from plantfed_coordinator.service import CoordinatorService
from plantfed_shared.bus.port import BrokerAddress, SessionSettings
from plantfed_shared.day_ledger import DayLedger
from plantfed_shared.topics import COORDINATOR

AGENT = "press-01"
RATE = 4000.0
"""32 kbit/s."""
SECONDS = 16.0
UPDATE_NUMBERS = 7202

Crossing = tuple[float, int]


class CountingRelay:
    """Carries bytes to the broker and back, and notes when how many came by."""

    def __init__(self, broker_port: int) -> None:
        self.ups: list[Crossing] = []
        self.downs: list[Crossing] = []
        self._broker_port = broker_port
        self._tasks: list[asyncio.Task[None]] = []

    async def listen(self) -> int:
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        self._server.close()
        await asyncio.wait(self._tasks, timeout=5)

    async def _accept(
        self, from_agent: asyncio.StreamReader, to_agent: asyncio.StreamWriter
    ) -> None:
        from_broker, to_broker = await asyncio.open_connection(HOST, self._broker_port)
        self._tasks += [
            asyncio.create_task(self._relay(from_agent, to_broker, self.ups)),
            asyncio.create_task(self._relay(from_broker, to_agent, self.downs)),
        ]

    async def _relay(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: list[Crossing]
    ) -> None:
        while some := await reader.read(65536):
            seen.append((monotonic(), len(some)))
            writer.write(some)
            await writer.drain()
        writer.close()


class Drifting:
    """A trainer whose every round moves all numbers."""

    running = False

    async def run(self, task: TrainingTask) -> TrainingOutcome:
        rng = np.random.default_rng(task.seq)
        shared = (task.base + rng.normal(size=task.base.size)).astype(np.float32)
        return TrainingOutcome(shared, np.zeros(9, np.float32), 0.5, None, 7, "rows", 0.0)

    async def stop(self) -> None:
        pass


def most_in_ten_seconds(crossings: list[Crossing]) -> int:
    return max(
        sum(n_bytes for at, n_bytes in crossings if begin <= at < begin + 10.0)
        for begin, _ in crossings
    )


def coordinator(folder: Path, world: MqttWorld) -> tuple[CoordinatorService, Journal]:
    definition = small_definition(
        federation=TOPICS.federation,
        model={"kind": "dense", "hidden": (1200, 2)},
        schedule={"arrivals": 1},
    )
    journal = Journal(folder, lambda: 0.0)
    machine: FederationMachine = found_or_continue(
        journal, definition, TOPICS, lambda: 7, monotonic(), "federation.toml"
    )
    session = SessionSettings(COORDINATOR, TOPICS.coordinator_subscriptions(), persistent=True)
    return CoordinatorService(machine, world.bus(session), journal, TOPICS), journal


def agent(store: AgentStore, world: MqttWorld, port: int) -> AgentService:
    limits = LinkLimits(bytes_per_s=RATE)
    machine = AgentMachine(AGENT, TOPICS, store.load(), Pace(), "test", limits=limits)
    bus = world.bus(
        SessionSettings(AGENT, TOPICS.agent_subscriptions(AGENT), keepalive_s=5),
        BrokerAddress(HOST, port, AGENT, password(AGENT)),
    )
    meter = LinkMeter(limits, TOPICS, DayLedger({}))
    return AgentService(machine, bus, Drifting(), store, lambda: "rows", meter)


@needs_mosquitto
@on_loop
async def test_a_rate_limit_holds_on_the_wire(tmp_path: Path) -> None:
    async with MqttWorld(mosquitto(tmp_path), free_port(tmp_path)).running() as world:
        relay = CountingRelay(world.port)
        port = await relay.listen()
        stopped = asyncio.Event()
        centre, journal = coordinator(tmp_path / "centre", world)
        with closing(journal), closing(AgentStore(tmp_path / "agent")) as store:
            press = agent(store, world, port)
            serving = asyncio.create_task(centre.run(stopped))
            working = asyncio.create_task(press.run(stopped))
            await asyncio.wait([serving, working], timeout=SECONDS)
            stopped.set()
            await asyncio.gather(serving, working)
            updates, counters = store.load().applied_seq, store.load_counters()
        await relay.close()
    up, down = (sum(n for _, n in way) for way in (relay.ups, relay.downs))
    assert most_in_ten_seconds(relay.ups) <= 1.05 * 10 * RATE
    assert most_in_ten_seconds(relay.downs) <= 1.05 * 10 * RATE
    # it got somewhere: at least one update went up in chunks, and its model down
    assert updates >= 1
    assert up > 2 * UPDATE_NUMBERS
    # what the agent believes it has spent is what crossed the wire
    assert abs(counters["day_0_up"] - up) <= 64
    assert abs(counters["day_0_down"] - down) <= 64
