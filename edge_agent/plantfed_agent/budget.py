"""What the agent may do with its link: rate, bytes per day, quiet hours.  Pure.

Bytes are those of MQTT.  Control messages (HELLO, NEED, OFFER, PUBACK, PING, ...) are counted and
never blocked; a fiftieth of a day's budget is kept for them.  Bulk (updates, and all that is
fetched) is begun only while the budget holds it:

* As the budget gets short relative to the time left in the day, updates get smaller
  (:meth:`LinkBudget.kept_factor`); rounds are skipped only when not even that is affordable.
* Without upward budget rounds train the head alone; without downward budget nothing is fetched.
* What is longer than most of a day's budget is begun with that much, and goes on the next day.
"""

from dataclasses import dataclass
from typing import NamedTuple

from plantfed_agent.events import LinkRead
from plantfed_agent.token_bucket import TokenBucket
from plantfed_shared.bus.port import MAX_MESSAGE_BYTES, publish_bytes
from plantfed_shared.local_time import DAY_S, LocalTime
from plantfed_shared.messages import MAX_PARTS
from plantfed_shared.topics import Kind, Topics
from plantfed_shared.transfer import WINDOW_BYTES
from plantfed_shared.wire import CHUNK_ENVELOPE_BYTES

CONTROL_SHARE = 0.02
"""Of a day's budget that bulk leaves for control messages."""
MOST_OF_A_DAY = 0.75
SMALLEST_FACTOR = 1 / 16
MESSAGES_OF_A_DAY = 4
"""So many of the longest fit a day's budget: with fewer, most of it may be of no use to any."""
PULL_SHARE = 7 / 8
"""Of a burst that is asked for at once: the rest is for what comes unasked in between."""
LOOK_AGAIN_S = 600.0
"""While something is held, the clock is looked at so often: it may have been put."""


class QuietHours(NamedTuple):
    """Part of every day without bulk traffic; it may pass midnight.

    Attributes:
        start_s: seconds after local midnight.
        end_s: the same, not equal to ``start_s``.
    """

    start_s: int
    end_s: int

    def left_s(self, second: float) -> float | None:
        """Seconds until they end, at a second of the day; None outside."""
        into = (second - self.start_s) % DAY_S
        length = (self.end_s - self.start_s) % DAY_S
        return length - into if into < length else None


@dataclass(frozen=True, slots=True)
class LinkLimits:
    """What ``[link]`` allows; None and () for no limit.

    Attributes:
        bytes_per_s: each direction.
        day_up: MQTT bytes per local calendar day to the broker.
        day_down: from it.
        quiet: hours without bulk traffic.
    """

    bytes_per_s: float | None = None
    day_up: int | None = None
    day_down: int | None = None
    quiet: tuple[QuietHours, ...] = ()


class Pull(NamedTuple):
    """How much may be asked for.

    Attributes:
        window_bytes: of content; 0 for nothing now.
        range_bytes: what every further range of the NEED costs besides.
        not_before: when to look again, monotonic seconds.
        asks_ahead: whether it may be asked for while something is still on its way.
    """

    window_bytes: int
    range_bytes: int
    not_before: float
    asks_ahead: bool = True


