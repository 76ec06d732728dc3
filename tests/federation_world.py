"""Small federations on the simulator's engine, with all kinds of faults, for tests of the machines.

Agents and coordinator are dropped and rebuilt from what they persisted; nothing else survives.
"""

import random
from collections.abc import Callable

import numpy as np

from plantfed_agent.training import TrainingOutcome, TrainingTask
from plantfed_coordinator.records import Applied, EpochStarted
from plantfed_coordinator.state import FederationState
from plantfed_lab.simulation.agent_host import AgentHost, Train
from plantfed_lab.simulation.coordinator_host import CoordinatorHost
from plantfed_lab.simulation.engine import Simulation
from plantfed_shared.bus.faults import Faults
from plantfed_shared.bus.memory import MemoryBroker
from plantfed_shared.bus.transit import Transit
from plantfed_shared.definition import (
    PERSONAL_OF_MODE,
    Algorithm,
    Compression,
    DenseModel,
    FederationDefinition,
    Input,
    Loss,
    Schedule,
)
from plantfed_shared.messages import Epoch
from plantfed_shared.topics import Topics
from plantfed_shared.transfer import Blob


def small_definition(**changes: object) -> FederationDefinition:
    """A federation with 26 shared and 10 personal numbers, encoded in next to no time."""
    definition = FederationDefinition(
        federation="toy",
        model=DenseModel(hidden=(4, 2)),
        loss=Loss(kind="cross-entropy"),
        personal=("layer3.*",),
        inputs=tuple(Input(name=f"x{i}") for i in range(3)),
        classes=("a", "b", "c"),
        algorithm=Algorithm(learning_rate=0.1),
        schedule=Schedule(arrivals=2),
        compression=Compression(coding="plain"),
    )
    return FederationDefinition.model_validate({**definition.model_dump(), **changes})


def of_mode(mode: str, **changes: object) -> FederationDefinition:
    """The same in another mode, with what that leaves personal."""
    document = small_definition().model_dump()
    document["algorithm"] = small_definition().algorithm.in_mode(mode).model_dump()
    document["personal"] = PERSONAL_OF_MODE.get(mode, document["personal"])
    return FederationDefinition.model_validate({**document, **changes})


class PullToTarget:
    """Exact local solution of f_i(u) = |u - c_i|^2 / 2: x = (c_i - rho w + rho u) / (1 + rho)."""

    def __init__(self, seed: int, agent: str) -> None:
        self._seed = seed
        self._agent = agent

    def target(self, size: int) -> np.ndarray:
        rng = np.random.default_rng([self._seed, *self._agent.encode()])
        return rng.normal(size=size)

    def __call__(self, task: TrainingTask) -> TrainingOutcome:
        rho = task.definition.algorithm.penalty if task.definition.algorithm.has_duals else 0.0
        wanted = self.target(task.base.size) - rho * task.dual + rho * task.base
        personal = sum(p.size for p in task.definition.parameter_specification().personal)
        head = np.full(personal, task.seq, dtype=np.float32)
        shared = (wanted / (1 + rho)).astype(np.float32)
        start_loss = 0.5 ** min(task.seq, 50)
        return TrainingOutcome(shared, head, 0.5, 0.5, 7, "rows", 0.0, start_loss)


class Agent(AgentHost):
    """One agent; what it does is known from its name and the world's seed."""

    def __init__(self, world: "World", name: str, train: Train, training_s: float = 1.0) -> None:
        super().__init__(world.simulation, world.topics, name, train, lambda: training_s)


class World:
    """Coordinator, agents and broker; those who crash by chance come back after some seconds."""

    def __init__(
        self,
        definition: FederationDefinition,
        agents: int = 4,
        *,
        seed: int = 0,
        faults: Faults | None = None,
        crash_probability: float = 0.0,
        train: Callable[[str], Train] | None = None,
        training_s: float = 1.0,
        transit: Transit | None = None,
        host: "Callable[[World, str, Train, float], Agent] | None" = None,
        initial: bytes = b"",
        artefact: Blob | None = None,
    ) -> None:
        self.rng = random.Random(seed)
        self.crash_probability = 0.0
        self.broker = MemoryBroker(self.rng, faults or Faults(delay_s=(0.01, 0.05)), transit)
        self.simulation = Simulation(self.broker)
        self.simulation.chance_of_crash = lambda _host, _boundary: self._strikes()
        self.simulation.downtime_s = lambda: self.rng.uniform(0.1, 5.0)
        self.topics = Topics(definition.federation)
        founding = EpochStarted(
            Epoch(1, self.rng.getrandbits(64)), 0, definition.to_bytes(), "created", initial
        )
        self.coordinator = CoordinatorHost(
            self.simulation, self.topics, founding, lambda: self.rng.getrandbits(64)
        )
        self.coordinator.artefact = artefact
        make = train or (lambda name: PullToTarget(seed, name))
        names = [f"m{i:02d}" for i in range(agents)]
        host = host or Agent
        self.agents = {name: host(self, name, make(name), training_s) for name in names}
        self.coordinator.start()
        for agent in self.agents.values():
            agent.start()
        self.crash_probability = crash_probability

    @property
    def now(self) -> float:
        return self.simulation.now

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Let time pass; returns whether ``until`` became true."""
        return self.simulation.run(seconds, until)

    def _strikes(self) -> bool:
        return self.crash_probability > 0 and self.rng.random() < self.crash_probability

    # ------------------------------------------------------------------ what holds at any time

    def state(self) -> FederationState:
        assert self.coordinator.machine is not None
        return self.coordinator.machine.state

    def applied(self) -> list[Applied]:
        return [r for r in self.coordinator.journal if isinstance(r, Applied)]
