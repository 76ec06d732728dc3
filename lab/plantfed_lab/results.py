"""What a demo found: the content of ``result.json`` and of the report."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Network = Literal["mlp", "cnn1d"]


class Part(BaseModel):
    """Base of everything in a result."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Accuracy(Part):
    """Part of the test samples that are classified correctly.

    Attributes:
        local: trained alone, same start and number of own rounds.
        of_global: FedAvg over the same rows with the same number of updates; "global" in JSON.
        of_other_mode: what it would serve in the other mode, simulated with the same number of
            updates in rounds; see ``DemoResult.other_mode``.
        personal: what the agent serves at the end.
    """

    local: float
    of_global: float = Field(alias="global")
    of_other_mode: float
    personal: float


class Traffic(Part):
    """MQTT bytes or messages, as agents see it.

    Attributes:
        up: from the agents.
        down: to the agents.
    """

    up: int
    down: int


class Site(Part):
    """What one plant had to configure.

    Attributes:
        settings_lines: of its agent.toml, without comments and empty lines.
        settings_files: names of what was put on it besides its own rows.
        train_rows: samples it trained on.
        test_rows: samples it was tested with.
        classes: that occur in its training rows.
    """

    settings_lines: int
    settings_files: tuple[str, ...]
    train_rows: int
    test_rows: int
    classes: tuple[str, ...]


class AgentResult(Part):
    """One agent.

    Attributes:
        id: of the agent.
        updates: applied by the coordinator.
        rounds: trained.
        staleness: mean over its updates: releases made between its base and its arrival.
        bytes_up: MQTT bytes it sent, acknowledgements included.
        bytes_down: it received.
        messages_up: it sent.
        messages_down: it received.
        accuracy: at its test rows.
        site: what it had to configure.
    """

    id: str
    updates: int
    rounds: int
    staleness: float
    bytes_up: int
    bytes_down: int
    messages_up: int
    messages_down: int
    accuracy: Accuracy
    site: Site


class BrokerResult(Part):
    """The broker.

    Attributes:
        kind: "mosquitto", "nats" or "external".
        url: its address.
    """

    kind: str
    url: str


class ModelResult(Part):
    """The shared model at the end.

    Attributes:
        checksum: 16 hexadecimal digits over its integers.
        k: its release number.
        shared_parameters: numbers all plants agree on.
        personal_parameters: numbers that never left a plant.
    """

    checksum: str
    k: int
    shared_parameters: int
    personal_parameters: int


class ReportedScore(Part):
    """What agents reported with the updates of one release.

    Attributes:
        k: of the release.
        seconds: since the first release.
        mean: of their scores; None if nobody reported one.
    """

    k: int
    seconds: float
    mean: float | None


class Package(Part):
    """Something an agent's machine has to install.

    Attributes:
        name: of the distribution.
        version: installed here.
        megabytes: 10^6 bytes on disk; None if not known.
    """

    name: str
    version: str
    megabytes: float | None


class DemoResult(Part):
    """A whole demo.

    Attributes:
        plantfed: version of the software.
        versions: of what it ran on.
        started: ISO time, UTC.
        federation: id.
        seed: of split, start and draws.
        schedule: "async" or "sync".
        thin: whether messages were made short, for thin links.
        network: "mlp": samples are rows; "cnn1d": they are windows of rows.
        algorithm: settings of the optimisation.
        other_mode: that the run is shown beside: "fedapm" for "auto", and the other way round.
        compression: settings of the messages.
        broker: that carried it.
        releases: made.
        updates: applied.
        seconds: from the start of the coordinator until every agent had the last model.
        total_seconds: of the demo, baselines included.
        model: at the end.
        accuracy: means over agents.
        bytes: sums over agents.
        messages: sums over agents.
        staleness_counts: updates by staleness: 0, 1, 2, ... releases.
        reported: mean reported accuracy by release.
        packages: an agent's machine has to install.
        agents: sorted by id.
    """

    plantfed: str
    versions: dict[str, str]
    started: str
    federation: str
    seed: int
    schedule: str
    thin: bool
    network: Network
    algorithm: dict[str, Any]
    other_mode: str
    compression: dict[str, Any]
    broker: BrokerResult
    releases: int
    updates: int
    seconds: float
    total_seconds: float
    model: ModelResult
    accuracy: Accuracy
    bytes: Traffic
    messages: Traffic
    staleness_counts: tuple[int, ...]
    reported: tuple[ReportedScore, ...]
    packages: tuple[Package, ...]
    agents: tuple[AgentResult, ...]

    @property
    def samples(self) -> str:
        """What is classified."""
        return "rows" if self.network == "mlp" else "windows"

    def to_json(self) -> str:
        """Readable JSON with a newline at its end."""
        return self.model_dump_json(indent=2, by_alias=True) + "\n"


def mean_accuracy(agents: Sequence[AgentResult]) -> Accuracy:
    """Means over agents, each counting the same."""
    n = len(agents)
    return Accuracy(
        local=sum(a.accuracy.local for a in agents) / n,
        of_global=sum(a.accuracy.of_global for a in agents) / n,
        of_other_mode=sum(a.accuracy.of_other_mode for a in agents) / n,
        personal=sum(a.accuracy.personal for a in agents) / n,
    )
