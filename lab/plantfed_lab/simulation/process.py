"""A process of the product on a computer of a simulation: what agents and coordinator share.

The order of every step is that of the services: persist, publish, acknowledge.  Between any two of
them the engine may kill the process; it then starts again from its disk, and from nothing else.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from plantfed_lab.simulation.engine import Boundary, Simulation, WriteOutcome
from plantfed_shared.bus.port import BusEvent, Received


class Machine(Protocol):
    """One of the product's pure machines."""

    def handle(self, event: Any, now: float) -> list[Any]:
        """Take in one event; returns what to do."""
        ...

    def next_timer(self) -> float | None:
        """When it wants to be told that time has passed, by its own clock."""
        ...


MachineT = TypeVar("MachineT", bound=Machine)
EventT = TypeVar("EventT")
ActionT = TypeVar("ActionT")


class ProcessHost(ABC, Generic[MachineT, EventT, ActionT]):
    """A computer with one of the machines, a monotonic clock and a disk.

    Args:
        simulation: it is part of.
        client_id: of its machine on the broker.

    Attributes:
        machine: the process, or None while it is down.
        clock_ahead_s: how far its clock is ahead of the simulation's, seconds.
    """

    def __init__(self, simulation: Simulation, client_id: str) -> None:
        self.client_id = client_id
        self.machine: MachineT | None = None
        self.clock_ahead_s = 0.0
        self._simulation = simulation

    @property
    def is_down(self) -> bool:
        """Whether no process is running on it."""
        return self.machine is None

    @property
    def monotonic_s(self) -> float:
        """What its monotonic clock says."""
        return self._simulation.now + self.clock_ahead_s

    def jump_clock(self, seconds: float) -> None:
        """Its monotonic clock leaps forward, as when a virtual machine is resumed.

        Args:
            seconds: not negative: it is monotonic.
        """
        self.clock_ahead_s += seconds
        self._simulation.watch_timer(self)

    @abstractmethod
    def start(self) -> None:
        """Start the process from what is on its disk."""

    @abstractmethod
    def crash(self) -> None:
        """Kill the process; what it has persisted stays."""

    def receive(self, event: BusEvent) -> None:
        """Take in what the broker delivers; acknowledged once all that follows from it is done."""
        told = self._event_of(event)
        if told is not None and self.handle(told) and isinstance(event, Received):
            self._acknowledge(event.token)

    def next_timer(self) -> float | None:
        """When the machine wants to be told that time has passed, virtual seconds."""
        due = None if self.machine is None else self.machine.next_timer()
        return due if due is None or not self.clock_ahead_s else self._virtual(due)

    def take_timer(self) -> None:
        """Tell the machine that time has passed."""
        self.handle(self._time_has_passed())

    def handle(self, event: EventT) -> bool:
        """Tell it something and do what it asks for; False if it is down at the end."""
        if self.machine is None:
            return False
        actions = self.machine.handle(event, self.monotonic_s)
        if actions:
            self._carry_out(actions)
        self._simulation.watch_timer(self)
        return self.machine is not None

    @abstractmethod
    def _event_of(self, event: BusEvent) -> EventT | None:
        """What the machine is told of something the broker delivers."""

    @abstractmethod
    def _time_has_passed(self) -> EventT:
        """What it is told when a timer is due."""

    @abstractmethod
    def _carry_out(self, actions: Sequence[ActionT]) -> None:
        """Persist, then publish, as long as the process lives."""

    def _commit(self, write: Callable[[], None]) -> bool:
        """Write something in one transaction; returns whether the process lives on.

        A store that can't be written ends the service, as it does in the product: what its machine
        holds by then is ahead of the disk.
        """
        outcome = self._simulation.outcome_of_write(self)
        if outcome is not WriteOutcome.FAILED:
            write()
        if outcome is not WriteOutcome.DONE:
            self._simulation.kill(self, self._simulation.downtime_s())
        return not self.is_down

    def _publish(self, topic: str, payload: bytes, *, retain: bool) -> bool:
        """Give the broker a message; returns whether the process lives on."""
        if not self._simulation.survives(self, Boundary.PUBLISH):
            return False
        now = self._simulation.now
        self._simulation.broker.publish(self.client_id, topic, payload, now, retain=retain)
        return True

    def _acknowledge(self, token: int) -> None:
        if self._simulation.survives(self, Boundary.ACKNOWLEDGE):
            self._simulation.broker.acknowledge(self.client_id, token)

    def _virtual(self, due: float) -> float:
        """A virtual time at which its clock has come to ``due``, in spite of rounding."""
        if due <= self.monotonic_s:
            return self._simulation.now
        time = due - self.clock_ahead_s
        while time + self.clock_ahead_s < due:
            time += max(math.ulp(due), math.ulp(time))
        return time
