"""Before a coordinator serves: is there another one that does?  Pure.

Two coordinators with states of their own would begin one epoch after the other, each with what the
other's agents have lost.  The broker lets in one of them at a time, since both have the same client
id; the one that is thrown out comes back within :data:`RIVAL_BACK_S` and throws the other one out.

So whoever finds on the broker a model that its own journal doesn't know, which is also what one
restored from a backup finds, says nothing for a while.  If it is thrown out meanwhile, there is
another coordinator, and a newer one; if not, there is none.
"""

from plantfed_coordinator.admission import newer_past_of_model
from plantfed_coordinator.state import FederationState
from plantfed_shared import wire
from plantfed_shared.bus.port import BusEvent, Connected, Disconnected, Received, Refused
from plantfed_shared.errors import ConfigError, PeerError
from plantfed_shared.messages import Manifest
from plantfed_shared.topics import Kind, Topics

LOOK_S = 0.3
"""For the retained manifest, where there is one; it follows the SUBACK at once."""
RIVAL_BACK_S = 15.0
"""More than the longest first wait of a client that was thrown out: see ``bus.reconnect``."""
THROWN_OUT = 2
"""Times that prove a rival where the broker doesn't say why it ends a connection."""


class Probation:
    """Decides when a coordinator that has connected may serve.

    Args:
        topics: of the federation.
    """

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self._until: float | None = None
        self._seen = ""
        self._thrown_out = 0

    @property
    def until(self) -> float | None:
        """When it ends, monotonic seconds; None where it is over, or there is no connection."""
        return self._until

    def take(
        self, event: BusEvent, state: FederationState, now: float, *, taken_over: bool
    ) -> None:
        """Learn from what happens on the bus.

        Args:
            event: the newest.
            state: of this coordinator.
            now: monotonic seconds.
            taken_over: the broker says that another process has connected under our name.

        Raises:
            ConfigError: another coordinator serves this federation, and knows more than this one.
        """
        match event:
            case Connected():
                self._until, self._seen = now + LOOK_S, ""
            case Received(topic, payload, _, retained) if self._until is not None:
                if retained and topic == self._topics.manifest:
                    self._look_at(payload, state, now)
            case Disconnected() | Refused() if self._until is not None:
                self._until = None
                self._judge(taken_over=taken_over)

    def over(self, now: float) -> bool:
        """Whether it may serve, if it is connected."""
        if self._until is not None and now >= self._until:
            self._until, self._thrown_out = None, 0
        return self._until is None

    def _look_at(self, payload: bytes, state: FederationState, now: float) -> None:
        try:
            message = wire.decode(payload, Kind.MODEL).message
        except PeerError:
            return
        if not isinstance(message, Manifest):
            return
        name = message.offer.name
        seen = newer_past_of_model(state, name)
        # of two federations of one name the one that has come further serves
        ahead = name.epoch.counter == state.epoch.counter and name.k < state.k
        if seen is None or ahead:
            self._until = now
        else:
            self._until, self._seen = now + RIVAL_BACK_S, seen.reason

    def _judge(self, *, taken_over: bool) -> None:
        if not self._seen:
            return
        self._thrown_out += THROWN_OUT if taken_over else 1
        if self._thrown_out >= THROWN_OUT:
            raise ConfigError(
                f"another coordinator serves this federation, and knows more: {self._seen}",
                where=f"federation {self._topics.federation!r}",
                hint="Stop that one first, or give this federation another id",
            )
