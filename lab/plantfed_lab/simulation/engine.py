"""The engine of a simulation: a virtual clock, a broker, and hosts that are told what is due.

Nothing here knows the protocol.  An event costs the same however many hosts there are: timers lie
in one heap with all other jobs and are asked for again only at the host that was told something.
"""

from collections.abc import Callable
from enum import StrEnum
from functools import partial
from heapq import heappop, heappush
from typing import Protocol

from plantfed_shared.bus.memory import MemoryBroker
from plantfed_shared.bus.port import BusEvent

Job = Callable[[], None]

SPINS_PER_HOST = 100
SPIN_LENGTH = 20
"""More events than this while the clock stands, and a longer chain of them that cause each other,
are no federation at work but one that spins.

Many alone are not: what has piled up for a host while it was away comes at once.
"""


class Boundary(StrEnum):
    """What a host is about to do when chance may crash it."""

    PERSIST = "persist"
    PUBLISH = "publish"
    ACKNOWLEDGE = "acknowledge"


class WriteOutcome(StrEnum):
    """What becomes of a transaction on a host's disk.

    Stores are transactional, so that one that is torn off in its middle is there whole or not at
    all after the next start (``tests/faults/test_torn_writes.py``): there is no fourth outcome.
    """

    DONE = "done"
    FAILED = "failed"
    """Nothing is written, and the process ends: a full disk, an error, a write cut off early."""
    UNSURE = "unsure"
    """All is written, and the process ends without knowing: an error of the last sync."""


class Host(Protocol):
    """A computer with one of the product's machines, which may be down.

    Attributes:
        client_id: of its machine on the broker.
    """

    client_id: str

    @property
    def is_down(self) -> bool:
        """Whether no process is running on it."""
        ...

    def start(self) -> None:
        """Start the process from what is on its disk."""
        ...

    def crash(self) -> None:
        """Kill the process; what it has persisted stays."""
        ...

    def receive(self, event: BusEvent) -> None:
        """Take in what the broker delivers."""
        ...

    def next_timer(self) -> float | None:
        """When its machine wants to be told that time has passed; None while it is down."""
        ...

    def take_timer(self) -> None:
        """Tell its machine that time has passed."""
        ...


class SpinningError(RuntimeError):
    """The machines go on answering each other without time passing: a bug in one of them."""


class _Chain:
    """How long a chain of events is that cause each other without the clock moving."""

    def __init__(self) -> None:
        self.length = 0
        self._newest = 0

    def begin(self, newest: int) -> None:
        """What has a higher number than this is caused by what comes now."""
        self.length, self._newest = 0, newest

    def take(self, number: int, newest: int) -> None:
        """An event comes, and this is the number of the newest that is still to come."""
        if number > self._newest:
            self.length, self._newest = self.length + 1, newest


class Simulation:
    """Hosts on a broker under a virtual clock.

    Args:
        broker: all hosts are its clients.

    Attributes:
        now: virtual seconds since the start.
        hosts: by client id; a host enters itself when it is started.
        chance_of_crash: asked at every boundary between two actions of a host; True kills it there.
        outcome_of_write: asked at every transaction of a host.
        on_event: called after every event, however little time it takes.
        downtime_s: draws how long a host that was killed at a boundary stays down, seconds.
    """

    def __init__(self, broker: MemoryBroker) -> None:
        self.now = 0.0
        self.broker = broker
        self.hosts: dict[str, Host] = {}
        self.chance_of_crash: Callable[[Host, Boundary], bool] = lambda _host, _boundary: False
        self.outcome_of_write: Callable[[Host], WriteOutcome] = lambda _host: WriteOutcome.DONE
        self.downtime_s: Callable[[], float] = lambda: 1.0
        self.on_event: Callable[[], None] = lambda: None
        self._jobs: list[tuple[float, int, Job]] = []
        self._entered = 0
        self._wakes: dict[Host, float] = {}
        self._events_now = 0
        self._jobs_now = _Chain()
        self._deliveries_now = _Chain()

    def at(self, time: float, job: Job) -> None:
        """Do a job at a virtual time; at once if that is past."""
        self._entered += 1
        heappush(self._jobs, (max(time, self.now), self._entered, job))

    def after(self, delay_s: float, job: Job) -> None:
        """Do a job so many virtual seconds from now."""
        self.at(self.now + delay_s, job)

    def watch_timer(self, host: Host) -> None:
        """Ask a host that was told something when it wants to be woken."""
        due = host.next_timer()
        if due is None:
            return
        planned = self._wakes.get(host)
        # an earlier wake finds out by itself that the timer has moved
        if planned is None or due < planned:
            self._wakes[host] = due
            self.at(due, partial(self._wake, host, due))

    def kill(self, host: Host, downtime_s: float) -> None:
        """Crash a host that runs; it starts again after so many virtual seconds."""
        if host.is_down:
            return
        host.crash()
        self.after(downtime_s, lambda: host.start() if host.is_down else None)

    def survives(self, host: Host, boundary: Boundary) -> bool:
        """Give chance an opportunity to crash a host; returns whether it still runs."""
        if self.chance_of_crash(host, boundary):
            self.kill(host, self.downtime_s())
        return not host.is_down

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Let virtual time pass.

        Args:
            seconds: at most so many.
            until: asked whenever all that was due at one time is done; True ends the run.

        Returns:
            Whether ``until`` became true.

        Raises:
            SpinningError: the machines spin.
        """
        end = self.now + seconds
        while until is None or not until():
            due = self._next_due()
            if due is None or due > end:
                self.now = end
                return until is not None and until()
            if due > self.now:
                self.now, self._events_now = due, 0
                self._jobs_now.begin(self._entered)
                self._deliveries_now.begin(self.broker.sent)
            self._do_all_due()
        return True

    def _next_due(self) -> float | None:
        delivery = self.broker.next_due()
        if not self._jobs:
            return delivery
        job = self._jobs[0][0]
        return job if delivery is None else min(job, delivery)

    def _do_all_due(self) -> None:
        while True:
            if self._jobs and self._jobs[0][0] <= self.now:
                _, number, job = heappop(self._jobs)
                self._jobs_now.take(number, self._entered)
                job()
            elif (delivery := self.broker.pop_due(self.now)) is not None:
                self._deliveries_now.take(self.broker.taken, self.broker.sent)
                self._jobs_now.begin(self._entered)
                self.hosts[delivery.client_id].receive(delivery.event)
            else:
                return
            self.on_event()
            self._events_now += 1
            self._stop_spinning()

    def _stop_spinning(self) -> None:
        if self._events_now > SPINS_PER_HOST * (1 + len(self.hosts)):
            longest = max(self._jobs_now.length, self._deliveries_now.length)
            if longest > SPIN_LENGTH:
                raise SpinningError(f"the machines spin at {self.now} s")

    def _wake(self, host: Host, planned: float) -> None:
        if self._wakes.get(host) != planned:
            return  # an earlier wake has taken its place
        del self._wakes[host]
        due = host.next_timer()
        if due is not None and due <= self.now:
            host.take_timer()
        self.watch_timer(host)
