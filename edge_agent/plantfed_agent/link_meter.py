"""Between an agent's machine and its bus: counts what crosses, paces what goes out.  Pure."""

from plantfed_agent.budget import LinkLimits
from plantfed_agent.events import LinkRead
from plantfed_agent.outlet import Outlet
from plantfed_shared.bus.port import Traffic
from plantfed_shared.day_ledger import DayLedger
from plantfed_shared.local_time import LocalTime
from plantfed_shared.topics import Topics

UNWRITTEN_BYTES = 65536
"""At most so many bytes are forgotten by a kill, or a hundredth of a day's budget."""


class LinkMeter:
    """What the shell reads before every event, and where its messages wait.

    Args:
        limits: of the link.
        topics: of the federation.
        ledger: with what was spent before; it is counted on.

    Attributes:
        limits: of the link.
        ledger: bytes by day.
        outlet: messages that wait to be sent.
    """

    def __init__(self, limits: LinkLimits, topics: Topics, ledger: DayLedger) -> None:
        self.limits = limits
        self.ledger = ledger
        self.outlet = Outlet(topics, limits.bytes_per_s)
        self._up = 0
        self._down = 0
        self._unwritten = 0
        budgets = [day for day in (limits.day_up, limits.day_down) if day is not None]
        self._unwritten_limit = min([UNWRITTEN_BYTES, *(day // 100 for day in budgets)])

    def read(self, local: LocalTime, traffic: Traffic) -> LinkRead:
        """Count what has crossed since the last time.

        Args:
            local: what the clock says now.
            traffic: of the bus since it was opened.
        """
        up = traffic.bytes_out + traffic.session_bytes_out
        down = traffic.bytes_in + traffic.session_bytes_in
        spent = self.ledger.count(local, up - self._up, down - self._down)
        self._unwritten += up - self._up + down - self._down
        self._up, self._down = up, down
        return LinkRead(local, spent, down, self.outlet.bulk_bytes)

    @property
    def write_due(self) -> bool:
        """Whether so much was counted that it should be on disk."""
        return self._unwritten > self._unwritten_limit

    def counters(self) -> dict[str, int]:
        """The ledger for the disk; whoever takes it writes it."""
        self._unwritten = 0
        return self.ledger.counters()
