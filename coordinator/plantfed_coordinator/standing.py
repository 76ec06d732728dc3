"""Requests for the newest model that stand until there is a newer one, and it is their turn: pure.

A machine that has little left to learn asks for the next model only after others have sent
something new (``others`` of WANT): what it would say before hardly differs from what it said last.
Nobody counts twice: while a few say the same again, what the machine waits for has not come.  And
nobody is waited for who is away, or has said with its last update that it will not go on soon.
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from plantfed_shared.messages import Want


@dataclass(frozen=True, slots=True)
class Standing:
    """One member's request.

    Attributes:
        want: as it was said; its turn has come when so many others have sent an update since its
            own last one.
        since: or, where it has sent none, since so many were applied of all members.
        at_latest: or at this time, monotonic seconds.
    """

    want: Want
    since: int
    at_latest: float


class _Sent(NamedTuple):
    """A member's last update.

    Attributes:
        updates: applied with it, of all members.
        at: monotonic seconds.
        goes_on: whether it asked for the model after it.
    """

    updates: int
    at: float
    goes_on: bool


class StandingWants:
    """At most one request of each member, and who has sent an update when."""

    def __init__(self) -> None:
        self._of: dict[str, Standing] = {}
        self._sent: OrderedDict[str, _Sent] = OrderedDict()
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

    @property
    def let_others_go_first(self) -> bool:
        """Whether it matters to one of them who has sent an update."""
        return any(standing.want.others for standing in self._of.values())

    def going_on(self, members: Iterable[str]) -> int:
        """How many of some members have not said that they won't send another update soon."""
        return sum(a not in self._sent or self._sent[a].goes_on for a in members)

    def updated(self, agent: str, updates: int, now: float, *, goes_on: bool) -> None:
        """An update of a member was applied.

        Args:
            agent: whose.
            updates: applied so far with this one, of all members.
            now: monotonic seconds.
            goes_on: whether it asks for the model after it.
        """
        self._sent[agent] = _Sent(updates, now, goes_on)
        self._sent.move_to_end(agent)
        if not goes_on:
            self.look_again()

    def put(self, agent: str, want: Want, updates: int, now: float, patience_s: float) -> None:
        """Take in a request, in the place of the member's last one.

        However often it is said, it waits from the member's last update on.

        Args:
            agent: whose.
            want: what it says.
            updates: applied so far, of all members.
            now: monotonic seconds.
            patience_s: it waits no longer for others.
        """
        sent = self._sent.get(agent)
        self._of[agent] = Standing(want, updates, (now if sent is None else sent.at) + patience_s)
        self.look_again()

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
            self._sent.clear()
        else:
            self._of.pop(agent, None)
            self._sent.pop(agent, None)
            self.look_again()

    def look_again(self) -> None:
        """Somebody is waited for no more: everybody's turn may have come."""
        self._next_updates = -inf

    def a_turn_may_have_come(self, updates: int, now: float) -> bool:
        """Whether the turn of one that waited for it may have come: then all are to be looked at.

        Args:
            updates: applied so far.
            now: monotonic seconds.
        """
        return updates >= self._next_updates or now >= self._next_at

    def whose_turn_it_is(self, going_on: int, now: float) -> list[str]:
        """Whose requests may be answered, in order; they stand until they are discarded.

        Args:
            going_on: members that will send more updates; of so many, a part is waited for.
            now: monotonic seconds.
        """
        times = [sent.updates for sent in self._sent.values()]
        self._next_updates = self._next_at = inf
        return [agent for agent in self.agents if not self._waits(agent, times, going_on, now)]

    def _waits(self, agent: str, times: list[int], going_on: int, now: float) -> bool:
        standing = self._of[agent]
        sent = self._sent.get(agent)
        since = standing.since if sent is None else sent.updates
        others = standing.want.others * going_on // 256
        missing = others - (len(times) - bisect_right(times, since))
        if missing <= 0 or now >= standing.at_latest:
            return False
        newest = times[-1] if times else 0
        self._next_updates = min(self._next_updates, max(newest, since) + missing)
        self._next_at = min(self._next_at, standing.at_latest)
        return True
