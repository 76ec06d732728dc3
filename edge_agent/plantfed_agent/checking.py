"""Whether this machine's rows can be used, said before the service runs."""

from plantfed_agent.agent_store import read_state
from plantfed_agent.loading import SampleLoader
from plantfed_agent.settings import AgentSettings
from plantfed_agent.sources import files_of
from plantfed_shared.definition import FederationDefinition
from plantfed_shared.errors import StorageError
from plantfed_shared.wording import counted


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
        found = counted(len(files), "file")
        return f"{found} found, to be read once the federation's definition is here"
    sets = SampleLoader(settings.data).load(FederationDefinition.from_bytes(encoded))
    test = 0 if sets.test is None else len(sets.test)
    train = counted(len(sets.train), "sample")
    return f"{counted(len(files), 'file')}, {train} to train and {test:,} to test"
