"""Settings of one machine: ``agent.toml``.

All keys, with an example or the default:

    [agent]
    id = "press-07"                      # unique in the federation
    federation = "presses"
    root = "plantfed"                    # first levels of all topics
    state_dir = "state"                  # paths are relative to this file

    [broker]
    url = "mqtts://broker.plant:8883"    # or mqtt://
    username = "press-07"
    password_file = "password"           # or password = "..."
    ca_file = "ca.pem"                   # needed for mqtts
    cert_file = "press-07.pem"           # client certificate, instead of a password
    key_file = "press-07.key"
    keepalive_s = 60

    [data]
    train = ["logs/*.csv"]               # files or patterns; .npz, .csv or .parquet
    test = []                            # none: see test_fraction
    test_fraction = 0.2                  # the last rows of each group are kept back for testing
    format = "auto"                      # by suffix, or "npz", "csv", "parquet"
    label = "fault"                      # column with the label, for classification
    group = "run"                        # rows with equal values belong together, in time order

    [data.columns]
    "oil temperature" = "T_OIL_1"        # federation input or target = local column

    [data.labels]
    "E17" = "leak"                       # local label value = class

    [training]
    min_interval_s = 0.0                 # from the start of one round to the next
    max_rounds_without_new_rows = 100
    nice = 10                            # of the training process
    rest_after_s = 20.0                  # the training process ends after so long without work
    look_for_new_rows_s = 30.0           # how often to look whether the files have changed
    report_score = true

    [link]
    rate_limit = "32 kbit/s"             # each direction; or bit/s as a number; none: no limit
    daily_budget = { up = "500 KB", down = "2 MB" }  # per local day; either may be left out
    quiet_hours = ["07:00-09:00"]        # local time: no updates, no models

    [health]
    listen = "127.0.0.1:8321"            # HTTP /healthz and /readyz; none: nothing listens
"""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from plantfed_agent.budget import LinkLimits, QuietHours
from plantfed_agent.column_mapping import ColumnMapping
from plantfed_shared.broker_settings import BrokerSection
from plantfed_shared.definition import Name, NonNegative, Positive, Settings
from plantfed_shared.errors import ConfigError
from plantfed_shared.health_settings import HealthSection
from plantfed_shared.quantities import rate, shown_size, size
from plantfed_shared.settings_file import read_settings
from plantfed_shared.topics import Topics, check_id


class AgentSection(Settings):
    """Who this machine is.

    Attributes:
        id: of this machine, unique in the federation.
        federation: it takes part in.
        root: first one or two levels of all topics.
        state_dir: folder of its durable state.
    """

    id: str
    federation: str
    root: str = "plantfed"
    state_dir: Path = Path("state")

    @model_validator(mode="after")
    def _ids_are_topic_levels(self) -> Self:
        try:
            check_id(self.id, "id")
            Topics(check_id(self.federation, "federation"), self.root)
        except ConfigError as error:
            raise ValueError(f"{error}") from None
        return self


class DataSection(Settings):
    """Which rows this machine has and what it calls their columns.

    Attributes:
        train: files or patterns (``*``, ``?``, ``[...]``, ``**``).
        test: the same; none: see ``test_fraction``.
        test_fraction: without test files, this part of the rows of each group of each file is
            kept back for testing: the last ones, since rows are in time order.
        format: of all files; "auto" goes by the suffix.
        label: column with the label, for classification.
        group: column; a sample never crosses from one of its values to another.
        columns: federation input or target -> local column; not listed: the same name.
        labels: local label value -> class; not listed: the value is the class.
    """

    train: tuple[Name, ...] = Field(min_length=1)
    test: tuple[Name, ...] = ()
    test_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.2
    format: Literal["auto", "npz", "csv", "parquet"] = "auto"
    label: Name | None = None
    group: Name | None = None
    columns: dict[str, str] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)

    @property
    def mapping(self) -> ColumnMapping:
        """How this machine names what its federation defines."""
        return ColumnMapping(self.columns, self.labels, self.label, self.group)


class TrainingSection(Settings):
    """When and how this machine trains.

    Attributes:
        min_interval_s: seconds from the start of one round to the start of the next, at least.
        max_rounds_without_new_rows: after so many rounds on the same files it waits for new rows.
        nice: added to the niceness of the training process.
        rest_after_s: seconds without work after which the training process ends.
        look_for_new_rows_s: how often to look whether the files have changed.
        report_score: score the served model on the test samples at every round.
    """

    min_interval_s: NonNegative = 0.0
    max_rounds_without_new_rows: Annotated[int, Field(ge=1)] = 100
    nice: Annotated[int, Field(ge=0, le=19)] = 10
    rest_after_s: Positive = 20.0
    look_for_new_rows_s: Positive = 30.0
    report_score: bool = True


