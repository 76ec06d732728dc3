"""What a reader may know of an agent, running or not, from its state on disk."""

from dataclasses import replace
from typing import Any

from pydantic import BaseModel

from plantfed_agent.agent_store import FILE_NAME, read_connection, read_state
from plantfed_agent.budget import LinkBudget
from plantfed_agent.comparing import Judge
from plantfed_agent.events import LinkRead
from plantfed_agent.guard import in_words, standing
from plantfed_agent.kernel_source import Kernels
from plantfed_agent.lengths import model_bytes, next_update_bytes
from plantfed_agent.model_cache import ModelCache
from plantfed_agent.personal_model import PersonalModel
from plantfed_agent.serving_model import newest_integers, used_model
from plantfed_agent.settings import AgentSettings
from plantfed_agent.state import AgentState
from plantfed_shared.day_ledger import DayLedger
from plantfed_shared.definition import FederationDefinition
from plantfed_shared.errors import ConfigError, StorageError
from plantfed_shared.lattice import checksum
from plantfed_shared.local_time import LocalTime
from plantfed_shared.store import in_use
from plantfed_shared.topics import Topics
from plantfed_shared.wall_clock import WallClock, local_time


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
        model_k: release number of the shared parameters it has.
        loss: of the last round.
        score: of the model served before the last round, on the machine's test rows.
        metric: what the score is, as "accuracy"; None before the definition is here.
        n_samples: it trains on.
        failure: why the last round came to nothing; None where it did not.
        uses: the model that it uses, and the checksum of its shared parameters that the
            coordinator's ``replay --used-by`` has as well; None before the first.
        guard: how its guard stands, as "off: 12 of 50 new rows"; see :mod:`plantfed_agent.guard`.
        guard_check: what the guard has decided last; None before the first time.
        own_head: whether it keeps a last layer of its own in mode auto, since its labels or targets
            mean something else than the others'.
        bytes_up: MQTT bytes sent since ever.
        bytes_down: received.
        messages_up: sent.
        messages_down: received.
        up_today: MQTT bytes sent on this machine's calendar day, pings and connecting included.
        down_today: received.
        up_left: bytes that updates may still take today; None without a budget.
        down_left: bytes that models may still take today.
        up_forecast: for the whole day, if it goes on as today went.
        down_forecast: the same, received.
        held: why there is no bulk traffic now, as "quiet until 09:00"; None when there may be.
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
    metric: str | None
    n_samples: int
    failure: str | None
    uses: str | None
    guard: str
    guard_check: str | None
    own_head: bool
    bytes_up: int
    bytes_down: int
    messages_up: int
    messages_down: int
    up_today: int
    down_today: int
    up_left: int | None
    down_left: int | None
    up_forecast: int
    down_forecast: int
    held: str | None


def read_status(settings: AgentSettings, wall_clock: WallClock = local_time) -> AgentStatus:
    """The status of the agent with these settings.

    Args:
        settings: of the agent.
        wall_clock: local time.

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
        metric=_metric(state),
        n_samples=state.n_samples,
        failure=state.failure or None,
        uses=_uses(state),
        guard=standing(state.guard),
        guard_check=state.guard and state.guard.check and in_words(state.guard.check),
        own_head=state.own_head is not None,
        bytes_up=counters.get("bytes_up", 0),
        bytes_down=counters.get("bytes_down", 0),
        messages_up=counters.get("messages_up", 0),
        messages_down=counters.get("messages_down", 0),
        **_today(settings, state, DayLedger.from_counters(counters), wall_clock()),
    )


def _uses(state: AgentState) -> str | None:
    if not state.definition:
        return None
    definition = FederationDefinition.from_bytes(state.definition)
    used, newest = used_model(state, definition), newest_integers(state, definition.algorithm)
    if used is None:
        return None
    is_release = newest is not None and state.model_name is not None
    if newest is None or not is_release or (state.guard is not None and state.guard.tripped):
        # of what a guard has kept there are floats, of which no integers can be made again
        return used.name
    return f"{used.name}, checksum {checksum(newest):016x}"


def _metric(state: AgentState) -> str | None:
    if not state.definition:
        return None
    return FederationDefinition.from_bytes(state.definition).metric


def _today(
    settings: AgentSettings, state: AgentState, ledger: DayLedger, local: LocalTime
) -> dict[str, Any]:
    section, limits = settings.agent, settings.link.limits()
    spent = ledger.of(local.day)
    budget = LinkBudget(limits, Topics(section.federation, section.root), section.id)
    budget.take(LinkRead(local, spent, 0), 0.0)
    up, down = spent.forecast(local)
    return {
        "up_today": spent.up,
        "down_today": spent.down,
        "up_left": None if limits.day_up is None else int(budget.up_left),
        "down_left": None if limits.day_down is None else int(budget.down_left),
        # what is over budget will not cross, but for control messages
        "up_forecast": up if limits.day_up is None else min(up, max(spent.up, limits.day_up)),
        "down_forecast": (
            down if limits.day_down is None else min(down, max(spent.down, limits.day_down))
        ),
        "held": budget.standing(next_update_bytes(state, budget.kept_factor), model_bytes(state)),
    }


def served_model(settings: AgentSettings) -> PersonalModel:
    """The model this machine uses: shared parameters, its own heads and its class prior.

    Raises:
        StorageError: it has not received a model yet, or the state cannot be read.
    """
    return served_models(settings)[0]


def served_models(
    settings: AgentSettings, *, uniform: bool = False
) -> tuple[PersonalModel, PersonalModel | None]:
    """The model this machine uses, and the same with the other class prior, if it has one.

    Args:
        settings: of the agent.
        uniform: no class is rarer than another for the first model; the other has this machine's
            own prior.  Otherwise the other way round.

    Raises:
        StorageError: it has not received a model yet, or the state cannot be read.
        ConfigError: ``uniform`` where the federation's mode has no class prior.
    """
    state, _ = read_state(settings.agent.state_dir)
    definition = FederationDefinition.from_bytes(state.definition) if state.definition else None
    used = None if definition is None else used_model(state, definition)
    if definition is None or used is None:
        raise StorageError(
            "this agent has not received a model yet",
            where=str(settings.agent.state_dir),
            hint="Run it until it has joined its federation",
        )
    has_prior = definition.algorithm.has_prior and bool(definition.classes)
    if uniform and not has_prior:
        raise ConfigError(
            f"--prior uniform: there is no class prior in mode {definition.algorithm.mode}"
            f"{'' if definition.classes else ' without classes'}",
            where=definition.federation,
            hint="Leave it out: without it predict says the same",
        )
    judge = Judge(definition, Kernels.of_cache(ModelCache(settings.agent.state_dir)))
    name = f"{definition.federation} {used.name}"
    own, bare = (
        PersonalModel(definition, judge.parameters(model), name, judge.kernels)
        for model in (used, replace(used, prior=None))
    )
    if not has_prior:
        return own, None
    return (bare, own) if uniform else (own, bare)
