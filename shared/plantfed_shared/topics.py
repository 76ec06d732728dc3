"""Topic names, subscriptions and broker permissions, all from one table.

    {root}/v1/{federation}/{agent}/up/{kind}      agent -> coordinator
    {root}/v1/{federation}/{agent}/down/{kind}    coordinator -> agent
    {root}/v1/{federation}/{agent}/status         agent -> coordinator, retained, last will
    {root}/v1/{federation}/all/model              coordinator -> all agents, retained
    {root}/v1/{federation}/all/chunk/{lane}       coordinator -> those who listen to that lane

At most seven slashes (AWS IoT Core), so a root has at most two levels.  An agent id is a topic
level and the agent's user name on the broker at once; the coordinator's user name starts with an
underscore, which no agent id can.

A *lane* carries one part of one content, once: what may come to who listens to it is known before.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from plantfed_shared.errors import ConfigError, PeerError

PROTOCOL = "v1"
COORDINATOR = "_coordinator"
EVERYBODY = "all"
RESERVED_IDS = frozenset({EVERYBODY, "coordinator", "broker"})
ID_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}$"
ROOT_PATTERN = r"^[A-Za-z0-9_-]{1,64}(/[A-Za-z0-9_-]{1,64})?$"


class Kind(StrEnum):
    """Message kinds; the value is the last topic level."""

    HELLO = "hello"
    UPDATE = "update"
    OFFER = "offer"
    WANT = "want"
    NEED = "need"
    CHUNK = "chunk"
    BYE = "bye"
    STATUS = "status"
    WELCOME = "welcome"
    STATE = "state"
    START = "start"
    MODEL = "model"
    GROUP = "group"
    PART = "part"


UP = (Kind.HELLO, Kind.UPDATE, Kind.OFFER, Kind.WANT, Kind.NEED, Kind.CHUNK, Kind.PART, Kind.BYE)
DOWN = (Kind.WELCOME, Kind.STATE, Kind.START, Kind.NEED, Kind.CHUNK, Kind.GROUP)
_DIRECTED = {
    (direction, kind.value): kind
    for direction, kinds in (("up", UP), ("down", DOWN))
    for kind in kinds
}
_ID = re.compile(ID_PATTERN)
_LANE = re.compile(r"[0-9]{1,10}-[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed topic.

    Attributes:
        agent: the agent it is from or to; ``all`` for the manifest and for lanes.
        direction: ``up``, ``down`` or ``""`` (status, manifest, lanes).
        kind: what the payload is.
    """

    agent: str
    direction: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Permission:
    """One line of a broker's access list; ``agent`` in the topic is the client's own id."""

    user: str
    access: str
    topic: str


def check_id(value: str, what: str) -> str:
    """Return an agent or federation id unchanged.

    Raises:
        ConfigError: it is reserved or not lower-case letters, digits and hyphens.
    """
    if not re.fullmatch(ID_PATTERN, value) or value in RESERVED_IDS:
        reserved = ", ".join(sorted(RESERVED_IDS))
        raise ConfigError(
            f"{what} {value!r} is not allowed",
            hint=f"Use 1 to 63 of a-z, 0-9 and '-', not beginning with '-', none of: {reserved}",
        )
    return value


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one federation below one root."""

    federation: str
    root: str = "plantfed"

    def __post_init__(self) -> None:
        check_id(self.federation, "federation id")
        if not re.fullmatch(ROOT_PATTERN, self.root):
            raise ConfigError(
                f"topic root {self.root!r} is not allowed",
                hint="Use one or two levels of letters, digits, '_' and '-', like 'site/plantfed'",
            )

    @property
    def prefix(self) -> str:
        """Everything before the agent's level, with the slash."""
        return f"{self.root}/{PROTOCOL}/{self.federation}/"

    @property
    def manifest(self) -> str:
        """The retained announcement of the newest model."""
        return f"{self.prefix}{EVERYBODY}/{Kind.MODEL}"

    def lane(self, group: int, part: int) -> str:
        """One part of what several agents fetch together."""
        return f"{self._lanes}{group}-{part}"

    @property
    def _lanes(self) -> str:
        return f"{self.prefix}{EVERYBODY}/{Kind.CHUNK}/"

    def up(self, agent: str, kind: Kind) -> str:
        """Topic of a message from an agent."""
        return f"{self.prefix}{agent}/up/{kind}"

    def down(self, agent: str, kind: Kind) -> str:
        """Topic of a message to an agent."""
        return f"{self.prefix}{agent}/down/{kind}"

    def status(self, agent: str) -> str:
        """Topic of an agent's retained presence."""
        return f"{self.prefix}{agent}/{Kind.STATUS}"

    def agent_subscriptions(self, agent: str) -> tuple[str, ...]:
        """Filters of one agent; to lanes it listens only while something is to come on them."""
        return (f"{self.prefix}{agent}/down/+", self.manifest)

    def coordinator_subscriptions(self) -> tuple[str, ...]:
        """Filters of the coordinator; its own manifest tells it of a twin or a newer past."""
        return (f"{self.prefix}+/up/+", f"{self.prefix}+/{Kind.STATUS}", self.manifest)

    def permissions(self, agent: str) -> tuple[Permission, ...]:
        """What a broker must allow the agent and the coordinator, and nothing else."""
        return (
            *(Permission(agent, "write", self.up(agent, kind)) for kind in UP),
            Permission(agent, "write", self.status(agent)),
            # one line with a wildcard: NATS grants a filter only if one line covers all of it
            Permission(agent, "read", f"{self.prefix}{agent}/down/+"),
            Permission(agent, "read", self.manifest),
            Permission(agent, "read", f"{self._lanes}+"),
        )

    def coordinator_permissions(self) -> tuple[Permission, ...]:
        """What a broker must allow the coordinator."""
        return (
            Permission(COORDINATOR, "read", f"{self.prefix}+/up/+"),
            Permission(COORDINATOR, "read", f"{self.prefix}+/{Kind.STATUS}"),
            Permission(COORDINATOR, "write", f"{self.prefix}+/down/+"),
            Permission(COORDINATOR, "readwrite", self.manifest),
            Permission(COORDINATOR, "write", f"{self._lanes}+"),
        )

    def parse(self, topic: str) -> Address:
        """Split a received topic.

        Raises:
            PeerError: it is none of this federation's topics.
        """
        return _parsed(self.prefix, topic)


# a raised error is not kept, so that what strangers make up takes no memory
@lru_cache(maxsize=4096)
def _parsed(prefix: str, topic: str) -> Address:
    address = _address(topic[len(prefix) :].split("/")) if topic.startswith(prefix) else None
    if address is None:
        raise PeerError("not a topic of this federation", where=topic[:200])
    return address


def _address(levels: list[str]) -> Address | None:
    match levels:
        case ["all", Kind.MODEL.value]:
            return Address(EVERYBODY, "", Kind.MODEL)
        case ["all", Kind.CHUNK.value, lane] if _LANE.fullmatch(lane):
            return Address(EVERYBODY, "", Kind.CHUNK)
        case [agent, Kind.STATUS.value] if _is_agent(agent):
            return Address(agent, "", Kind.STATUS)
        case [agent, direction, kind] if _is_agent(agent) and (direction, kind) in _DIRECTED:
            return Address(agent, direction, _DIRECTED[direction, kind])
    return None


def _is_agent(level: str) -> bool:
    return _ID.fullmatch(level) is not None and level not in RESERVED_IDS
