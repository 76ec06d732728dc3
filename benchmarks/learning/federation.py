"""One federation on one task: the product's own machines in a simulation, with real training."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count

import numpy as np
from numpy.typing import NDArray

from benchmarks.learning import reference_draws
from benchmarks.learning.tasks import Task
from plantfed_agent.class_prior import class_prior
from plantfed_agent.comparing import Judge
from plantfed_agent.guard import ServedModel
from plantfed_agent.inprocess import carry_out
from plantfed_agent.kernel_source import Kernels
from plantfed_agent.row_order import RowOrder, row_order
from plantfed_agent.samples import Samples
from plantfed_agent.scores import score
from plantfed_agent.serving_model import newest_integers
from plantfed_agent.state import with_applied, with_model
from plantfed_agent.training import TrainingOutcome, TrainingTask
from plantfed_coordinator.records import Applied, EpochStarted, Record, Released
from plantfed_coordinator.state import FederationState
from plantfed_lab.simulation.agent_host import AgentHost
from plantfed_lab.simulation.coordinator_host import CoordinatorHost
from plantfed_lab.simulation.engine import Simulation
from plantfed_lab.simulation.links import Link, LinkQuality, Links
from plantfed_shared.bus.memory import MemoryBroker
from plantfed_shared.definition import FederationDefinition
from plantfed_shared.messages import Epoch
from plantfed_shared.parameters import Parameters
from plantfed_shared.topics import Topics

FAST = LinkQuality(latency_s=0.01)


@dataclass(frozen=True, slots=True)
class Computer:
    """What a machine has to work with.

    Attributes:
        compute_s: draws how long a round takes, virtual seconds.
        link: to the broker.
    """

    compute_s: Callable[[], float] = lambda: 1.0
    link: LinkQuality = FAST


@dataclass(frozen=True, slots=True)
class Measurement:
    """How good all machines are at one time: newest release, each with its own head.

    In mode auto it is what each would use if it had just fetched that, with its prior.

    Attributes:
        seconds: virtual.
        k: release.
        updates: applied so far.
        bytes_up: MQTT bytes from all agents, PUBACKs included.
        bytes_down: to all agents.
        accuracy: by machine.
    """

    seconds: float
    k: int
    updates: int
    bytes_up: int
    bytes_down: int
    accuracy: NDArray[np.float64] = field(repr=False)

    @property
    def mean(self) -> float:
        """Over all machines."""
        return float(self.accuracy.mean())

    @property
    def worst(self) -> float:
        """Of the machine that is worst off."""
        return float(self.accuracy.min())


class Federation:
    """A coordinator and one agent per machine of a task.

    Args:
        task: machines and their rows.
        definition: of the federation.
        seed: of the simulation's own chance.
        computers: by agent id; by default all alike and fast.
        as_reference: draw participants and rows as the reference does, with its seed.
        with_prior: whether machines add their class prior to the logits; None as the mode does.
    """

    def __init__(
        self,
        task: Task,
        definition: FederationDefinition,
        *,
        seed: int,
        computers: dict[str, Computer] | None = None,
        as_reference: bool = False,
        with_prior: bool | None = None,
    ) -> None:
        self.task, self.definition = task, definition
        self._with_prior = with_prior
        self._judge = Judge(definition, Kernels())
        computers = computers or {name: Computer() for name in task.machines}
        self._links = {
            name: Link(computer.link, random.Random(f"{seed} {name} loss"))
            for name, computer in computers.items()
        }
        self._simulation = Simulation(MemoryBroker(random.Random(seed), transit=Links(self._links)))
        self._topics = Topics(definition.federation)
        bits = count(seed + 1)
        founding = EpochStarted(Epoch(1, seed), 0, definition.to_bytes(), "created")
        self._coordinator = CoordinatorHost(
            self._simulation, self._topics, founding, lambda: next(bits)
        )
        self._coordinator.keeps_journal = False
        self._coordinator.observe = self._observe
        self.on_release: Callable[[], None] = lambda: None
        self.on_update: Callable[[Applied], None] = lambda _: None
        self.updates = 0
        if as_reference:
            self._coordinator.select = reference_draws.select
        self._agents = [
            AgentHost(
                self._simulation,
                self._topics,
                name,
                self._trainer(number, name, seed if as_reference else None),
                computers[name].compute_s,
            )
            for number, name in enumerate(task.machines)
        ]
        self._coordinator.start()
        for agent in self._agents:
            agent.start()

    @property
    def state(self) -> FederationState:
        """Of the coordinator."""
        if self._coordinator.machine is None:
            raise RuntimeError("the coordinator is down")
        return self._coordinator.machine.state

    @property
    def seconds(self) -> float:
        """Virtual time."""
        return self._simulation.now

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Let virtual time pass; returns whether ``until`` became true."""
        return self._simulation.run(seconds, until)

    def cut(self, agent: str) -> None:
        """An agent has no link until :meth:`mend`."""
        self._simulation.broker.cut(agent, self.seconds)

    def mend(self, agent: str) -> None:
        """It has one again."""
        self._simulation.broker.mend(agent, self.seconds)

    def shared(self) -> NDArray[np.float32]:
        """The newest release, float32 (shared,)."""
        return self.state.terms.lattice.to_floats(self.state.model)

    def _used_by(self, agent: AgentHost) -> NDArray[np.float32]:
        """What a machine would use if it had just fetched the newest release.

        What it works on now is in its average by then, since its update is applied before.
        """
        state, disk = self.state, agent.disk
        if disk.model_name is not None:
            disk = with_applied(disk, disk.model_name, disk.dual)
        turnovers = state.turnovers.get(state.k, 0)
        after = with_model(disk, state.name(state.k), state.model, turnovers)
        integers = newest_integers(after, self.definition.algorithm)
        assert integers is not None
        return state.terms.lattice.to_floats(integers)

    def measure(self, *, use_prior: bool = True, newest: bool = False) -> Measurement:
        """Test every machine's head on what it would use.

        Args:
            use_prior: where machines train with a prior, also test with it.
            newest: test the newest release, not the average.
        """
        accuracy = [
            self._score(
                agent,
                self.shared() if newest else self._used_by(agent),
                self._test(agent.name),
                use_prior=use_prior,
            )
            for agent in self._agents
        ]
        uses = [link.use for link in self._links.values()]
        return Measurement(
            seconds=self.seconds,
            k=self.state.k,
            updates=self.updates,
            bytes_up=sum(use.bytes_up for use in uses),
            bytes_down=sum(use.bytes_down for use in uses),
            accuracy=np.array(accuracy),
        )

    def unseen_recall(self, *, use_prior: bool) -> float:
        """Accuracy on all machines' test rows of classes that a machine has no training row of.

        The mean over machines that have such classes; nan where all have seen all, or there are
        targets instead.

        Args:
            use_prior: see :meth:`measure`.
        """
        if not self.definition.classes:
            return float("nan")
        found = []
        tests = [self._test(name) for name in self.task.machines]
        x, y = np.concatenate([t.x for t in tests]), np.concatenate([t.y for t in tests])
        for agent in self._agents:
            unseen = ~np.isin(y, self.task.machines[agent.name].train.y)
            if unseen.any():
                rows = Samples(x[unseen], y[unseen])
                shared = self._used_by(agent)
                found.append(self._score(agent, shared, rows, use_prior=use_prior))
        return float(np.mean(found)) if found else float("nan")

    def parameters(self, *, use_prior: bool) -> dict[str, Parameters]:
        """Of the network that each machine would use.

        Args:
            use_prior: see :meth:`measure`.
        """
        return {
            a.name: self._parameters(a, self._used_by(a), use_prior=use_prior) for a in self._agents
        }

    def own_heads(self) -> frozenset[str]:
        """Machines that keep a last layer of their own in mode auto."""
        return frozenset(a.name for a in self._agents if a.disk.own_head is not None)

    def _test(self, name: str) -> Samples:
        test = self.task.machines[name].test
        if test is None:
            raise ValueError(f"{name} has no test samples")
        return test

    def _score(
        self, agent: AgentHost, shared: NDArray[np.float32], rows: Samples, *, use_prior: bool
    ) -> float:
        parameters = self._parameters(agent, shared, use_prior=use_prior)
        return score(self._judge.kernels.of(self.definition), self.definition, parameters, rows)

    def _parameters(
        self, agent: AgentHost, shared: NDArray[np.float32], *, use_prior: bool
    ) -> Parameters:
        disk, prior = agent.disk, self._prior(agent.name) if use_prior else None
        return self._judge.parameters(ServedModel("", shared, disk.head, prior, disk.own_head))

    def _prior(self, agent: str) -> NDArray[np.float32] | None:
        has_prior = self.definition.algorithm.has_prior
        if not (has_prior if self._with_prior is None else self._with_prior):
            return None
        return class_prior(self.definition, self.task.machines[agent].train.y)

    def _observe(self, record: Record) -> None:
        if isinstance(record, Applied):
            self.updates += 1
            self.on_update(record)
        elif isinstance(record, Released):
            self.on_release()

    def _trainer(
        self, number: int, name: str, seed: int | None
    ) -> Callable[[TrainingTask], TrainingOutcome]:
        order = row_order if seed is None else self._reference_order(number, seed)
        sets = self.task.machines[name]
        return lambda task: carry_out(
            task, lambda _: sets, report_score=False, row_order=order, with_prior=self._with_prior
        )

    def _reference_order(self, number: int, reference_seed: int) -> RowOrder:
        def order(
            seed: int, agent: str, seq: int, phase: int, n_rows: int, epochs: int, batch: int
        ) -> Iterable[NDArray[np.int64]]:
            del seed, agent, seq  # the reference counts rounds of the federation
            k = self.state.k
            return reference_draws.batches(n_rows, reference_seed, number, k, phase, epochs, batch)

        return order
