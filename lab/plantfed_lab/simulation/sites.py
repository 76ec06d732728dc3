"""The sites of a simulation: what each machine has to learn from, and how good its model is."""

import glob
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np

from plantfed_agent.comparing import Judge
from plantfed_agent.inprocess import carry_out
from plantfed_agent.kernel_source import Kernels
from plantfed_agent.loading import SampleLoader
from plantfed_agent.pace import Pace
from plantfed_agent.samples import Samples, SampleSets
from plantfed_agent.scores import score
from plantfed_agent.serving_model import used_model
from plantfed_agent.settings import AgentSection, TrainingSection, load_agent_settings
from plantfed_agent.sources import files_of
from plantfed_agent.state import AgentState
from plantfed_agent.training import TrainingOutcome, TrainingTask
from plantfed_coordinator.federation_file import artefact_file
from plantfed_lab.simulation.agent_host import Train
from plantfed_lab.simulation.scenario import DEFAULT_MACHINES, LoadedScenario, MachineSection
from plantfed_lab.tennessee_eastman import (
    MAX_PLANTS,
    MAX_PLANTS_WITH_WINDOWS,
    WINDOW_ROWS,
    federation_definition,
    plants,
)
from plantfed_shared.definition import FederationDefinition, Window
from plantfed_shared.errors import ConfigError
from plantfed_shared.parameters import Floats
from plantfed_shared.terms import terms_of

PLANTS_WINDOW = Window(rows=WINDOW_ROWS)
"""Of the shipped process, where samples are not single rows."""
PSEUDO_NOISE = 0.01
"""Standard deviation of a machine's first pseudo-change."""
PSEUDO_DECAY, PSEUDO_DECAYS = 0.8, 35
"""The n-th is n^-0.8 times that, until the 35th: so those of ``thin-link`` with training get
shorter on the wire, which a test compares."""
PSEUDO_NOISES = 16
PSEUDO_LARGEST = 1.0
"""One number grows to this, as the largest of trained models do: it decides how many bytes each
number of a model takes."""
PSEUDO_GROWTH = 0.2
"""By so much in a round, so that its change is no longer than the others."""
PSEUDO_ROWS = 100
DEFAULT_HABITS = TrainingSection()
"""Of an agent whose agent.toml says nothing about training."""


@dataclass(frozen=True, slots=True)
class Site:
    """One machine's rows and habits.

    Attributes:
        id: of its agent.
        train: does a local round.
        kernels: makes what its scores are computed with.
        test: test samples, or None.
        training: as its agent.toml has it; by default what an agent.toml without it means.
    """

    id: str
    train: Train
    kernels: Kernels
    test: Samples | None = None
    training: TrainingSection = DEFAULT_HABITS

    def pace(self, machine: MachineSection) -> Callable[[], Pace]:
        """Makes the timers and limits of its agent."""
        interval_s, rounds = machine.min_interval_s, self.rounds_until_rest(machine)
        if interval_s is None:
            interval_s = self.training.min_interval_s
        return lambda: Pace(min_interval_s=interval_s, max_rounds_without_new_rows=rounds)

    def rounds_until_rest(self, machine: MachineSection) -> int:
        """After so many without new rows its agent rests."""
        wanted = machine.max_rounds_without_new_rows
        return self.training.max_rounds_without_new_rows if wanted is None else wanted

    def score(self, disk: AgentState) -> float | None:
        """Of the model its agent would serve now; None without a model or test samples."""
        if self.test is None or not disk.definition:
            return None
        definition = terms_of(disk.definition).definition
        used = used_model(disk, definition)
        if used is None:
            return None
        parameters = Judge(definition, self.kernels).parameters(used)
        return score(self.kernels.of(definition), definition, parameters, self.test)


def sites_of(
    loaded: LoadedScenario, definition: FederationDefinition, kernels: Kernels, seed: int
) -> list[Site]:
    """The machines of a scenario, sorted by id.

    Args:
        loaded: the scenario.
        definition: of its federation.
        kernels: of its model.
        seed: of everything that is drawn.

    Raises:
        ConfigError: a settings file is wrong, or there are more machines than plants.
        DataError: a machine has no rows, or they cannot be used.
    """
    make = {"tennessee-eastman": _plants, "files": _from_files, "none": _without_training}
    sites = make[loaded.scenario.data.kind](loaded, definition, kernels, seed)
    loaded.refuse_unknown_machines([site.id for site in sites])
    return sites


def _plants(
    loaded: LoadedScenario, definition: FederationDefinition, kernels: Kernels, seed: int
) -> list[Site]:
    data, n_machines = loaded.scenario.data, loaded.scenario.machines.count or DEFAULT_MACHINES
    shipped = federation_definition(seed)
    if (definition.inputs, definition.classes) != (shipped.inputs, shipped.classes):
        raise ConfigError(
            "federation.file has other inputs or classes than the Tennessee Eastman process",
            where=str(loaded.path),
            hint="Leave it out, or bring your own rows with data.kind = 'files'",
        )
    windows = definition.window == PLANTS_WINDOW
    if not windows and definition.window != Window():
        raise ConfigError(
            f"federation.file has window.rows = {definition.window.rows}, step = "
            f"{definition.window.step}: of the Tennessee Eastman process there are samples of one "
            f"row, or windows of {WINDOW_ROWS} with step 1",
            where=str(loaded.path),
            hint="Change it, or bring your own rows with data.kind = 'files'",
        )
    most = MAX_PLANTS_WITH_WINDOWS if windows else MAX_PLANTS
    if n_machines > most:
        raise ConfigError(
            f"machines.count = {n_machines}: the rows are enough for {most} plants, since no "
            "two share any",
            where=str(loaded.path),
            hint="Lower it, or switch training off with data.kind = 'none'",
        )
    sites = []
    for plant in plants(seed, n_machines, data.faults_per_plant, windows=windows):
        test = Samples(plant.x_test, plant.y_test)
        sets = SampleSets(Samples(plant.x_train, plant.y_train), test, "rows")
        train = _rounds_on(sets, kernels, report_score=True)
        sites.append(Site(plant.id, train, kernels, test))
    return sorted(sites, key=lambda site: site.id)


