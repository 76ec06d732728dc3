"""MQTT bytes up and down per calendar day."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from plantfed_shared.local_time import LocalTime


class Spent(NamedTuple):
    """MQTT bytes of one day.

    Attributes:
        up: from the agent to the broker.
        down: from the broker to the agent.
        since_s: when that day counting began, seconds after midnight: for a forecast.
    """

    up: int = 0
    down: int = 0
    since_s: float = 0.0

    def forecast(self, local: LocalTime, least_s: float = 3600.0) -> tuple[int, int]:
        """(up, down) at the end of the day if it goes on as since the counting began.

        Args:
            local: now.
            least_s: what was spent within less than so long is taken for that long.
        """
        counted_s = max(least_s, local.second - self.since_s)
        ahead = local.left_s / counted_s
        return self.up + round(self.up * ahead), self.down + round(self.down * ahead)


@dataclass(slots=True)
class DayLedger:
    """Counts bytes by date.

    A day is over when the date differs, whatever the direction.  The last few dates are kept, so
    that a clock that jumps to another day and back finds there what was spent: a jump gives one new
    day, not an endless number of them.

    Attributes:
        days: by date (ordinal), the one counted last at the end.
        kept: dates.
    """

    days: dict[int, Spent]
    kept: int = 4

    @classmethod
    def from_counters(cls, counters: Mapping[str, int]) -> "DayLedger":
        """The inverse of :meth:`counters`; other counters are ignored."""
        ledger = cls({})
        for slot in range(ledger.kept):
            if f"day_{slot}" in counters:
                fields = (counters.get(f"day_{slot}_{name}", 0) for name in Spent._fields)
                ledger.days[counters[f"day_{slot}"]] = Spent(*fields)
        return ledger

    def counters(self) -> dict[str, int]:
        """As integers under a name each: a slot for each day, since a store forgets none."""
        found: dict[str, int] = {}
        for slot, (day, spent) in enumerate(self.days.items()):
            found[f"day_{slot}"] = day
            for name, value in spent._asdict().items():
                found[f"day_{slot}_{name}"] = round(value)
        return found

    def count(self, local: LocalTime, up: int = 0, down: int = 0) -> Spent:
        """Add bytes to the day it is; returns what that day has spent now."""
        before = self.days.pop(local.day, None)
        if before is None:
            # a day that began while we looked on was counted from its beginning
            since_s = 0.0 if local.day - 1 in self.days else local.second
            before = Spent(since_s=since_s)
        spent = before._replace(up=before.up + up, down=before.down + down)
        self.days[local.day] = spent
        while len(self.days) > self.kept:
            del self.days[next(iter(self.days))]
        return spent

    def of(self, day: int) -> Spent:
        """What a day has spent; nothing for one that is not kept."""
        return self.days.get(day, Spent())
