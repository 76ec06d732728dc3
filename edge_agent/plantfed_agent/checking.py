"""Whether this machine's rows can be used, said before the service runs."""

from plantfed_agent.agent_store import read_state
from plantfed_agent.loading import SampleLoader
from plantfed_agent.settings import AgentSettings
from plantfed_agent.sources import files_of
from plantfed_shared.definition import FederationDefinition
from plantfed_shared.errors import StorageError


def check_rows(settings: AgentSettings) -> str:
    """What was found, for the reader; rows are only read once the definition is known.

    Raises:
        DataError: a file is missing or its rows cannot be used.
        ConfigError: the settings do not fit the federation.
    """
    files = [*files_of(settings.data.train), *files_of(settings.data.test)]
    try:
        state, _ = read_state(settings.agent.state_dir)
    except StorageError:
        encoded = b""
    else:
        encoded = state.definition
    if not encoded:
        return f"{len(files)} files found; they are read once the federation's definition is here"
    sets = SampleLoader(settings.data).load(FederationDefinition.from_bytes(encoded))
    test = 0 if sets.test is None else len(sets.test)
    return f"{len(files)} files, {len(sets.train)} samples to train and {test} to test"
