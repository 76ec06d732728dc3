"""What the other mode would have reached: the same machines in a simulation, with real rounds.

Its rounds are synchronous with 30 % drawn, and every change is sent whole.
"""

import random
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from plantfed_agent.class_prior import class_prior
from plantfed_agent.comparing import Judge
from plantfed_agent.guard import ServedModel
from plantfed_agent.inprocess import carry_out
from plantfed_agent.kernel_source import Kernels
from plantfed_agent.samples import Samples, SampleSets
from plantfed_agent.scores import score
from plantfed_agent.training import TrainingOutcome, TrainingTask
from plantfed_coordinator.federation_file import Federation, personal_in_mode, with_definition
from plantfed_coordinator.records import EpochStarted
from plantfed_coordinator.state import FederationState
from plantfed_lab.drawn import PARTICIPATION, kernels_of
from plantfed_lab.simulation.agent_host import AgentHost
from plantfed_lab.simulation.coordinator_host import CoordinatorHost
from plantfed_lab.simulation.engine import Simulation
from plantfed_lab.tennessee_eastman import THIN, Plant
from plantfed_shared.bus.memory import MemoryBroker
from plantfed_shared.definition import FederationDefinition, Mode, Schedule
from plantfed_shared.messages import Epoch
from plantfed_shared.topics import Topics
from plantfed_shared.transfer import Blob

OTHER_MODE: dict[str, Mode] = {"auto": "fedapm", "fedapm": "auto"}
SECONDS_PER_ROUND = 1e4
"""Virtual, at the very most."""


def accuracies_in(
    mode: Mode,
    plants: Sequence[Plant],
    definition: FederationDefinition,
    updates: int,
    artefact: bytes | None = None,
) -> dict[str, float]:
    """Test accuracy at each plant of what it would use in a mode.

    Args:
        mode: "auto" or "fedapm".
        plants: their rows.
        definition: start and settings; its mode, schedule and messages are not taken.
        updates: sent by all plants together.
        artefact: of a compiled model.

    Raises:
        RuntimeError: the simulated federation did not come to its end.
    """
    rounds = max(1, round(updates / max(int(PARTICIPATION * len(plants)), 1)))
    kernels, blob = kernels_of(artefact), None if artefact is None else Blob.of(artefact)
    wanted = _in_mode(mode, definition, len(plants), rounds)
    federation = with_definition(Federation(definition, blob), wanted, f"mode {mode}")
    state, agents = _federated(federation, plants, kernels)
    shared = state.terms.lattice.to_floats(state.model)
    judge, found = Judge(wanted, kernels), {}
    for plant, agent in zip(plants, agents, strict=True):
        disk = agent.disk
        prior = class_prior(wanted, plant.y_train) if wanted.algorithm.has_prior else None
        used = judge.parameters(ServedModel("", shared, disk.head, prior, disk.own_head))
        rows = Samples(plant.x_test, plant.y_test)
        found[plant.id] = score(kernels.of(wanted), wanted, used, rows)
    return found


def _federated(
    federation: Federation, plants: Sequence[Plant], kernels: Kernels
) -> tuple[FederationState, list[AgentHost]]:
    """The coordinator's state after the last release, and the agents."""
    definition = federation.definition
    chance = random.Random(definition.schedule.seed)  # noqa: S311 - no secret
    simulation = Simulation(MemoryBroker(chance))
    topics, bits = Topics(definition.federation), count(1)
    founding = EpochStarted(Epoch(1, 0), 0, definition.to_bytes(), "created", federation.initial)
    coordinator = CoordinatorHost(simulation, topics, founding, lambda: next(bits))
    coordinator.keeps_journal, coordinator.artefact = False, federation.artefact
    agents = [
        AgentHost(simulation, topics, plant.id, _trainer(plant, kernels), lambda: 1.0)
        for plant in plants
    ]
    coordinator.start()
    for agent in agents:
        agent.start()

    def ended() -> bool:
        return coordinator.machine is not None and coordinator.machine.state.final

    seconds = SECONDS_PER_ROUND * (definition.schedule.max_releases or 0)
    if not simulation.run(seconds, ended) or coordinator.machine is None:
        raise RuntimeError(f"mode {definition.algorithm.mode} did not come to its last release")
    return coordinator.machine.state, agents


def _trainer(plant: Plant, kernels: Kernels) -> Callable[[TrainingTask], TrainingOutcome]:
    sets = SampleSets(Samples(plant.x_train, plant.y_train), None, plant.id)
    return lambda task: carry_out(task, lambda _: sets, report_score=False, kernels=kernels)


def _in_mode(
    mode: Mode, definition: FederationDefinition, members: int, rounds: int
) -> FederationDefinition:
    document: dict[str, Any] = definition.model_dump()
    settings = definition.algorithm.unusual().items()
    whole = {name: value for name, value in settings if name not in THIN["algorithm"]}
    document["algorithm"] = whole | {"mode": mode}
    personal = personal_in_mode(mode, definition.model)
    if personal is None:
        personal = [p.name for p in definition.parameter_specification().parameters[-2:]]
    document |= {
        "personal": personal,
        "compression": {"coding": "plain"},
        "release_bits": None,
        "coarsest_release_bits": None,
        "schedule": Schedule(
            kind="sync",
            participation=PARTICIPATION,
            min_members=members,
            max_releases=rounds,
            seed=definition.schedule.seed,
        ).model_dump(),
    }
    return FederationDefinition.model_validate(document)
