"""What must be true of a federation whatever goes wrong, seen from outside.

While it runs: at every write of an agent that takes an update for applied, that update is in the
journal; nobody goes back in time; nobody who has lost nothing is given another incarnation.  From
time to time, and at the end: the laws in :mod:`tests.machines.invariants`, and no message in the
journal twice.  At the end: every update that was ever acknowledged is there once, and every dual,
every model and every average that was ever on a disk is, number by number, what
:class:`tests.faults.reference.Reference` makes of the updates that the agents made.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from tests.faults.plan import LOSING, Disturbance
from tests.faults.reference import Reference, covers
from tests.machines.invariants import (
    check_acknowledged,
    check_duals,
    check_replay,
    check_sequences,
    check_sums,
    check_versions,
)

from plantfed_agent.serving_model import newest_integers
from plantfed_agent.state import AgentState
from plantfed_coordinator.records import Applied, EpochStarted, IncarnationRaised, Record
from plantfed_coordinator.state import FederationState
from plantfed_coordinator.used_by import UsedBy
from plantfed_lab.simulation.agent_host import AgentHost
from plantfed_lab.simulation.coordinator_host import CoordinatorHost
from plantfed_shared import wire
from plantfed_shared.lattice import checksum
from plantfed_shared.messages import Hello, ModelName

if TYPE_CHECKING:
    from tests.faults.world import FaultWorld


FORKING = (Disturbance.TWIN, Disturbance.RESTORE_COORDINATOR)
"""After these an agent may for some time be with another journal than the one we look at."""


COMMITTED_WITHIN_S = 0.01
"""By then what a HELLO has led to is in the journal."""


class Violation(AssertionError):
    """Something that must never happen."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """An update that its agent has been told is applied."""

    agent: str
    digest: int


class Oracle:
    """Watches one world.

    Args:
        world: before anything has happened in it.

    Attributes:
        made: updates as their agents persisted them, by envelope digest.
        acknowledged: in order.
        forgiven: acknowledged ones that went with a backup or a second coordinator.
    """

    def __init__(self, world: "FaultWorld") -> None:
        self.made: dict[int, bytes] = {}
        self.acknowledged: list[Acknowledged] = []
        self.forgiven = 0
        self._world = world
        self._hellos: dict[str, list[tuple[float, Hello]]] = {}
        self._before: dict[str, AgentState] = {}
        self._with_model: dict[tuple[str, ModelName, int], AgentState] = {}
        self._journalled: dict[str, Counter[tuple[str, int]]] = {}
        self._gone: set[tuple[str, int]] = set()
        self._replaced: set[str] = set()
        self.watch(world.coordinator)
        for agent in world.agents.values():
            self._before[agent.name] = agent.disk
            agent.on_persist = self._persisted_by(agent)

    def watch(self, coordinator: CoordinatorHost) -> None:
        """Look at a coordinator's journal from now on; again when it was given another one."""
        self.forget(coordinator)
        known = Counter((r.agent, r.digest) for r in coordinator.journal if isinstance(r, Applied))
        self._journalled[coordinator.client_id] = known
        coordinator.observe = lambda record: self._recorded(known, record)

    def forget(self, coordinator: CoordinatorHost) -> None:
        """It is gone for good, and its journal with it."""
        self._gone.update(self._journalled.pop(coordinator.client_id, ()))

    def disk_replaced(self, agent: AgentHost) -> None:
        """It may know less than before."""
        self._before[agent.name] = agent.disk
        self._replaced.add(agent.name)

    def check(self) -> None:
        """What is true at any time at which the coordinator runs.

        Raises:
            AssertionError: it is not.
        """
        state = self._world.state()
        check_sums(state)
        check_versions(state)
        check_sequences(self._world.coordinator.journal)
        check_replay(self._world)
        if not self._world.plan.has(*FORKING):
            check_duals(self._world)
            check_acknowledged(self._world)
        for known in self._journalled.values():
            twice = [key for key, times in known.items() if times > 1]
            _demand(not twice, f"applied twice: {twice}")

    def check_at_the_end(self) -> None:
        """What is true once nothing has gone wrong for a while.

        Raises:
            AssertionError: it is not.
        """
        self.check()
        check_duals(self._world)
        check_acknowledged(self._world)
        self._check_nothing_is_lost()
        state = self._world.state()
        for agent in self._world.agents.values():
            own, theirs = agent.disk.dual, state.members[agent.name].contribution.dual
            same = not theirs.any() if own is None else np.array_equal(own, theirs)
            _demand(same, f"{agent.name} and the coordinator hold different duals")
        if covers(self._world.plan.definition):
            self._check_against_reference()

    def _check_nothing_is_lost(self) -> None:
        known = self._journalled[self._world.coordinator.client_id]
        for update in self.acknowledged:
            times = known[update.agent, update.digest]
            if not times and self._world.plan.has(*FORKING):
                self.forgiven += 1
                continue
            _demand(times == 1, f"acknowledged to {update.agent} and {times} times in the journal")

    def _check_against_reference(self) -> None:
        reference = Reference(self._world.plan.definition, self.made)
        reference.take(self._world.coordinator.journal)
        state = self._world.state()
        _demand(np.array_equal(reference.newest, state.model), "the model is not the reference's")
        for name, member in state.members.items():
            same = np.array_equal(reference.duals[name], member.contribution.dual)
            _demand(same, f"the dual of {name} is not the sum of what it has sent")
        for agent in self._world.agents.values():
            name, model = agent.disk.model_name, agent.disk.model
            if name is not None and name.epoch == state.epoch:
                _demand(name in reference.models, f"{agent.name} has a model nobody released")
                same = np.array_equal(reference.models[name], model)
                _demand(same, f"{agent.name} has other numbers than release {name.k}")
        if not self._world.plan.has(*FORKING):
            self._check_what_was_used(reference)

    def _check_what_was_used(self, reference: Reference) -> None:
        algorithm = self._world.plan.definition.algorithm
        told = self._told_by_the_journal()
        for (agent, name, incarnation), disk in self._with_model.items():
            found = newest_integers(disk, algorithm)
            ours = reference.used(agent, name, incarnation)
            same = found is not None and found.tolist() == ours
            _demand(same, f"with release {name.k} {agent} uses what the journal doesn't give")
            if agent in self._replaced:
                continue  # it says to nobody what it has until it fetches something
            # it may use one that it is served before it knows that its incarnation was raised
            told_of_it = told.get((agent, name.epoch.counter, name.k), set())
            same = checksum(np.array(ours, dtype=np.int64)) in told_of_it
            _demand(same, f"of {agent} with release {name.k} the product's replay tells otherwise")

    def _told_by_the_journal(self) -> dict[tuple[str, int, int], set[int]]:
        journal = self._world.coordinator.journal
        assert isinstance(journal[0], EpochStarted)
        state = FederationState.begin(journal[0])
        each = {agent: UsedBy(agent) for agent in self._world.agents}
        for record in journal:
            if record is not journal[0]:
                state.apply(record)
            for used in each.values():
                used.take(record, state)
        told: dict[tuple[str, int, int], set[int]] = {}
        for agent, used in each.items():
            for found in used.found(state):
                told.setdefault((agent, found.epoch, found.k), set()).add(found.checksum)
        return told

    # ------------------------------------------------------------------ as it happens

    def hello(self, agent: str, hello: Hello) -> None:
        """A HELLO comes to a coordinator, whenever it was said."""
        now = self._world.now
        lately = [(t, h) for t, h in self._hellos.get(agent, []) if t > now - COMMITTED_WITHIN_S]
        self._hellos[agent] = [*lately, (now, hello)]

    def _recorded(self, known: Counter[tuple[str, int]], record: Record) -> None:
        if isinstance(record, Applied):
            known[record.agent, record.digest] += 1
            _demand(known[record.agent, record.digest] == 1, "the same message is applied twice")
        elif isinstance(record, IncarnationRaised) and not self._world.plan.has(*LOSING):
            self._judge_fork(record)

    def _judge_fork(self, record: IncarnationRaised) -> None:
        """Only a HELLO that is old, or of an agent that never got its WELCOME, may lead to one."""
        name, disk = record.agent, self._world.agents[record.agent].disk
        if disk.incarnation == record.incarnation - 1:
            outstanding = wire.envelope_digest(disk.outstanding) if disk.outstanding else None
            now = disk.incarnation, disk.applied_seq, disk.dual_checksum, outstanding
            old = any(
                (h.incarnation, h.applied_seq, h.dual_checksum, h.outstanding) != now
                for _, h in self._hellos[name]
            )
            _demand(old, f"{name} has lost nothing and could not be reconciled")

    def _persisted_by(self, agent: AgentHost) -> Callable[[], None]:
        return lambda: self._persisted(agent)

    def _persisted(self, agent: AgentHost) -> None:
        before, after = self._before[agent.name], agent.disk
        self._before[agent.name] = after
        name = after.model_name
        # in an epoch that has begun and has no model here yet, it is in other units
        if name is not None and name.epoch == after.epoch and after.model is not None:
            self._with_model[agent.name, name, after.incarnation] = after
        if after.outstanding is not None and after.outstanding is not before.outstanding:
            self.made[wire.envelope_digest(after.outstanding)] = after.outstanding
        same_incarnation = after.incarnation == before.incarnation
        if same_incarnation and after.applied_seq != before.applied_seq:
            self._taken_for_applied(agent.name, before, after)
        if before.epoch is not None and after.epoch is not None:
            _demand(after.epoch.counter >= before.epoch.counter, "an agent went to an older epoch")
        old, new = before.model_name, after.model_name
        if old is not None and new is not None:
            forward = (new.epoch.counter, new.k) >= (old.epoch.counter, old.k)
            _demand(forward, f"{agent.name} went back from {old} to {new}")

    def _taken_for_applied(self, agent: str, before: AgentState, after: AgentState) -> None:
        _demand(after.applied_seq == before.applied_seq + 1, f"{agent} skipped an update")
        _demand(before.outstanding is not None, f"{agent} was told of an update it never made")
        digest = wire.envelope_digest(before.outstanding or b"")
        there = any(known[agent, digest] for known in self._journalled.values())
        _demand(
            there or (agent, digest) in self._gone, f"acknowledged to {agent} but in no journal"
        )
        self.acknowledged.append(Acknowledged(agent, digest))


def _demand(holds: bool, what: str) -> None:
    if not holds:
        raise Violation(what)
