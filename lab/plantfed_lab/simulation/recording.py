"""Keeps book of a simulation: the coordinator's records, the links' bytes, the machines' scores.

A score is computed again only after the model or the head of its machine has changed.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from plantfed_agent.state import AgentState
from plantfed_coordinator.records import Applied, EpochStarted, Record, Released
from plantfed_lab.simulation.absences import Absences
from plantfed_lab.simulation.agent_host import AgentHost
from plantfed_lab.simulation.engine import Simulation
from plantfed_lab.simulation.links import Link
from plantfed_lab.simulation.result import CurvePoint, MachineConditions, MachineResult, Rest
from plantfed_lab.simulation.sites import Site

ROUNDS_IN_VAIN = 20
"""After so many of each machine without an update none is to be hoped for: a round that failed is
done again with the same numbers, one whose update was rejected with another head only."""


@dataclass
class SimulatedMachine:
    """One machine with all that is known of it.

    Attributes:
        site: its rows.
        host: its computer.
        link: to the broker.
        absences: of it.
        conditions: drawn for it.
        staleness: its applied updates by staleness.
        last_update: when it was applied, and the bytes until then.
        rounds_in_vain: finished since anybody's last update or release.
    """

    site: Site
    host: AgentHost
    link: Link
    absences: Absences
    conditions: MachineConditions
    staleness: Counter[int] = field(default_factory=Counter)
    last_update: Rest | None = None
    rounds_in_vain: int = 0
    _scored: AgentState | None = None
    _score: float | None = None

    @property
    def is_online(self) -> bool:
        """Whether its agent runs and has a link."""
        return not self.host.is_down and not self.absences.offline.is_running

    def take_update(self, staleness: int, now: float) -> None:
        """An update of it was applied."""
        use = self.link.use
        self.staleness[staleness] += 1
        self.last_update = Rest(since_s=now, bytes_up=use.bytes_up, bytes_down=use.bytes_down)

    def score(self) -> float | None:
        """Of the model its agent would serve now, on its own test rows."""
        disk, scored = self.host.disk, self._scored
        if scored is None or disk.model is not scored.model or disk.head is not scored.head:
            self._score, self._scored = self.site.score(disk), disk
        return self._score

    def result(self, now: float, *, final: bool) -> MachineResult:
        """All that happened to it.

        Args:
            now: virtual second.
            final: the federation has made its last release.
        """
        limit = self.conditions.max_rounds_without_new_rows
        worn_out = limit is not None and self.host.disk.rounds_on_these_rows >= limit
        disk, use = self.host.disk, self.link.use
        updates = self.staleness.total()
        return MachineResult(
            id=self.site.id,
            conditions=self.conditions,
            updates=updates,
            rounds=disk.rounds,
            failed_rounds=self.host.failed_rounds,
            mean_staleness=sum(n * count for n, count in self.staleness.items()) / updates
            if updates
            else None,
            staleness_counts=counts(self.staleness),
            last_update_s=self.last_update.since_s if self.last_update else None,
            rest=self.last_update if worn_out or final else None,
            bytes_up=use.bytes_up,
            bytes_down=use.bytes_down,
            bytes_again=use.bytes_again,
            messages_up=use.messages_up,
            messages_down=use.messages_down,
            seconds_offline=self.absences.offline.seconds(now),
            seconds_down=self.host.down.seconds(now),
            seconds_computing=self.host.computing.seconds(now),
            starts=self.host.starts,
            k=disk.model_name.k if disk.model_name else None,
            score=self.score(),
        )


class Recorder:
    """Takes down what happens.

    Args:
        simulation: that is recorded.
        machines: of it.

    Attributes:
        k: number of the newest release.
        releases: made so far.
        updates: applied so far.
        last_update_s: virtual second of the last one.
        trouble: of one machine, once every round is in vain.
        curve: of the moments that were asked for.
    """

    def __init__(self, simulation: Simulation, machines: Sequence[SimulatedMachine]) -> None:
        self.k = 0
        self.releases = 0
        self.updates = 0
        self.last_update_s = 0.0
        self.trouble: str | None = None
        self.curve: list[CurvePoint] = []
        self._simulation = simulation
        self._machines = machines
        self._by_id = {machine.site.id: machine for machine in machines}
        self._in_vain: set[str] = set()
        self._all_released = True
        for machine in machines:
            machine.host.on_round = partial(self._round_is_over, machine)

    def take(self, record: Record) -> None:
        """Something was persisted by the coordinator."""
        match record:
            case Applied(agent=agent, base_k=base_k):
                self.last_update_s = self._simulation.now
                self._by_id[agent].take_update(self.k - base_k, self.last_update_s)
                self.updates += 1
                self._begin_anew(all_released=False)
            case Released(k=k):
                self.k = k
                self.releases += 1
                self._begin_anew(all_released=True)
            case EpochStarted(k=k):
                self.k = k

    def _begin_anew(self, *, all_released: bool) -> None:
        self._all_released = all_released
        for name in self._in_vain:
            self._by_id[name].rounds_in_vain = 0
        self._in_vain.clear()

    def _round_is_over(self, machine: SimulatedMachine) -> None:
        self._in_vain.add(machine.site.id)
        machine.rounds_in_vain += 1
        # what waits to be released may be what they need
        if machine.rounds_in_vain >= ROUNDS_IN_VAIN and self._all_released:
            hopeless = all(
                m.rounds_in_vain >= ROUNDS_IN_VAIN or (m.is_online and m.host.is_idle)
                for m in self._machines
            )
            if hopeless:
                self.trouble = f"machine {machine.site.id}: {machine.host.trouble}"

    def add_point(self) -> CurvePoint:
        """Take down this moment; a second time at the same one replaces the first."""
        now = self._simulation.now
        scores = [s for s in (m.score() for m in self._machines) if s is not None]
        uses = [m.link.use for m in self._machines]
        point = CurvePoint(
            seconds=now,
            k=self.k,
            releases=self.releases,
            updates=self.updates,
            bytes_up=sum(use.bytes_up for use in uses),
            bytes_down=sum(use.bytes_down for use in uses),
            online=sum(m.is_online for m in self._machines),
            scored=len(scores),
            mean_score=sum(scores) / len(scores) if scores else None,
            worst_score=min(scores, default=None),
        )
        if self.curve and self.curve[-1].seconds == now:
            self.curve.pop()
        self.curve.append(point)
        return point


def counts(staleness: Counter[int]) -> tuple[int, ...]:
    """Numbers of updates with staleness 0, 1, 2, ..."""
    return tuple(staleness[n] for n in range(max(staleness, default=-1) + 1))
