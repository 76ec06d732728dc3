"""Settings of the coordinator: ``coordinator.toml``, and the federation file it names."""

from pathlib import Path

from pydantic import Field, field_validator

from plantfed_coordinator.limits import Limits
from plantfed_shared.broker_settings import BrokerSection
from plantfed_shared.definition import FederationDefinition, Settings
from plantfed_shared.errors import ConfigError
from plantfed_shared.health_settings import HealthSection
from plantfed_shared.settings_file import read_settings
from plantfed_shared.topics import Topics


class CoordinatorSection(Settings):
    """What the coordinator serves and where it keeps it.

    Attributes:
        federation_file: TOML file with the federation's definition.
        state_dir: folder of the journal.
        root: first one or two levels of all topics.
        journal_megabytes: updates stay in the journal up to about so many megabytes (2^20 bytes),
            and at least for half as many; ``replay --verify`` goes back so far.
    """

    federation_file: Path
    state_dir: Path = Path("state")
    root: str = "plantfed"
    journal_megabytes: int = Field(default=256, ge=1, le=2**20)

    @field_validator("root")
    @classmethod
    def _root_is_allowed(cls, root: str) -> str:
        try:
            Topics("x", root)
        except ConfigError as error:
            raise ValueError(f"{error}") from None
        return root


class CoordinatorSettings(Settings):
    """All of ``coordinator.toml``."""

    coordinator: CoordinatorSection
    broker: BrokerSection
    health: HealthSection = HealthSection()
    limits: Limits = Limits()


def load_coordinator_settings(path: Path) -> CoordinatorSettings:
    """Read ``coordinator.toml``; relative paths in it count from its folder.

    Raises:
        ConfigError: see :func:`plantfed_shared.settings_file.read_settings`.
    """
    settings = read_settings(path, CoordinatorSettings)
    folder, section = path.resolve().parent, settings.coordinator
    resolved = {
        "federation_file": folder / section.federation_file,
        "state_dir": folder / section.state_dir,
    }
    return settings.model_copy(
        update={
            "coordinator": section.model_copy(update=resolved),
            "broker": settings.broker.resolved(folder),
        }
    )


def load_definition(path: Path) -> FederationDefinition:
    """Read a federation file.

    Raises:
        ConfigError: see :func:`plantfed_shared.settings_file.read_settings`, or the federation's
            id can't be a topic level.
    """
    definition = read_settings(path, FederationDefinition)
    try:
        Topics(definition.federation)
    except ConfigError as error:
        raise ConfigError(error.what, where=f"{path}: federation", hint=error.hint) from None
    return definition
