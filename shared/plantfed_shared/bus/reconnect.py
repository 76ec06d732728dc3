"""When to connect again, and in which version of MQTT."""

import random
from dataclasses import dataclass
from typing import Literal

from plantfed_shared.bus.port import Disconnected, Refused

SHORTEST_S = 0.5
LONGEST_S = 30.0
STABLE_S = 60.0

Protocol = Literal["auto", "5", "3.1.1"]


@dataclass(frozen=True, slots=True)
class End:
    """How a connection, or an attempt at one, ended.

    Attributes:
        event: what the user of the bus is told.
        reached: there was a connection to speak MQTT on.
        answered: the broker answered our CONNECT.
        version_refused: it answered that it doesn't know this version.
    """

    event: Disconnected | Refused
    reached: bool = False
    answered: bool = False
    version_refused: bool = False


class Backoff:
    """Exponential waits with full jitter, so that a fleet doesn't come back in step.

    The n-th wait in a row (from 0) is uniform in 0 .. min(longest, shortest * 2**n).  Only a
    connection that lasted starts the row anew: two clients with one id throw each other out again
    and again.

    Args:
        rng: source of the jitter.
        shortest_s: ceiling of the first wait.
        longest_s: ceiling of all waits.
        stable_s: a connection that stood this long was a good one.
    """

    def __init__(
        self,
        rng: random.Random,
        *,
        shortest_s: float = SHORTEST_S,
        longest_s: float = LONGEST_S,
        stable_s: float = STABLE_S,
    ) -> None:
        self._rng = rng
        self._shortest_s = shortest_s
        self._longest_s = longest_s
        self._stable_s = stable_s
        self._ceiling_s = shortest_s

    def wait_after(self, lasted_s: float) -> float:
        """Return the seconds to wait after a connection that stood this long (0: never)."""
        if lasted_s >= self._stable_s:
            self._ceiling_s = self._shortest_s
        wait_s = self._rng.uniform(0.0, self._ceiling_s)
        self._ceiling_s = min(2 * self._ceiling_s, self._longest_s)
        return wait_s


class Dialect:
    """Which version of MQTT to speak next; sticks to what once worked.

    Args:
        protocol: ``auto`` begins with 5 and falls back to 3.1.1.
    """

    def __init__(self, protocol: Protocol) -> None:
        self.mqtt5 = protocol != "3.1.1"
        self._automatic = protocol == "auto"
        self._settled = False

    def worked(self) -> None:
        """A connection stands."""
        self._settled = True

    def change_after(self, end: End) -> bool:
        """Learn from an end; True to try the other version without waiting."""
        if not self._automatic:
            return False
        if end.version_refused:
            self.mqtt5 = not self.mqtt5
            # Back to 5 only after a wait: a broker that refuses both must not be hammered.
            return not self.mqtt5
        if not self._settled and end.reached and not end.answered:
            # Some brokers hang up on a version they don't know.
            self.mqtt5 = not self.mqtt5
        return False
