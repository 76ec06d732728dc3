"""What a federation is measured against: every plant alone, one global model, and the other mode.

The first two do the product's own local round in mode "fedavg", on all parameters, personal or not.
"""

import multiprocessing
import signal
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np

from plantfed_agent.kernel_source import Kernels
from plantfed_agent.local_round import RoundStart, run_round
from plantfed_agent.row_order import HEAD_PHASE, RowOrder, row_order
from plantfed_agent.samples import Samples
from plantfed_agent.scores import score
from plantfed_lab.drawn import PARTICIPATION, kernels_of
from plantfed_lab.other_mode import OTHER_MODE, accuracies_in
from plantfed_lab.tennessee_eastman import Plant
from plantfed_shared.definition import CompiledModel, FederationDefinition
from plantfed_shared.initial import initial_parameters
from plantfed_shared.parameters import Floats, flatten, unflatten
from plantfed_shared.tether import end_with_parent

Selection = Callable[[int, int], Sequence[int]]
"""(round, number of plants) -> the plants of that round, in the order in which they are summed."""


@dataclass(frozen=True, slots=True)
class BaselineAccuracies:
    """Test accuracy by plant.

    Attributes:
        local: every plant alone.
        of_global: one model for all.
        of_other_mode: see :data:`plantfed_lab.other_mode.OTHER_MODE`.
    """

    local: Mapping[str, float]
    of_global: Mapping[str, float]
    of_other_mode: Mapping[str, float]


def local_accuracy(
    plant: Plant,
    definition: FederationDefinition,
    rounds: int,
    order: RowOrder = row_order,
    artefact: bytes | None = None,
) -> float:
    """Test accuracy of a plant that never exchanged anything.

    Args:
        plant: its rows.
        definition: start and settings.
        rounds: of its own, each of E epochs.
        order: in which rows are visited.
        artefact: of a compiled model.
    """
    whole = _as_fedavg(definition)
    kernels = kernels_of(artefact)
    vector = _initial(whole, kernels)
    for seq in range(1, rounds + 1):
        vector = _train(vector, plant, whole, kernels, seq, order)
    return _accuracy(vector, plant, whole, kernels)


def global_accuracies(
    plants: Sequence[Plant],
    definition: FederationDefinition,
    updates: int,
    order: RowOrder = row_order,
    selection: Selection | None = None,
    artefact: bytes | None = None,
) -> dict[str, float]:
    """Test accuracy at each plant of one model trained by FedAvg (arXiv 1602.05629).

    Args:
        plants: their rows.
        definition: start and settings.
        updates: sent by all plants together.
        order: in which rows are visited.
        selection: who takes part in a round.
        artefact: of a compiled model.
    """
    select = selection or _drawn(definition.schedule.seed)
    whole = _as_fedavg(definition)
    kernels = kernels_of(artefact)
    vector = _initial(whole, kernels)
    participants = max(int(PARTICIPATION * len(plants)), 1)
    seqs = [0] * len(plants)
    for number in range(round(updates / participants)):
        total = np.zeros_like(vector)
        chosen = select(number, len(plants))
        for i in chosen:
            seqs[i] += 1
            total += _train(vector, plants[i], whole, kernels, seqs[i], order)
        vector = total / np.float32(len(chosen))
    return {plant.id: _accuracy(vector, plant, whole, kernels) for plant in plants}


def baseline_accuracies(
    plants: Sequence[Plant],
    definition: FederationDefinition,
    rounds: Mapping[str, int],
    artefact: bytes | None = None,
) -> BaselineAccuracies:
    """All baselines with as many rounds as the agents of a federation did, in two processes.

    Args:
        plants: their rows.
        definition: start and settings.
        rounds: by plant, done by its agent.
        artefact: of a compiled model; one without batch-norm statistics.
    """
    # fork would copy our threads' locks
    context = multiprocessing.get_context("spawn")
    before = set(multiprocessing.active_children())
    with ProcessPoolExecutor(2, mp_context=context, initializer=_begin_worker) as pool:
        try:
            updates = sum(rounds.values())
            of_global = pool.submit(
                global_accuracies, plants, definition, updates, artefact=artefact
            )
            of_other_mode = pool.submit(
                accuracies_in,
                OTHER_MODE[definition.algorithm.mode],
                plants,
                definition,
                updates,
                artefact,
            )
            local: dict[str, Future[float]] = {
                plant.id: pool.submit(
                    local_accuracy, plant, definition, rounds[plant.id], artefact=artefact
                )
                for plant in plants
            }
            return BaselineAccuracies(
                {plant_id: future.result() for plant_id, future in local.items()},
                of_global.result(),
                of_other_mode.result(),
            )
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in set(multiprocessing.active_children()) - before:
                child.terminate()
            raise


def _begin_worker() -> None:
    end_with_parent()
    # Ctrl-C in a terminal ends it without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _drawn(seed: int) -> Selection:
    def select(number: int, n_plants: int) -> Sequence[int]:
        rng = np.random.RandomState(10**6 + 1000 * seed + number)
        participants = max(int(PARTICIPATION * n_plants), 1)
        chosen: list[int] = rng.choice(n_plants, participants, replace=False).tolist()
        return chosen

    return select


def _train(
    vector: Floats,
    plant: Plant,
    whole: FederationDefinition,
    kernels: Kernels,
    seq: int,
    order: RowOrder,
) -> Floats:
    """The parameters after one round of E epochs on all of them."""
    algorithm = whole.algorithm
    nothing = np.zeros(0, dtype=np.float32)
    rows = order(
        whole.model.seed,
        plant.id,
        seq,
        HEAD_PHASE,
        len(plant.y_train),
        algorithm.epochs,
        algorithm.batch,
    )
    result = run_round(
        kernels.of(whole),
        whole.parameter_specification(),
        algorithm,
        RoundStart(base=vector, dual=np.zeros_like(vector), head=nothing),
        Samples(plant.x_train, plant.y_train),
        rows,
        (),
    )
    return result.shared


def _as_fedavg(definition: FederationDefinition) -> FederationDefinition:
    """The same network and settings, with one model for all."""
    algorithm = {**definition.algorithm.model_dump(), "mode": "fedavg"}
    changes = {"algorithm": algorithm, "personal": ()}
    return FederationDefinition.model_validate({**definition.model_dump(), **changes})


def _initial(whole: FederationDefinition, kernels: Kernels) -> Floats:
    if not isinstance(whole.model, CompiledModel):
        return flatten(initial_parameters(whole))
    values = kernels.artefact(whole, whole.model).initial()
    return flatten([values[p.name] for p in whole.parameter_specification().parameters])


def _accuracy(
    vector: Floats, plant: Plant, definition: FederationDefinition, kernels: Kernels
) -> float:
    parameters = unflatten(vector, definition.parameter_specification().parameters)
    samples = Samples(plant.x_test, plant.y_test)
    return score(kernels.of(definition), definition, parameters, samples)
