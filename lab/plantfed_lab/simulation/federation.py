"""The federation of a scenario: its file, or that of the demo, with the scenario's own settings."""

from os.path import isfile
from pathlib import Path

from plantfed_agent.kernel_source import Kernels
from plantfed_coordinator.federation_file import (
    Federation,
    load_federation,
    personal_in_mode,
    with_definition,
)
from plantfed_lab.simulation.scenario import LoadedScenario
from plantfed_lab.tennessee_eastman import federation_definition
from plantfed_shared.artefact import Artefact
from plantfed_shared.definition import FederationDefinition, Settings
from plantfed_shared.errors import ConfigError
from plantfed_shared.settings_file import check_settings


def federation_of(loaded: LoadedScenario, seed: int) -> Federation:
    """The federation of a scenario.

    Args:
        loaded: the scenario.
        seed: of the demo's initial parameters.

    Raises:
        ConfigError: its file is missing or wrong, or an override is not allowed.
        ModelError: the artefact that it names cannot be read, or is not whole.
    """
    section = loaded.scenario.federation
    path = loaded.federation_file
    base = Federation(federation_definition(seed)) if path is None else _file(path, loaded)
    document = base.definition.model_dump(mode="json")
    document["algorithm"] = base.definition.algorithm.unusual() | section.algorithm
    mode = section.algorithm.get("mode")
    personal = personal_in_mode(mode, base.definition.model) if isinstance(mode, str) else None
    if personal is not None:
        document["personal"] = personal
    document["schedule"] |= section.schedule
    document["compression"] |= section.compression
    for name in ("lattice_bits", "release_bits", "coarsest_release_bits"):
        if (value := getattr(section, name)) is not None:
            document[name] = value
    definition = check_settings({"federation": document}, _Overridden, str(loaded.path)).federation
    return with_definition(base, definition, str(loaded.path))


def kernels_of(federation: Federation) -> Kernels:
    """What trains its model: one set of sessions for all machines, which take turns."""
    if federation.artefact is None:
        return Kernels()
    artefact = Artefact.from_bytes(federation.artefact.encoded)
    return Kernels(lambda _: artefact)


def _file(path: Path, loaded: LoadedScenario) -> Federation:
    if isfile(path):  # noqa: PTH113 - Path.is_file raises for names that are too long
        return load_federation(path)
    raise ConfigError(
        f"federation.file = '{loaded.scenario.federation.file}': no such file",
        where=str(loaded.path.absolute()),
        hint=f"It would be {path.absolute()}",
    )


class _Overridden(Settings):
    federation: FederationDefinition
