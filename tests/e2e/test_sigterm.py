"""SIGTERM: what is under way is put in order, and the exit code is 0 within five seconds."""

import asyncio
import random
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from tests.e2e.plant import FEDERATION, Agent, Plant, rows, write_csv
from tests.e2e.processes import STOP_WITHIN_S, Running, until
from tests.newcomers import newcomer

from plantfed_shared.bus.mqtt import MqttBus
from plantfed_shared.bus.port import BrokerAddress, Connected, SessionSettings
from plantfed_shared.topics import Kind, Topics
from plantfed_shared.wire import encode


def stopped_in_order(service: Running) -> float:
    """Send SIGTERM; seconds until it has ended with 0."""
    began = time.monotonic()
    assert service.stop(signal.SIGTERM) == 0, service.log
    took = time.monotonic() - began
    assert took < STOP_WITHIN_S
    assert "Traceback" not in service.log
    return took


def test_an_agent_that_trains(plant: Plant, agent: Agent) -> None:
    """A round of many minutes is not waited for, and its process is not left behind."""
    plant.define(algorithm={"epochs": 1000})
    write_csv(agent.rows_file, rows(50_000, seed=1))
    agent.configure(training={"nice": 0})
    plant.start()
    worker = until(agent.worker, "the training process")
    until(lambda: sum(worker.cpu_times()[:2]) > 2.0, "it is deep in its first round")
    stopped_in_order(agent.process)
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE
    assert agent.rounds() == 0


def flood(plant: Plant, agent: Agent, n_messages: int) -> None:
    """Publish as an agent as fast as the broker takes it: HELLOs, each of which is answered."""

    async def work() -> None:
        password = (agent.folder / "password").read_text().strip()
        address = BrokerAddress("127.0.0.1", plant.port, agent.id, password)
        session = SessionSettings(f"{FEDERATION}-{agent.id}", ())
        bus = MqttBus(address, session, rng=random.Random(1))
        await bus.open()
        assert isinstance(await bus.next_event(), Connected)
        topic = Topics(FEDERATION).up(agent.id, Kind.HELLO)
        for number in range(n_messages):
            bus.publish(topic, encode(newcomer(f"flood {number}")))
            if number % 50 == 0:
                await asyncio.sleep(0)
        await bus.close()

    asyncio.run(work())


def test_a_coordinator_under_load(tmp_path: Path) -> None:
    """What was received and not yet looked at is not waited for: the broker keeps it."""
    with Plant(tmp_path, agents=2) as plant:
        plant.start_broker()
        coordinator = plant.start_coordinator()
        coordinator.says("connected to the broker")
        for agent in plant.agents:
            agent.configure(training={"min_interval_s": 0.0, "nice": 0})
        plant.agents[0].start()
        plant.goes_on(2)
        coordinator.pause()  # meanwhile a queue builds up
        flood(plant, plant.agents[1], 900)
        coordinator.send(signal.SIGCONT)
        stopped_in_order(coordinator)
        releases = plant.releases()
        plant.start_coordinator()
        plant.goes_on(2)
        assert plant.releases() > releases


@contextmanager
def deaf_listener() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield listener.getsockname()[1]


def both(plant: Plant, agent: Agent) -> list[Running]:
    assert plant.coordinator is not None
    return [plant.coordinator, agent.process]


@pytest.mark.parametrize("broker", ["absent", "deaf"])
def test_without_a_broker_from_the_start(plant: Plant, agent: Agent, broker: str) -> None:
    with deaf_listener() as port:
        if broker == "deaf":
            plant.configure(broker={"url": f"mqtt://127.0.0.1:{port}"})
            agent.configure(broker={"url": f"mqtt://127.0.0.1:{port}"})
        plant.start_coordinator()
        agent.start()
        if broker == "absent":
            for service in both(plant, agent):
                service.says("trying again")
        else:
            for service in both(plant, agent):
                until(lambda s=service: connects_to(s, port), "it connects")  # type: ignore[misc]
        for service in both(plant, agent):
            stopped_in_order(service)


def connects_to(service: Running, port: int) -> bool:
    found = psutil.Process(service.pid).net_connections("tcp")
    return any(c.raddr and c.raddr.port == port for c in found)


@pytest.mark.parametrize("broker", ["killed", "hung"])
def test_without_a_broker_all_of_a_sudden(plant: Plant, agent: Agent, broker: str) -> None:
    """A hung one, which still has the connections and answers nothing, is the slowest of all."""
    plant.start()
    plant.goes_on(2)
    assert plant.broker is not None
    servers = [psutil.Process(plant.broker.pid), *plant.broker.children()]
    for server in reversed(servers):
        server.suspend()
    if broker == "killed":
        for server in servers:
            server.kill()
        for service in both(plant, agent):
            service.says("no connection to the broker")
    for service in both(plant, agent):
        stopped_in_order(service)
    for server in servers:
        if broker == "hung":
            server.resume()


def test_while_it_starts(plant: Plant, agent: Agent) -> None:
    """Before there is anything to put in order the signal may end it as it ends any program."""
    for delay_s in (0.1, 0.6):
        for service in (plant.start_coordinator(), agent.start()):
            time.sleep(delay_s)  # not to wait for anything: any moment is as good
            service.send(signal.SIGTERM)
            assert service.ends(STOP_WITHIN_S) in (0, -signal.SIGTERM), service.log
            assert service.log == "" or "Traceback" not in service.log