class LinkBudget:
    """The limits together with the clock and what is spent.

    A refusal is remembered until the next event: :meth:`next_change_at` tells when to try again.

    Args:
        limits: from the settings.
        topics: of the federation.
        agent: whose longest topics count as overhead.

    Attributes:
        refused: whether something was refused since the event that is being handled.
    """

    def __init__(self, limits: LinkLimits, topics: Topics, agent: str) -> None:
        self.limits = limits
        self.refused = False
        self._chunk_overhead = CHUNK_ENVELOPE_BYTES + max(
            publish_bytes(topics.up(agent, Kind.UPDATE), 0, mqtt5=True) + 2,
            publish_bytes(topics.down(agent, Kind.CHUNK), 0, mqtt5=True) + 2,
            publish_bytes(topics.lane(2**32 - 1, MAX_PARTS - 1), 0, mqtt5=True) + 2,
        )
        rate = limits.bytes_per_s
        self._incoming = None if rate is None else TokenBucket(rate)
        self._bytes_in = 0
        self._reading: LinkRead | None = None
        self._read_at = 0.0
        self._quiet_s: float | None = None

    def take(self, reading: LinkRead, now: float) -> None:
        """What the shell has read off the clock and its counters."""
        if self._incoming is not None:
            self._incoming.force(reading.bytes_in - self._bytes_in, now)
        self._bytes_in = reading.bytes_in
        self._reading, self._read_at = reading, now
        self._quiet_s = self._quiet_left_s(reading.local)

    # ------------------------------------------------------------------ what may be begun

    @property
    def is_quiet(self) -> bool:
        """Whether no bulk may cross now, whatever the budget."""
        return self._quiet_s is not None

    def kept_factor(self, n_bytes: int = 0) -> float:
        """What part of the usual share of a change to send, in (0, 1].

        The share of the budget that is left over the share of the day that is left, or what makes
        the update fit if that is less.  With rounds that would cost n budgets a day it falls to
        about exp(-n t) / (1 - t) at the time t of the day, so that the first rounds send most and
        the last ones still something.

        Args:
            n_bytes: of the UPDATE with the usual share, if that is known.
        """
        if self.limits.day_up is None or self._reading is None:
            return 1.0
        day_left = max(self._reading.local.left_s / DAY_S, 1e-9)
        pressure = self.up_left / (self.limits.day_up * (1 - CONTROL_SHARE)) / day_left
        fitting = (self.up_left - self._chunk_overhead) / max(1, self.with_chunks(n_bytes))
        return min(1.0, max(SMALLEST_FACTOR, min(pressure, fitting)))

    def affords_update(self, n_bytes: int) -> bool:
        """Whether a round whose UPDATE has about so many bytes may be begun, also in quiet hours.

        Otherwise it would only keep the update for tomorrow: train the head alone.
        """
        return self._noted(_affords(self.with_chunks(n_bytes), self.up_left, self.limits.day_up))

    def may_send(self, n_bytes: int) -> bool:
        """Whether so many bytes of an update may be put on their way now."""
        return self._noted(not self.is_quiet) and self.affords_update(n_bytes)

    def may_go_on(self, n_bytes: int) -> bool:
        """Whether so many bytes of an update that was begun may follow now."""
        fits = self.with_chunks(n_bytes) <= self.up_left
        return self._noted(not self.is_quiet) and self._noted(fits)

    def may_fetch(self, n_bytes: int) -> bool:
        """Whether a content of so many bytes may be begun, or gone on with, now."""
        if not self._noted(not self.is_quiet):
            return False
        wire_bytes = self.with_chunks(n_bytes)
        return self._noted(_affords(wire_bytes, self.down_left, self.limits.day_down))

    def pull(self, missing_bytes: int, now: float) -> Pull:
        """How much of a content may be on its way now, as budget and rate allow.

        Without a rate limit only what is left of the day's budget makes a window smaller.  With
        one, a window is what the bucket holds, asked for when nothing is on its way and counted
        when it comes: nothing else can be in the way of it, so it never comes faster than the rate.

        Args:
            missing_bytes: of it.
            now: monotonic seconds.
        """
        overhead, ahead = self._chunk_overhead, self.asks_ahead
        if not self.may_fetch(1):
            return Pull(0, overhead, self.next_change_at(), ahead)
        window = min(missing_bytes, WINDOW_BYTES, self.down_left - overhead)
        if self._incoming is None:
            return Pull(max(1, int(window)), 0, now)
        window = min(window, self.largest_window)
        ready_at = self._incoming.ready_at(window + overhead, now)
        if ready_at > now:
            return Pull(0, overhead, ready_at, ahead)
        return Pull(max(1, int(window)), overhead, now, ahead)

    @property
    def asks_ahead(self) -> bool:
        """Whether more is asked for while something is still on its way."""
        return self._incoming is None

    @property
    def largest_window(self) -> int:
        """Most bytes of content that may be asked for at once."""
        if self._incoming is None:
            return WINDOW_BYTES
        return int(self._incoming.burst_bytes * PULL_SHARE) - self._chunk_overhead

    def next_change_at(self) -> float:
        """When what is refused now may be allowed, monotonic seconds; infinite before a reading."""
        if self._reading is None:
            return float("inf")
        local = self._reading.local
        change_s = local.left_s if self._quiet_s is None else min(self._quiet_s, local.left_s)
        return self._read_at + min(change_s + 0.001, LOOK_AGAIN_S)

    # ------------------------------------------------------------------ figures

    @property
    def up_left(self) -> float:
        """Bytes of bulk that may still be handed over today."""
        reading = self._reading
        return _left(self.limits.day_up, reading.spent.up + reading.waiting if reading else 0)

    @property
    def down_left(self) -> float:
        """Bytes of bulk that may still come down today."""
        return _left(self.limits.day_down, 0 if self._reading is None else self._reading.spent.down)

    @property
    def leaves_room_to_ask(self) -> bool:
        """Whether it is for the coordinator to speak, and not for tomorrow's budget to come."""
        return min(self.up_left, self.down_left) > self._chunk_overhead

    def largest_payload(self, granted: int) -> int:
        """Longest payload to hand over at once: none that takes longer than a burst.

        That is far less than a keep alive, within which the broker must hear of us.  And no more
        than a part of a day's budget.
        """
        most = [] if self._incoming is None else [int(self._incoming.burst_bytes)]
        if self.limits.day_up is not None:
            most.append(self.limits.day_up // MESSAGES_OF_A_DAY)
        around = self._chunk_overhead - CHUNK_ENVELOPE_BYTES
        return min([granted, *(n_bytes - around for n_bytes in most)])

    def payload_that_fits(self, longest: int) -> int:
        """The same of a chunk, where less than that is left of today's budget."""
        around = self._chunk_overhead - CHUNK_ENVELOPE_BYTES
        return int(max(0, min(longest, self.up_left - around)))

    def window_that_fits(self, window_bytes: int) -> int:
        """Bytes of content that may come by themselves, where less is left of today's budget."""
        return int(max(0, min(window_bytes, self.down_left - self._chunk_overhead)))

    def with_chunks(self, n_bytes: int) -> int:
        """MQTT bytes that a content takes."""
        piece = self.largest_payload(MAX_MESSAGE_BYTES) - CHUNK_ENVELOPE_BYTES
        return n_bytes + self._chunk_overhead * -(-n_bytes // piece)

    def standing(self, update_bytes: int, fetch_bytes: int) -> str | None:
        """Why there is no bulk traffic now, in words; None when there may be.

        Args:
            update_bytes: of the next update, about.
            fetch_bytes: of the next model, about.
        """
        if self._reading is not None and self._quiet_s is not None:
            minute = round((self._reading.local.second + self._quiet_s) / 60) % 1440
            return f"quiet until {minute // 60:02d}:{minute % 60:02d}"
        up = not _affords(self.with_chunks(update_bytes), self.up_left, self.limits.day_up)
        down = not _affords(self.with_chunks(fetch_bytes), self.down_left, self.limits.day_down)
        if up and down:
            return "budget spent until tomorrow"
        if up:
            return "upward budget spent until tomorrow: only a head of its own is trained"
        return "downward budget spent until tomorrow: fetching nothing" if down else None

    def _noted(self, allowed: bool) -> bool:
        self.refused |= not allowed
        return allowed

    def _quiet_left_s(self, local: LocalTime) -> float | None:
        """Seconds until no quiet hours hold; those that overlap or touch count as one."""
        total = 0.0
        while total < DAY_S:
            found = [q.left_s((local.second + total) % DAY_S) for q in self.limits.quiet]
            longest = max((s for s in found if s is not None), default=None)
            if longest is None:
                break
            total += longest
        return total or None


def _left(day: int | None, spent: int) -> float:
    return float("inf") if day is None else max(0.0, day * (1 - CONTROL_SHARE) - spent)


def _affords(n_bytes: int, left: float, day: int | None) -> bool:
    if day is None:
        return True
    return left > 0 and min(n_bytes, day * MOST_OF_A_DAY) <= left
