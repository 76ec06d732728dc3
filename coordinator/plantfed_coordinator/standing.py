"""Requests for the newest model that stand until there is a newer one, and it is their turn: pure.

A machine that has little left to learn asks for the next model only after others have sent
something new (``others`` of WANT): what it would say before hardly differs from what it said last.
"""

from dataclasses import dataclass
from math import inf

from plantfed_shared.messages import Want


@dataclass(frozen=True, slots=True)
class Standing:
    """One member's request.

    Attributes:
        want: as it was said.
        after_updates: its turn has come when so many were applied.
        at_latest: or at this time, monotonic seconds.
    """

    want: Want
    after_updates: int
    at_latest: float

    def has_its_turn(self, updates: int, now: float) -> bool:
        """Whether it may be answered."""
        return updates >= self.after_updates or now >= self.at_latest


class StandingWants:
    """At most one request of each member."""

    def __init__(self) -> None:
        self._of: dict[str, Standing] = {}
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

    def put(self, agent: str, standing: Standing) -> None:
        """Take in a request, in the place of the member's last one."""
        self._of[agent] = standing
        self._expect(standing)

    def get(self, agent: str) -> Standing:
        """A member's request.

        Raises:
            KeyError: it has none.
        """
        return self._of[agent]

    def discard(self, agent: str | None = None) -> None:
        """Forget a member's request, or, without a name, all."""
        if agent is None:
            self._of.clear()
        else:
            self._of.pop(agent, None)

    def a_turn_has_come(self, updates: int, now: float) -> bool:
        """Whether the turn of one that waited for it has come, so that all are to be looked at."""
        return updates >= self._next_updates or now >= self._next_at

    def look_ahead(self, updates: int, now: float) -> None:
        """All have been looked at: find out whose turn comes next."""
        self._next_updates = self._next_at = inf
        for standing in self._of.values():
            if not standing.has_its_turn(updates, now):
                self._expect(standing)

    def _expect(self, standing: Standing) -> None:
        self._next_updates = min(self._next_updates, standing.after_updates)
        self._next_at = min(self._next_at, standing.at_latest)
