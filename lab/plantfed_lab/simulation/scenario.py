"""Scenarios: TOML files that say what is simulated.  ``docs/simulation.md`` lists all keys."""

from dataclasses import dataclass
from math import ceil
from os.path import exists
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from plantfed_lab.simulation.agent_host import NO_LIMIT
from plantfed_lab.simulation.draws import Draw, LossProbability, PositiveDraw, constant
from plantfed_shared.definition import Name, NonNegative, Positive, Settings
from plantfed_shared.errors import ConfigError
from plantfed_shared.settings_file import read_settings

SHIPPED = Path(__file__).parents[1] / "scenarios"
DEFAULT_MACHINES = 20

MAX_MACHINES = 100_000
"""Each takes some memory: more would take all there is."""

MAX_POINTS = 50_000
"""Of the curve, which the result and its report hold as a whole: a month of minutes."""

LONGEST_S = 10 * 365 * 86_400.0
SHORTEST_STEP_S = 0.001

AtLeastOne = Annotated[int, Field(ge=1)]
AtLeastOneSecond = Annotated[float, Field(ge=1, allow_inf_nan=False)]


NEVER_RESTS = "no limit"
"""In a scenario, for :data:`NO_LIMIT`: new rows keep coming."""


def _from_words(value: Any) -> Any:
    if value == NEVER_RESTS:
        return NO_LIMIT
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"must be a whole number, or '{NEVER_RESTS}' where new rows keep coming")
    return value


RoundsOnTheSameRows = Annotated[int, BeforeValidator(_from_words), Field(ge=1, le=NO_LIMIT)]
RunSeconds = Annotated[float, Field(ge=1, le=LONGEST_S, allow_inf_nan=False)]
StepSeconds = Annotated[float, Field(ge=SHORTEST_STEP_S, le=LONGEST_S, allow_inf_nan=False)]


def _on_one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be one line without control characters")
    return text


Title = Annotated[Name, AfterValidator(_on_one_line)]
Line = Annotated[str, AfterValidator(_on_one_line)]


