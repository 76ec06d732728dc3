"""When to connect again, and in which version of MQTT."""

import random
from dataclasses import dataclass, replace
from typing import Literal

from plantfed_shared.bus.connection_state import TroubleKind
from plantfed_shared.bus.port import Disconnected, Refused

SHORTEST_S = 0.5
LONGEST_S = 4.0
"""A link that was away is used again soon; attempts in vain cost next to nothing meanwhile."""
STABLE_S = 60.0

RIVAL_SHORTEST_S = 10.0
RIVAL_LONGEST_S = 600.0
RIVAL_STABLE_S = 2 * RIVAL_LONGEST_S
"""Longer than the other process ever waits before it takes its turn."""

FLAPS = 3
"""So many connections in a row that the broker ended soon are no accident any more."""

Protocol = Literal["auto", "5", "3.1.1"]


@dataclass(frozen=True, slots=True)
class End:
    """How a connection, or an attempt at one, ended.

    Attributes:
        event: what the user of the bus is told.
        reached: there was a connection to speak MQTT on.
        answered: the broker answered our CONNECT.
        version_refused: it answered that it doesn't know this version.
        hung_up: it had let us in, and ended the connection without a word.
        taken_over: it said that another process has connected with our client id.
        flapping: that is what it looks like.
    """

    event: Disconnected | Refused
    reached: bool = False
    answered: bool = False
    version_refused: bool = False
    hung_up: bool = False
    taken_over: bool = False
    flapping: bool = False

    @property
    def kind(self) -> TroubleKind:
        """Who can end this; a client id used twice needs a person, as a refusal does."""
        ours = self.taken_over or isinstance(self.event, Refused)
        return TroubleKind.REFUSED if ours else TroubleKind.UNAVAILABLE


class Backoff:
    """Exponential waits with full jitter, so that a fleet doesn't come back in step.

    The n-th wait in a row (from 0) is uniform between a share of its ceiling and the ceiling,
    min(longest, shortest * 2**n).  Only a connection that lasted starts the row anew: two clients
    with one id throw each other out again and again.

    Args:
        rng: source of the jitter.
        shortest_s: ceiling of the first wait.
        longest_s: ceiling of all waits.
        stable_s: a connection that stood this long was a good one.
        least_share: of the ceiling that is always waited, 0 .. 1.
    """

    def __init__(
        self,
        rng: random.Random,
        *,
        shortest_s: float = SHORTEST_S,
        longest_s: float = LONGEST_S,
        stable_s: float = STABLE_S,
        least_share: float = 0.0,
    ) -> None:
        self._rng = rng
        self._least_share = least_share
        self._shortest_s = shortest_s
        self._longest_s = longest_s
        self._stable_s = stable_s
        self._ceiling_s = shortest_s

    def wait_after(self, lasted_s: float) -> float:
        """Return the seconds to wait after a connection that stood this long (0: never)."""
        if lasted_s >= self._stable_s:
            self._ceiling_s = self._shortest_s
        wait_s = self._rng.uniform(self._least_share * self._ceiling_s, self._ceiling_s)
        self._ceiling_s = min(2 * self._ceiling_s, self._longest_s)
        return wait_s


class Pauses:
    """How long to wait after the end of a connection, by why it ended.

    Two processes with one client id end each other's connection (MQTT 5 section 3.1.4, reason
    0x8E), and would do so for ever, each time with all that a new connection costs.  They wait
    5 to 10 s at first, doubling to 5 to 10 min: short enough for one that was started by mistake
    and ended at once, such as a check, long enough to harm nobody until a person has read the log.
    An attempt that reaches nobody begins their waits anew: a broker that comes and goes is none.

    Args:
        rng: source of the jitter.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._usual = Backoff(rng)
        self._rival = self._new_rival()

    def _new_rival(self) -> Backoff:
        return Backoff(
            self._rng,
            shortest_s=RIVAL_SHORTEST_S,
            longest_s=RIVAL_LONGEST_S,
            stable_s=RIVAL_STABLE_S,
            least_share=0.5,
        )

    def after(self, end: End, stood_s: float) -> float:
        """Return the seconds to wait after a connection that stood this long (0: never)."""
        if not end.reached:
            self._rival = self._new_rival()
        backoff = self._rival if end.taken_over or end.flapping else self._usual
        return backoff.wait_after(stood_s)


class Flapping:
    """Recognises a second process with our client id where the broker says nothing.

    In MQTT 3.1.1 it cannot, and mosquitto does from 2.0.15 on only (mosquitto#2607).  What is left
    to see is a broker that ends one connection after the other soon after it let us in.

    Args:
        client_id: ours.
    """

    def __init__(self, client_id: str) -> None:
        self._client_id = client_id
        self._in_a_row = 0

    def judge(self, end: End, stood_s: float) -> End:
        """Take in one end; returns it, with the question in its reason where it fits.

        Args:
            end: of a connection or an attempt.
            stood_s: how long it stood.
        """
        # Once we wait longer, so does the other one, and lets us stand for as long.
        soon_s = STABLE_S if self._in_a_row < FLAPS else RIVAL_STABLE_S
        # NATS lets the two in by turns, and every other attempt wait until the next one comes.
        kept_waiting = end.reached and not end.answered
        if end.hung_up and stood_s < soon_s:
            self._in_a_row += 1
        elif not kept_waiting:
            self._in_a_row = 0
        if self._in_a_row < FLAPS:
            return end
        how = "" if kept_waiting else " soon after it was made"
        question = f"is another process connected to the broker as {self._client_id!r}?"
        reason = f"{end.event.reason}{how}, again and again: {question}"
        return replace(end, event=Disconnected(reason), flapping=True)


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
