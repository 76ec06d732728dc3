"""What a reader may know of an agent, running or not, from its state on disk."""

from pydantic import BaseModel

from plantfed_agent.agent_store import FILE_NAME, read_connection, read_state
from plantfed_agent.inprocess import initial_head
from plantfed_agent.personal_model import PersonalModel
from plantfed_agent.settings import AgentSettings
from plantfed_agent.whole_model import whole_model
from plantfed_shared.definition import FederationDefinition
from plantfed_shared.errors import StorageError
from plantfed_shared.store import in_use


class AgentStatus(BaseModel):
    """One agent as it is on disk.

    Attributes:
        id: of the agent.
        federation: it takes part in.
        running: whether a process holds its state.
        connected: to the broker; None where it never was.
        connection_since: of that or of its absence, Unix seconds.
        trouble: why there is no connection.
        incarnation: given by the coordinator.
        applied_seq: last update known to be applied in this incarnation.
        outstanding: whether an update waits for its verdict.
        rounds: trained since ever.
        model_k: release number of the shared parameters it serves.
        loss: of the last round.
        score: of the model served before the last round, on the machine's test rows.
        n_samples: it trains on.
        bytes_up: MQTT bytes sent since ever.
        bytes_down: received.
        messages_up: sent.
        messages_down: received.
    """

    id: str
    federation: str
    running: bool
    connected: bool | None
    connection_since: float | None
    trouble: str | None
    incarnation: int
    applied_seq: int
    outstanding: bool
    rounds: int
    model_k: int | None
    loss: float | None
    score: float | None
    n_samples: int
    bytes_up: int
    bytes_down: int
    messages_up: int
    messages_down: int


def read_status(settings: AgentSettings) -> AgentStatus:
    """The status of the agent with these settings.

    Raises:
        StorageError: it has no state yet, or the state cannot be read.
    """
    section = settings.agent
    state, counters = read_state(section.state_dir)
    connection = read_connection(section.state_dir)
    trouble = connection.trouble if connection and not connection.connected else None
    return AgentStatus(
        id=section.id,
        federation=section.federation,
        running=in_use(section.state_dir / FILE_NAME),
        connected=connection.connected if connection else None,
        connection_since=connection.since if connection else None,
        trouble=trouble.text if trouble else None,
        incarnation=state.incarnation,
        applied_seq=state.applied_seq,
        outstanding=state.outstanding is not None,
        rounds=state.rounds,
        model_k=state.model_name.k if state.model_name else None,
        loss=state.loss,
        score=state.score,
        n_samples=state.n_samples,
        bytes_up=counters.get("bytes_up", 0),
        bytes_down=counters.get("bytes_down", 0),
        messages_up=counters.get("messages_up", 0),
        messages_down=counters.get("messages_down", 0),
    )


def served_model(settings: AgentSettings) -> PersonalModel:
    """The newest shared parameters this machine has, with its own head.

    Raises:
        StorageError: it has not received a model yet, or the state cannot be read.
    """
    state, _ = read_state(settings.agent.state_dir)
    if state.model is None or state.model_name is None or not state.definition:
        raise StorageError(
            "this agent has not received a model yet",
            where=str(settings.agent.state_dir),
            hint="Run it until it has joined its federation",
        )
    definition = FederationDefinition.from_bytes(state.definition)
    head = initial_head(definition) if state.head is None else state.head
    shared = definition.lattice().to_floats(state.model)
    name = f"{definition.federation} release {state.model_name.k}"
    parameters = whole_model(definition.parameter_specification(), shared, head)
    return PersonalModel(definition, parameters, name)
