"""After a run: what each agent would serve, what it cost, and what the alternatives reach."""

import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from time import monotonic

import numpy as np

from plantfed_agent.samples import Samples
from plantfed_agent.scores import score
from plantfed_agent.settings import AgentSettings, load_agent_settings
from plantfed_agent.views import AgentStatus, read_status, served_model
from plantfed_coordinator.journal import FILE_NAME, read_records
from plantfed_coordinator.records import Applied, EpochStarted, Released
from plantfed_coordinator.views import read_overview, read_releases
from plantfed_lab.baselines import BaselineAccuracies, baseline_accuracies
from plantfed_lab.demo_folder import DemoFolder
from plantfed_lab.effort import agent_packages
from plantfed_lab.other_mode import OTHER_MODE
from plantfed_lab.results import (
    Accuracy,
    AgentResult,
    BrokerResult,
    DemoResult,
    ModelResult,
    Network,
    ReportedScore,
    Site,
    Traffic,
    mean_accuracy,
)
from plantfed_lab.tennessee_eastman import Plant
from plantfed_shared.definition import FederationDefinition
from plantfed_shared.store import reading
from plantfed_shared.version import software_version


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What is known of a run besides what its processes left on disk.

    Attributes:
        folder: of the demo.
        started: wall clock, UTC.
        begin: monotonic seconds at the start of the demo.
        seconds: from the start of the coordinator until all agents had the last model.
        seed: of split, start and draws.
        thin: whether messages were made short.
        network: "mlp" or "cnn1d".
        artefact: of a compiled network.
        broker_kind: "mosquitto", "nats" or "external".
        broker_url: its address.
    """

    folder: DemoFolder
    started: datetime
    begin: float
    seconds: float
    seed: int
    thin: bool
    network: Network
    artefact: bytes | None
    broker_kind: str
    broker_url: str


def evaluate(
    run: RunFacts, plants: Sequence[Plant], definition: FederationDefinition
) -> DemoResult:
    """Judge a run whose processes have ended.

    Args:
        run: where it is.
        plants: the same as the agents had.
        definition: of the federation.
    """
    state_dir = run.folder.coordinator / "state"
    overview = read_overview(state_dir)
    settings = {p.id: load_agent_settings(run.folder.agent(p.id) / "agent.toml") for p in plants}
    statuses = {plant_id: read_status(one) for plant_id, one in settings.items()}
    baselines = baseline_accuracies(
        plants,
        definition,
        {plant_id: status.rounds for plant_id, status in statuses.items()},
        run.artefact,
    )
    staleness = staleness_by_agent(state_dir)
    agents = tuple(
        _agent_result(plant, settings[plant.id], statuses[plant.id], staleness, baselines)
        for plant in plants
    )
    specification = definition.parameter_specification()
    return DemoResult(
        plantfed=software_version(),
        versions=_versions(),
        started=run.started.isoformat(timespec="seconds"),
        federation=overview.federation,
        seed=run.seed,
        schedule=definition.schedule.kind,
        thin=run.thin,
        network=run.network,
        algorithm=definition.algorithm.model_dump(mode="json"),
        other_mode=OTHER_MODE[definition.algorithm.mode],
        compression=definition.compression.model_dump(mode="json"),
        broker=BrokerResult(kind=run.broker_kind, url=run.broker_url),
        releases=overview.releases,
        updates=overview.updates,
        seconds=run.seconds,
        total_seconds=monotonic() - run.begin,
        model=ModelResult(
            checksum=overview.checksum,
            k=overview.k,
            shared_parameters=sum(p.size for p in specification.shared),
            personal_parameters=sum(p.size for p in specification.personal),
        ),
        accuracy=mean_accuracy(agents),
        bytes=Traffic(up=sum(a.bytes_up for a in agents), down=sum(a.bytes_down for a in agents)),
        messages=Traffic(
            up=sum(a.messages_up for a in agents), down=sum(a.messages_down for a in agents)
        ),
        staleness_counts=_counts(staleness),
        reported=_reported(state_dir),
        packages=agent_packages(),
        agents=agents,
    )


def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def staleness_by_agent(state_dir: Path) -> dict[str, list[int]]:
    """Of each applied update: releases made between its base and its arrival.

    Raises:
        StorageError: there is no journal, or it cannot be read.
    """
    found: dict[str, list[int]] = {}
    newest: int | None = None  # of a journal that has lost its begin, until the next release
    with reading(state_dir / FILE_NAME) as database:
        for record in read_records(database):
            match record:
                case EpochStarted(k=k) | Released(k=k):
                    newest = k
                case Applied(agent=agent, base_k=base_k) if newest is not None:
                    found.setdefault(agent, []).append(newest - base_k)
    return found


def _counts(staleness: Mapping[str, Sequence[int]]) -> tuple[int, ...]:
    counter = Counter(value for values in staleness.values() for value in values)
    return tuple(counter[n] for n in range(max(counter, default=-1) + 1))


def _reported(state_dir: Path) -> tuple[ReportedScore, ...]:
    releases = read_releases(state_dir)
    return tuple(
        ReportedScore(
            k=release.k,
            seconds=release.unix_time - releases[0].unix_time,
            mean=release.mean_score,
        )
        for release in releases
    )


def _agent_result(
    plant: Plant,
    settings: AgentSettings,
    status: AgentStatus,
    staleness: Mapping[str, Sequence[int]],
    baselines: BaselineAccuracies,
) -> AgentResult:
    model = served_model(settings)
    personal = score(
        model.kernels.of(model.definition),
        model.definition,
        model.parameters,
        Samples(plant.x_test, plant.y_test),
    )
    own = staleness.get(plant.id, [])
    return AgentResult(
        id=plant.id,
        updates=len(own),
        rounds=status.rounds,
        staleness=sum(own) / len(own) if own else 0.0,
        bytes_up=status.bytes_up,
        bytes_down=status.bytes_down,
        messages_up=status.messages_up,
        messages_down=status.messages_down,
        accuracy=Accuracy(
            local=baselines.local[plant.id],
            of_global=baselines.of_global[plant.id],
            of_other_mode=baselines.of_other_mode[plant.id],
            personal=personal,
        ),
        site=_site(plant, settings, model.definition),
    )


def _site(plant: Plant, settings: AgentSettings, definition: FederationDefinition) -> Site:
    folder = settings.agent.state_dir.parent
    text = (folder / "agent.toml").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    rows = {*settings.data.train, *settings.data.test}
    files = sorted(path.name for path in folder.iterdir() if path.is_file())
    return Site(
        settings_lines=len(lines),
        settings_files=tuple(name for name in files if str(folder / name) not in rows),
        train_rows=len(plant.y_train),
        test_rows=len(plant.y_test),
        classes=tuple(definition.classes[k] for k in np.unique(plant.y_train).tolist()),
    )