def _from_files(
    loaded: LoadedScenario,
    definition: FederationDefinition,
    kernels: Kernels,
    seed: int,  # noqa: ARG001
) -> list[Site]:
    found: dict[str, tuple[Path, Site]] = {}
    for path in _agent_files(loaded):
        settings = load_agent_settings(path)
        agent = settings.agent.id
        if agent in found:
            raise ConfigError(
                f"agent.id = {agent!r} is also the id in {found[agent][0]}",
                where=str(path),
                hint="Give every machine an id of its own",
            )
        _refuse_other_federation(settings.agent, definition, path, loaded)
        sets = SampleLoader(settings.data).load(definition)
        train = _rounds_on(sets, kernels, report_score=settings.training.report_score)
        found[agent] = path, Site(agent, train, kernels, sets.test, settings.training)
    return [found[agent][1] for agent in sorted(found)]


def _refuse_other_federation(
    agent: AgentSection, definition: FederationDefinition, path: Path, loaded: LoadedScenario
) -> None:
    if agent.federation == definition.federation:
        return
    raise ConfigError(
        f"agent.federation = {agent.federation!r}, but the scenario simulates "
        f"{definition.federation!r}",
        where=str(path),
        hint=f"Correct one of them; federation.file in {loaded.path} names the federation's file",
    )


def files_read(loaded: LoadedScenario) -> list[Path]:
    """The scenario, and all files that simulating it reads.

    Raises:
        ConfigError: a settings file is missing or wrong.
        DataError: a file with rows is missing.
    """
    found = [loaded.path]
    if loaded.federation_file is not None:
        artefact = artefact_file(loaded.federation_file)
        found += [loaded.federation_file, *([] if artefact is None else [artefact])]
    if loaded.scenario.data.kind == "files":
        for path in _agent_files(loaded):
            rows = load_agent_settings(path).data
            found += [path, *map(Path, files_of(rows.train)), *map(Path, files_of(rows.test))]
    return found


def _agent_files(loaded: LoadedScenario) -> list[Path]:
    paths: list[Path] = []
    for pattern in loaded.scenario.data.agents:
        found = glob.glob(str(loaded.folder / pattern), recursive=True)  # noqa: PTH207
        matching = sorted(path for path in found if not Path(path).is_dir())
        if not matching:
            raise ConfigError(
                f"data.agents: no file matches {pattern!r}",
                where=str(loaded.path),
                hint=f"Patterns count from {loaded.folder.absolute()}",
            )
        paths += [Path(path) for path in matching]
    return paths


def _without_training(
    loaded: LoadedScenario, definition: FederationDefinition, kernels: Kernels, seed: int
) -> list[Site]:
    count = loaded.scenario.machines.count or DEFAULT_MACHINES
    digits = len(str(count))
    pseudo_round = PseudoRounds(definition, kernels, seed)
    return [Site(f"machine-{n:0{digits}d}", pseudo_round, kernels) for n in range(1, count + 1)]


def _rounds_on(sets: SampleSets, kernels: Kernels, *, report_score: bool) -> Train:
    def train(task: TrainingTask) -> TrainingOutcome:
        return carry_out(task, lambda _: sets, report_score=report_score, kernels=kernels)

    return train


class PseudoRounds:
    """Rounds without training: x = u - w + noise, the solution for no rows at all, and noise.

    Cheap, and its changes and models are about as long on the wire as those of a run with training:
    the noise of a machine gets smaller from round to round.

    Args:
        definition: of the federation.
        kernels: give the head that a machine begins with, and keeps.
        seed: of the noise.
        steady: it has its last size from the start, so that runs with more and with fewer rounds
            can be compared.
    """

    def __init__(
        self,
        definition: FederationDefinition,
        kernels: Kernels,
        seed: int,
        *,
        steady: bool = False,
    ) -> None:
        self._first = PSEUDO_DECAYS if steady else 1
        size = terms_of(definition.to_bytes()).lattice.size
        rng = np.random.RandomState(seed)
        noises = rng.normal(0.0, 1.0, (PSEUDO_NOISES, size))
        self._noises: Floats = noises.astype(np.float32)
        self._head = kernels.initial_head(definition)

    def __call__(self, task: TrainingTask) -> TrainingOutcome:
        """Do a round; the same one again gives the same."""
        which = crc32(f"{task.agent} {task.seq}".encode()) % PSEUDO_NOISES
        shrunk = np.float32(
            PSEUDO_NOISE * min(max(task.seq, self._first), PSEUDO_DECAYS) ** -PSEUDO_DECAY
        )
        shared = task.base - task.dual + shrunk * self._noises[which]
        # a slice: mode local shares nothing
        shared[:1] += np.clip(PSEUDO_LARGEST - task.base[:1], -PSEUDO_GROWTH, PSEUDO_GROWTH)
        return TrainingOutcome(shared, self._head, 0.0, None, PSEUDO_ROWS, "rows", 0.0)
