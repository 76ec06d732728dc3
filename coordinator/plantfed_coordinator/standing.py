"""Requests for the newest model that stand until there is a newer one, and it is their turn: pure.

A machine that has little left to learn asks for the next model only after others have sent
something new (``others`` of WANT): what it would say before hardly differs from what it said last.
Nobody counts twice: while a few say the same again, what the machine waits for has not come.
"""

from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass
from math import inf

from plantfed_shared.messages import Want


@dataclass(frozen=True, slots=True)
class Standing:
    """One member's request.

    Attributes:
        want: as it was said.
        since: how many updates were applied before it, of all members.
        others: its turn has come when so many other members have sent an update since.
        at_latest: or at this time, monotonic seconds.
    """

    want: Want
    since: int
    others: int
    at_latest: float


class StandingWants:
    """At most one request of each member, and who has sent an update when."""

    def __init__(self) -> None:
        self._of: dict[str, Standing] = {}
        self._last_update_of: OrderedDict[str, int] = OrderedDict()
        self._next_updates: float = inf
        self._next_at = inf

    @property
    def agents(self) -> list[str]:
        """Whose requests stand, in order."""
        return sorted(self._of)

    @property
    def next_at(self) -> float:
        """When somebody's turn comes by time alone."""
        return self._next_at

    def updated(self, agent: str, updates: int) -> None:
        """An update of a member was applied.

        Args:
            agent: whose.
            updates: applied so far with this one, of all members.
        """
        self._last_update_of[agent] = updates
        self._last_update_of.move_to_end(agent)

    def put(self, agent: str, standing: Standing) -> None:
        """Take in a request, in the place of the member's last one."""
        self._of[agent] = standing
        self._expect(standing.since + standing.others, standing.at_latest)

    def get(self, agent: str) -> Standing:
        """A member's request.

        Raises:
            KeyError: it has none.
        """
        return self._of[agent]

    def discard(self, agent: str) -> None:
        """Its request is answered, or it has none."""
        self._of.pop(agent, None)

    def forget(self, agent: str | None = None) -> None:
        """A member has left, or, without a name, all are asked anew."""
        if agent is None:
            self._of.clear()
            self._last_update_of.clear()
        else:
            self._of.pop(agent, None)
            self._last_update_of.pop(agent, None)

    def a_turn_may_have_come(self, updates: int, now: float) -> bool:
        """Whether the turn of one that waited for it may have come: then all are to be looked at.

        Args:
            updates: applied so far.
            now: monotonic seconds.
        """
        return updates >= self._next_updates or now >= self._next_at

    def whose_turn_it_is(self, now: float) -> list[str]:
        """Whose requests may be answered, in order; they stand until they are discarded."""
        times = list(self._last_update_of.values())
        self._next_updates = self._next_at = inf
        return [agent for agent in self.agents if not self._waits(agent, times, now)]

    def _waits(self, agent: str, times: list[int], now: float) -> bool:
        standing = self._of[agent]
        missing = standing.others - self._others_since(agent, standing.since, times)
        if missing <= 0 or now >= standing.at_latest:
            return False
        newest = times[-1] if times else 0
        self._expect(max(newest, standing.since) + missing, standing.at_latest)
        return True

    def _others_since(self, agent: str, since: int, times: list[int]) -> int:
        itself = self._last_update_of.get(agent, 0) > since
        return len(times) - bisect_right(times, since) - itself

    def _expect(self, updates: int, at_latest: float) -> None:
        self._next_updates = min(self._next_updates, updates)
        self._next_at = min(self._next_at, at_latest)
