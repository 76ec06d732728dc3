"""A mistake inside the bus ends the service that uses it, which its supervisor then restarts."""

import asyncio
import random
from pathlib import Path
from time import monotonic

import pytest
from tests.contract.brokers import HOST, free_port
from tests.contract.client import on_loop
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
from plantfed_coordinator.service import CoordinatorService
from plantfed_shared.bus.mqtt import MqttBus
from plantfed_shared.bus.port import BrokerAddress, SessionSettings
from plantfed_shared.day_ledger import DayLedger
from plantfed_shared.topics import Topics

TOPICS = Topics("toy")


class Broken(random.Random):
    """Stands for any mistake in the keeping of connections."""

    def uniform(self, a: float, b: float) -> float:
        raise ArithmeticError("a mistake")


class NoTrainer:
    async def run(self, task: TrainingTask) -> TrainingOutcome:
        raise AssertionError(task)

    async def stop(self) -> None:
        pass


def failing_bus(folder: Path) -> MqttBus:
    address = BrokerAddress(HOST, free_port(folder))
    return MqttBus(address, SessionSettings("press-01", ()), rng=Broken())


@on_loop
async def test_the_agent_ends(tmp_path: Path) -> None:
    store = AgentStore(tmp_path / "state")
    machine = AgentMachine("press-01", TOPICS, store.load(), Pace(), "test")
    meter = LinkMeter(LinkLimits(), TOPICS, DayLedger({}))
    bus = failing_bus(tmp_path)
    service = AgentService(machine, bus, NoTrainer(), store, lambda: "rows", meter)
    with pytest.raises(ArithmeticError, match="a mistake"):
        await service.run(asyncio.Event())
    store.close()


@on_loop
async def test_the_coordinator_ends(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "state", lambda: 0.0)
    machine = found_or_continue(journal, small_definition(), TOPICS, lambda: 7, monotonic(), "")
    service = CoordinatorService(machine, failing_bus(tmp_path), journal, TOPICS)
    with pytest.raises(ArithmeticError, match="a mistake"):
        await service.run(asyncio.Event())
    journal.close()
