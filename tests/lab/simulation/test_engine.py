"""The engine's clock, timers and crashes, with hosts that do nothing else."""

import random
import re
from collections.abc import Callable

import pytest
from tests.federation_world import World, small_definition

from plantfed_lab.simulation.engine import Boundary, Host, Simulation, SpinningError
from plantfed_shared.bus.faults import Faults
from plantfed_shared.bus.memory import MemoryBroker
from plantfed_shared.bus.port import BusEvent, Received, SessionSettings
from plantfed_shared.messages import Bye
from plantfed_shared.topics import Kind
from plantfed_shared.wire import encode


class Ticker:
    """Wants to be woken at fixed times."""

    def __init__(self, simulation: Simulation, name: str, times: list[float]) -> None:
        self.client_id = name
        self.times = times
        self.woken: list[float] = []
        self.asked = 0
        self._simulation = simulation

    @property
    def is_down(self) -> bool:
        return False

    def start(self) -> None:
        self._simulation.watch_timer(self)

    def crash(self) -> None:
        raise AssertionError("nobody is killed here")

    def receive(self, event: BusEvent) -> None:
        raise AssertionError(event)

    def next_timer(self) -> float | None:
        self.asked += 1
        return self.times[0] if self.times else None

    def take_timer(self) -> None:
        self.woken.append(self._simulation.now)
        self.times.pop(0)


def simulation() -> Simulation:
    return Simulation(MemoryBroker(random.Random(0)))


def test_jobs_are_done_in_order_of_time_then_of_entry() -> None:
    world, done = simulation(), []
    jobs: list[Callable[[], None]] = [lambda n=n: done.append((n, world.now)) for n in range(4)]
    for delay_s, job in zip((3.0, 1.0, 3.0, 2.0), jobs, strict=True):
        world.after(delay_s, job)
    assert not world.run(2.5)
    assert (done, world.now) == ([(1, 1.0), (3, 2.0)], 2.5)
    assert world.run(5.0, until=lambda: len(done) == 4)
    assert done[2:] == [(0, 3.0), (2, 3.0)]


def test_a_timer_that_moves_later_wakes_nobody_early() -> None:
    world = simulation()
    host = Ticker(world, "a", [5.0])
    host.start()
    host.times = [8.0]
    world.watch_timer(host)
    world.run(20.0)
    assert host.woken == [8.0]


def test_a_timer_that_moves_earlier_wakes_once() -> None:
    world = simulation()
    host = Ticker(world, "a", [5.0, 9.0])
    host.start()
    host.times = [2.0, 9.0]
    world.watch_timer(host)
    world.run(20.0)
    assert host.woken == [2.0, 9.0]


def test_other_hosts_are_not_asked_for_their_timers() -> None:
    world = simulation()
    idle = [Ticker(world, f"idle {n}", [1000.0]) for n in range(50)]
    busy = Ticker(world, "busy", [float(n) for n in range(1, 100)])
    for host in [*idle, busy]:
        host.start()
    world.run(500.0)
    assert len(busy.woken) == 99
    assert {host.asked for host in idle} == {1}


def test_machines_that_spin_are_stopped() -> None:
    world = simulation()
    host = Ticker(world, "a", [1.0] * 10**6)
    host.start()
    with pytest.raises(SpinningError, match=r"at 1\.0 s"):
        world.run(20.0)


@pytest.mark.parametrize("delay_s", [0.0, 0.02])
def test_what_has_piled_up_for_a_host_that_was_away_is_no_spin(delay_s: float) -> None:
    world = World(small_definition(), 1, faults=Faults(delay_s=(delay_s, delay_s)))
    world.run(5.0)
    world.coordinator.crash()
    # of an incarnation that is over: each is answered, and nothing follows from the answer
    topic, old = world.topics.up("m00", Kind.BYE), encode(Bye(incarnation=0))
    for _ in range(1000):
        assert world.broker.publish("m00", topic, old, world.now)
    world.coordinator.start()
    world.run(20.0)
    assert world.agents["m00"].disk.applied_seq > 5


class Echo(Ticker):
    """Answers whatever comes, on the other's topic."""

    def start(self) -> None:
        self._simulation.hosts[self.client_id] = self
        self._simulation.broker.connect(SessionSettings(self.client_id, (self.client_id,)), 0.0)

    def receive(self, event: BusEvent) -> None:
        if isinstance(event, Received):
            other = "b" if self.client_id == "a" else "a"
            self._simulation.broker.publish(self.client_id, other, b"", self._simulation.now)


def test_machines_that_answer_each_other_without_end_are_stopped() -> None:
    world = simulation()
    for name in ("a", "b"):
        Echo(world, name, []).start()
    world.at(1.0, lambda: world.hosts["a"].receive(Received("a", b"", 0)))
    with pytest.raises(SpinningError, match=r"at 1\.0 s"):
        world.run(20.0)


def test_chance_is_asked_before_every_action_in_the_order_of_a_step() -> None:
    world = World(small_definition(), 1)
    asked: dict[tuple[str, float], str] = {}  # the messages of this world come one at a time

    def chance(host: Host, boundary: Boundary) -> bool:
        step = host.client_id, world.now
        asked[step] = asked.get(step, "") + boundary[0:2]
        return False

    world.simulation.chance_of_crash = chance
    world.run(20.0)
    for name in ("m00", world.coordinator.client_id):
        steps = [step for (who, _), step in asked.items() if who == name]
        # persist, publish any number of times, then acknowledge what has led to it
        assert all(re.fullmatch("(pe)*(pu)*(ac)?", step) for step in steps), steps
        assert any(re.fullmatch("(pe)+(pu)+ac", step) for step in steps)


@pytest.mark.parametrize("boundary", list(Boundary))
def test_a_host_killed_at_any_boundary_comes_back(boundary: Boundary) -> None:
    world = World(small_definition(), 2, seed=3)
    killed: list[str] = []

    def chance(host: Host, where: Boundary) -> bool:
        strikes = where is boundary and host.client_id not in killed and world.now > 5
        killed.extend([host.client_id] * strikes)
        return strikes

    world.simulation.chance_of_crash = chance
    assert world.run(300.0, until=lambda: len(killed) == 3)
    updates = world.coordinator.machine.state.updates if world.coordinator.machine else 0
    assert world.run(
        300.0,
        until=lambda: not world.coordinator.is_down and world.state().updates > updates + 10,
    )
    assert not any(agent.is_down for agent in world.agents.values())