SLOWEST_RATE = 8000
"""bit/s: below it not even control messages would keep to the rate."""
SMALLEST_DAY_BYTES = 20_000
"""About what an agent without bulk traffic says and hears in a day, several times."""
_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)")


def _enough_rate(value: object) -> int:
    found = rate(value)
    if found < SLOWEST_RATE:
        raise ValueError(
            f"too slow to talk over: give {SLOWEST_RATE} bit/s or more, or leave it out"
        )
    return found


def _enough_bytes(value: object) -> int:
    found = size(value)
    if found < SMALLEST_DAY_BYTES:
        least = shown_size(SMALLEST_DAY_BYTES)
        raise ValueError(f"too little even without updates: give {least} or more, or leave it out")
    return found


def _quiet_hours(value: object) -> QuietHours:
    match = _HOURS.fullmatch(value) if isinstance(value, str) else None
    if match is None or (match[3] == "24" and match[4] != "00"):
        raise ValueError('write hours such as "07:00-09:00", local time')
    start_h, start_min, end_h, end_min = (int(group) for group in match.groups())
    hours = QuietHours(3600 * start_h + 60 * start_min, (3600 * end_h + 60 * end_min) % 86400)
    if hours.start_s == hours.end_s:
        raise ValueError("begins when it ends: give the hours that are to be quiet")
    return hours


class DailyBudget(Settings):
    """MQTT bytes per local calendar day.

    Attributes:
        up: to the broker; None for any number.
        down: from it.
    """

    up: Annotated[int, BeforeValidator(_enough_bytes)] | None = None
    down: Annotated[int, BeforeValidator(_enough_bytes)] | None = None


class LinkSection(Settings):
    """What this machine may do with its link to the broker.

    Attributes:
        rate_limit: bit/s in each direction, of MQTT bytes; never exceeded by more than 5 % in any
            10 s.
        daily_budget: bytes per day.
        quiet_hours: without updates and models; ``HH:MM-HH:MM``, which may pass midnight.
    """

    rate_limit: Annotated[int, BeforeValidator(_enough_rate)] | None = None
    daily_budget: DailyBudget = DailyBudget()
    quiet_hours: tuple[Annotated[QuietHours, BeforeValidator(_quiet_hours)], ...] = ()

    @model_validator(mode="after")
    def _leaves_time(self) -> Self:
        quiet = self.quiet_hours
        # hours begin and end at full minutes, so these are all there are
        if all(any(q.left_s(s) for q in quiet) for s in range(0, 86400, 60)):
            raise ValueError("quiet_hours cover the whole day: leave some of it for updates")
        return self

    def limits(self) -> LinkLimits:
        """As the machine is told."""
        return LinkLimits(
            bytes_per_s=None if self.rate_limit is None else self.rate_limit / 8,
            day_up=self.daily_budget.up,
            day_down=self.daily_budget.down,
            quiet=self.quiet_hours,
        )


class AgentSettings(Settings):
    """All of ``agent.toml``."""

    agent: AgentSection
    broker: BrokerSection
    data: DataSection
    training: TrainingSection = TrainingSection()
    link: LinkSection = LinkSection()
    health: HealthSection = HealthSection()

    def resolved(self, folder: Path) -> "AgentSettings":
        """The same with every relative path taken from a folder."""
        return AgentSettings(
            agent=self.agent.model_copy(update={"state_dir": folder / self.agent.state_dir}),
            broker=self.broker.resolved(folder),
            data=self.data.model_copy(
                update={
                    "train": tuple(str(folder / pattern) for pattern in self.data.train),
                    "test": tuple(str(folder / pattern) for pattern in self.data.test),
                }
            ),
            training=self.training,
            link=self.link,
            health=self.health,
        )


def load_agent_settings(path: Path) -> AgentSettings:
    """Read ``agent.toml``; relative paths in it count from its folder.

    Raises:
        ConfigError: see :func:`plantfed_shared.settings_file.read_settings`.
    """
    return read_settings(path, AgentSettings).resolved(path.resolve().parent)
