"""When an agent says something again and when it trains: the timers of one agent."""

from dataclasses import dataclass, field

HELLO_AGAIN_S = 5.0
HELLO_LONGEST_S = 60.0
HELLO_WHEN_REMOVED_S = 600.0
HURRY_AFTER_S = 0.5
ASK_AFTER_S = 600.0
ASK_LONGEST_S = 3600.0
"""At rest an agent asks so often, which fits its idle budget of 2 KB an hour."""
RESEND_S = 30.0
RESEND_LONGEST_S = 600.0
TRAINING_FAILED_S = 60.0
REFRESH_S = 3600.0
STALE_AFTER_S = 30.0
"""A machine that rests longer between two rounds fetches its next model when it needs it."""
THINNEST_LINK_BYTES_PER_S = 8000.0
"""A 64 kbit/s link: an update is not sent again before it can have crossed one."""


@dataclass(slots=True)
class Backoff:
    """A time to try again that doubles with every try."""

    first_s: float
    longest_s: float
    due: float | None = None
    _next_s: float = field(init=False)
    _since: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self._next_s = self.first_s

    def start(self, now: float, at_least_s: float = 0.0) -> None:
        """Begin anew: due after the first interval."""
        self._next_s = max(self.first_s, at_least_s)
        self._since = now
        self.due = now + self._next_s

    def again(self, now: float) -> None:
        """Due after twice the interval before."""
        self._next_s = min(2 * self._next_s, max(self.longest_s, self._next_s))
        self._since = now
        self.due = now + self._next_s

    def hurry(self, now: float) -> None:
        """Due at once, or half a second after the last try."""
        if self.due is not None:
            self.due = min(self.due, max(now, self._since + HURRY_AFTER_S))

    def stop(self) -> None:
        """Never due."""
        self.due = None

    def is_due(self, now: float) -> bool:
        """Whether it is time."""
        return self.due is not None and now >= self.due


@dataclass(slots=True)
class Pace:
    """All timers of an agent; times are monotonic seconds.

    Attributes:
        min_interval_s: between two rounds.
        max_rounds_without_new_rows: the agent rests after so many.
        next_round_at: no round starts before.
        next_refresh_at: at rest, the model that is served is not renewed before.
        hello: when to say hello again.
        resend: when to send the outstanding update again.
        silence: when to ask the coordinator, which has said nothing for so long, how we stand.
    """

    min_interval_s: float = 0.0
    max_rounds_without_new_rows: int = 100
    next_round_at: float = 0.0
    next_refresh_at: float = 0.0
    hello: Backoff = field(default_factory=lambda: Backoff(HELLO_AGAIN_S, HELLO_LONGEST_S))
    resend: Backoff = field(default_factory=lambda: Backoff(RESEND_S, RESEND_LONGEST_S))
    silence: Backoff = field(default_factory=lambda: Backoff(ASK_AFTER_S, ASK_LONGEST_S))

    def round_finished(self, now: float) -> None:
        """The next round starts after the interval."""
        self.next_round_at = now + self.min_interval_s

    def round_failed(self, now: float) -> None:
        """Do not burn the machine's time on a round that fails."""
        self.next_round_at = now + max(self.min_interval_s, TRAINING_FAILED_S)