class ScenarioSection(Settings):
    """What the run is called and when it ends: at the first of the ends that are given.

    Attributes:
        name: for the reader.
        description: for the reader, one line.
        duration_s: virtual seconds, at most ten years.
        releases: to be made.
        updates: to be applied.
        evaluate_every_s: virtual seconds between two points of the curve, of which there may be
            :data:`MAX_POINTS`.
        target_score: the mean score whose time is wanted.
    """

    name: Title
    description: Line = ""
    duration_s: RunSeconds | None = None
    releases: AtLeastOne | None = None
    updates: AtLeastOne | None = None
    evaluate_every_s: StepSeconds = 60.0
    target_score: Annotated[float, Field(allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.duration_s is None and self.releases is None and self.updates is None:
            raise ValueError("would never end; give duration_s, releases or updates")
        return self

    @model_validator(mode="after")
    def _has_a_curve_of_bounded_length(self) -> Self:
        duration_s, step_s = self.duration_s or 0.0, self.evaluate_every_s
        if duration_s > MAX_POINTS * step_s:
            raise ValueError(
                f"evaluate_every_s = {step_s:g} makes more than {MAX_POINTS:,} points of "
                f"duration_s = {duration_s:g}; make it {ceil(duration_s / MAX_POINTS)} or more"
            )
        return self


class DataSection(Settings):
    """Where the machines' rows come from.

    Attributes:
        kind: "tennessee-eastman" (the shipped process, split over as many plants as machines),
            "files" (an ``agent.toml`` for each machine) or "none" (training is switched off).
        agents: files: ``agent.toml`` files or patterns, from the scenario's folder.
        faults_per_plant: tennessee-eastman: of the 21 faults.
    """

    kind: Literal["tennessee-eastman", "files", "none"] = "tennessee-eastman"
    agents: tuple[Name, ...] = ()
    faults_per_plant: Annotated[int, Field(ge=1, le=21)] = 5

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if (self.kind == "files") != bool(self.agents):
            raise ValueError("agents belongs to kind = 'files' and is needed there")
        return self


class FederationSection(Settings):
    """What the machines agree on; without a file the demo's Tennessee Eastman federation.

    Attributes:
        file: a federation file, from the scenario's folder.
        algorithm: keys of its section that are to be others.
        schedule: the same.
        compression: the same.
        lattice_bits: in the place of its own.
        release_bits: the same.
        coarsest_release_bits: the same.
    """

    file: Path | None = None
    algorithm: dict[str, Any] = Field(default_factory=dict)
    schedule: dict[str, Any] = Field(default_factory=dict)
    compression: dict[str, Any] = Field(default_factory=dict)
    lattice_bits: int | None = None
    release_bits: int | None = None
    coarsest_release_bits: int | None = None


class OfflineWindow(Settings):
    """One time without a link, virtual seconds."""

    start_s: NonNegative
    duration_s: Positive


class RandomOffline(Settings):
    """Times without a link that come at random, virtual seconds; both are exponential.

    Attributes:
        mean_every_s: from the end of one to the start of the next.
        mean_duration_s: of one.
    """

    mean_every_s: AtLeastOneSecond
    mean_duration_s: Positive


class RandomRestarts(Settings):
    """Times at which the power fails or somebody switches off, virtual seconds.

    Attributes:
        mean_every_s: from one start to the next failure; exponential.
        downtime_s: until it is up again.
    """

    mean_every_s: AtLeastOneSecond
    downtime_s: Draw = constant(30.0)


class HostSection(Settings):
    """A computer on the broker: its link, and when it is away.

    Attributes:
        uplink_bits_per_s: to the broker; None for no limit.
        downlink_bits_per_s: from the broker.
        latency_s: one way.
        loss: probability that a packet is lost.
        offline_windows: times without a link.
        offline: more of them, at random.
        restarts: at random.
    """

    uplink_bits_per_s: PositiveDraw | None = None
    downlink_bits_per_s: PositiveDraw | None = None
    latency_s: Draw = constant(0.0)
    loss: LossProbability = 0.0
    offline_windows: tuple[OfflineWindow, ...] = ()
    offline: RandomOffline | None = None
    restarts: RandomRestarts | None = None


class MachineSection(HostSection):
    """A machine with an agent.

    Attributes:
        compute_s: virtual seconds of a round on this machine; drawn once for it.
        slowdown: a round takes this many times ``compute_s``; drawn for every round.
        start_s: when its agent is started for the first time.
        min_interval_s: as in ``agent.toml``.
        max_rounds_without_new_rows: as in ``agent.toml``, or "no limit" where new rows keep
            coming; None: what the agent.toml says, else its default.
    """

    compute_s: Draw = constant(30.0)
    slowdown: Draw = constant(1.0)
    start_s: Draw = constant(0.0)
    min_interval_s: NonNegative | None = None
    max_rounds_without_new_rows: RoundsOnTheSameRows | None = None


class MachinesSection(MachineSection):
    """All machines.

    Attributes:
        count: how many; None: 20, or as many as there are files.
    """

    count: Annotated[int, Field(ge=1, le=MAX_MACHINES)] | None = None


class MachineOverride(MachineSection):
    """What is different on one machine.

    Attributes:
        id: of its agent.
    """

    id: Name


class Scenario(Settings):
    """All of a scenario file."""

    scenario: ScenarioSection
    data: DataSection = DataSection()
    federation: FederationSection = FederationSection()
    machines: MachinesSection = MachinesSection()
    machine: tuple[MachineOverride, ...] = ()
    coordinator: HostSection = HostSection()

    @model_validator(mode="after")
    def _each_machine_once(self) -> Self:
        ids = [one.id for one in self.machine]
        twice = next((i for i in ids if ids.count(i) > 1), None)
        if twice is not None:
            raise ValueError(f"machine: {twice!r} appears twice")
        if self.data.kind == "none" and self.scenario.target_score is not None:
            raise ValueError("scenario.target_score: with data.kind = 'none' nothing is scored")
        if self.data.kind == "files" and self.machines.count is not None:
            raise ValueError("machines.count: with kind = 'files' there is one for each file")
        return self


@dataclass(frozen=True, slots=True)
class LoadedScenario:
    """A scenario and the file it is from.

    Attributes:
        scenario: its content.
        path: of the file; relative paths in it count from its folder.
    """

    scenario: Scenario
    path: Path

    @property
    def folder(self) -> Path:
        """Where relative paths count from."""
        return self.path.parent

    @property
    def federation_file(self) -> Path | None:
        """That the scenario names; None for the demo's federation."""
        file = self.scenario.federation.file
        return None if file is None else self.folder / file

    def machine(self, machine_id: str) -> MachineSection:
        """What is so of one machine."""
        common = self.scenario.machines
        for one in self.scenario.machine:
            if one.id == machine_id:
                own = {key: getattr(one, key) for key in one.model_fields_set - {"id"}}
                return common.model_copy(update=own)
        return common

    def refuse_unknown_machines(self, known: list[str]) -> None:
        """Refuse settings of a machine that isn't there.

        Raises:
            ConfigError: names it.
        """
        for one in self.scenario.machine:
            if one.id not in known:
                some = ", ".join(known[:3]) + (", ..." if len(known) > 3 else "")
                raise ConfigError(
                    f"machine.id = {one.id!r} is none of the {len(known)} machines",
                    where=str(self.path),
                    hint=f"They are called {some}",
                )


def shipped_scenarios() -> list[str]:
    """Names of the scenarios that come with PlantFed."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def scenario_file(name: str) -> Path:
    """The file of a shipped scenario, or the path that was given instead of a name."""
    return SHIPPED / f"{name}.toml" if name in shipped_scenarios() else Path(name)


def load_scenario(name: str) -> LoadedScenario:
    """Read a scenario.

    Args:
        name: of a shipped one, or the path of a file.

    Raises:
        ConfigError: there is none of this name, or see
            :func:`plantfed_shared.settings_file.read_settings`.
    """
    path = scenario_file(name)
    if path.suffix != ".toml" and not exists(path):  # noqa: PTH110 - names may be too long
        raise ConfigError(
            f"there is no scenario {name!r}",
            hint=f"Give the path of a TOML file, or one of: {', '.join(shipped_scenarios())}",
        )
    return LoadedScenario(read_settings(path, Scenario), path)
