"""When the hosts of a simulation are away: without a link, or switched off."""

import random

from plantfed_lab.simulation.draws import exponential
from plantfed_lab.simulation.engine import Host, Simulation
from plantfed_lab.simulation.scenario import HostSection, RandomOffline, RandomRestarts
from plantfed_lab.simulation.stopwatch import Stopwatch


class Absences:
    """Takes one host's link away and kills it, as its scenario says.

    Args:
        simulation: the host is part of.
        host: it.

    Attributes:
        offline: runs while there is no link.
    """

    def __init__(self, simulation: Simulation, host: Host) -> None:
        self.offline = Stopwatch()
        self._simulation = simulation
        self._host = host
        self._reasons = 0

    def plan(self, section: HostSection, outages: random.Random, failures: random.Random) -> None:
        """Enter all absences into the simulation.

        Args:
            section: what the scenario says of the host.
            outages: random numbers for times without a link.
            failures: random numbers for restarts.
        """
        for window in section.offline_windows:
            self._go_offline_at(window.start_s, window.duration_s)
        if section.offline is not None:
            self._plan_outage(section.offline, outages)
        if section.restarts is not None:
            self._plan_restart(section.restarts, failures)

    def _plan_outage(self, law: RandomOffline, outages: random.Random) -> None:
        start = self._simulation.now + exponential(outages, law.mean_every_s)
        duration_s = exponential(outages, law.mean_duration_s)
        self._go_offline_at(start, duration_s)
        self._simulation.at(start + duration_s, lambda: self._plan_outage(law, outages))

    def _plan_restart(self, law: RandomRestarts, failures: random.Random) -> None:
        start = self._simulation.now + exponential(failures, law.mean_every_s)
        downtime_s = law.downtime_s.draw(failures)
        self._simulation.at(start, lambda: self._simulation.kill(self._host, downtime_s))
        self._simulation.at(start + downtime_s, lambda: self._plan_restart(law, failures))

    def _go_offline_at(self, start_s: float, duration_s: float) -> None:
        self._simulation.at(start_s, self._go_offline)
        self._simulation.at(start_s + duration_s, self._come_back)

    def _go_offline(self) -> None:
        # windows may overlap: the link is back when the last one ends
        self._reasons += 1
        if self._reasons == 1:
            self.offline.start(self._simulation.now)
            self._simulation.broker.cut(self._host.client_id, self._simulation.now)

    def _come_back(self) -> None:
        self._reasons -= 1
        if self._reasons == 0:
            self.offline.stop(self._simulation.now)
            self._simulation.broker.mend(self._host.client_id, self._simulation.now)
