"""How a service does: its loop says so at every turn, whoever asks may read it on any thread."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any

from plantfed_shared.bus.connection_state import ConnectionState
from plantfed_shared.service_manager import ServiceManager

TURN_AT_LEAST_EVERY_S = 5.0
"""Where somebody may ask; otherwise a loop with nothing to do sleeps for as long as it likes."""
HUNG_AFTER_S = 60.0
"""Nothing that a loop does takes so long."""
LEAST_FREE_BYTES = 16 * 2**20
"""With less room on the disk of the state a service is not ready."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """What a loop has told of itself.

    Attributes:
        at: monotonic seconds.
        connection: with the broker.
        progress_at: when a model last came out of it, monotonic seconds; the start until then.
        facts: numbers and words for whoever asks; JSON can hold them.
    """

    at: float
    connection: ConnectionState
    progress_at: float
    facts: Mapping[str, Any]

    @property
    def status(self) -> str:
        """One line for ``systemctl status``."""
        link = "connected" if self.connection.connected else "no connection to the broker"
        return ", ".join([link, *(f"{name} {value}" for name, value in self.facts.items())])


class Vitals:
    """The signs of life of one service.

    Args:
        manager: who watches over it.
        state_dir: on the disk that must not get full.
        watched: whether somebody may ask at any time.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        manager: ServiceManager,
        state_dir: Path,
        *,
        watched: bool = False,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._manager = manager
        self._state_dir = state_dir
        self._clock = clock
        self._every_s = min(manager.watchdog_s / 3, TURN_AT_LEAST_EVERY_S if watched else inf)
        self._next_at = -inf
        self._last: Pulse | None = None

    @property
    def next_at(self) -> float:
        """When the loop has to turn again, monotonic seconds; infinite where nobody asks."""
        return self._next_at

    def turn(self, connection: ConnectionState, progress_at: float, **facts: object) -> None:
        """The loop has come round; the first time, the service is ready.

        Args:
            connection: with the broker, now.
            progress_at: see :class:`Pulse`.
            facts: see :class:`Pulse`.
        """
        now, before = self._clock(), self._last
        self._last = Pulse(now, connection, progress_at, facts)
        news = before is None or before.connection.connected != connection.connected
        if now < self._next_at and not news:
            return
        self._next_at = now + self._every_s
        if before is None:
            self._manager.ready()
        self._manager.status(self._last.status)
        self._manager.alive()

    def stopping(self) -> None:
        """The service is about to end in good order."""
        self._manager.stopping()

    def alive(self) -> tuple[bool, dict[str, Any]]:
        """Whether the loop turns, and what there is to say about that."""
        if self._last is None:
            return False, {"reason": "it is starting"}
        age = self._clock() - self._last.at
        told = {"seconds_since_loop": round(age, 3)}
        if age > HUNG_AFTER_S:
            return False, {"reason": "its loop hangs", **told}
        return True, told

    def ready(self) -> tuple[bool, dict[str, Any]]:
        """Whether it does its work, with all there is to say."""
        alive, told = self.alive()
        if self._last is None:
            return alive, told
        connection = self._last.connection
        free = free_bytes(self._state_dir)
        trouble = connection.trouble.text if connection.trouble else None
        reasons = [
            *([told.pop("reason")] if not alive else []),
            *([] if connection.connected else ["no connection to the broker"]),
            *([] if free >= LEAST_FREE_BYTES else ["the disk is nearly full"]),
        ]
        return not reasons, {
            "reason": "; ".join(reasons) or None,
            "connected": connection.connected,
            "connection_since": connection.since,
            "last_trouble": trouble,
            "seconds_since_release": round(self._clock() - self._last.progress_at, 3),
            "disk_free_bytes": free,
            **told,
            **self._last.facts,
        }


def no_vitals() -> Vitals:
    """Of a service that nobody watches."""
    return Vitals(ServiceManager({}), Path(os.curdir))


def free_bytes(folder: Path) -> int:
    """Room on the disk of a folder, for this user; 0 where it cannot be asked."""
    try:
        status = os.statvfs(folder)
        return status.f_bavail * status.f_frsize
    except OSError:
        return 0
