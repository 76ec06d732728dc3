"""Telling systemd how a service does: sd_notify(3), some lines over a datagram.

Without ``NOTIFY_SOCKET`` in the environment, or where nobody listens there, nothing is said.
"""

import os
import socket
from collections.abc import MutableMapping
from contextlib import suppress
from math import inf

SOCKET, WATCHDOG_USEC, WATCHDOG_PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"
PATIENCE_S = 1.0
"""For what is said once only."""


class ServiceManager:
    """Who started this service and watches over it.

    What it said in the environment is taken out of there: it is for this process and not for the
    ones it starts.

    Args:
        environment: of this process.

    Attributes:
        watchdog_s: seconds within which :meth:`alive` must be called again; infinite for never.
    """

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        path = environment.pop(SOCKET, "")
        period = environment.pop(WATCHDOG_USEC, "")
        pid = environment.pop(WATCHDOG_PID, "")
        for_us = pid in ("", str(os.getpid()))
        self.watchdog_s = int(period) / 1e6 if period.isdigit() and for_us else inf
        # "@" stands for the abstract namespace of unix(7)
        self._address = f"\0{path[1:]}" if path.startswith("@") else path
        self._status = ""

    def ready(self) -> None:
        """The service serves."""
        self._say("READY=1", PATIENCE_S)

    def alive(self) -> None:
        """The service's loop has come round once more."""
        if self.watchdog_s < inf:
            self._say("WATCHDOG=1")

    def status(self, text: str) -> None:
        """What ``systemctl status`` shows; one line."""
        if text != self._status:
            self._status = text
            self._say(f"STATUS={text}")

    def stopping(self) -> None:
        """The service ends in good order."""
        self._say("STOPPING=1", PATIENCE_S)

    def _say(self, line: str, patience_s: float = 0.0) -> None:
        if not self._address:
            return
        # a manager that has gone is no reason to end, and one that is too busy none to wait long
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as way:
            way.settimeout(patience_s)
            way.sendto(line.encode(), self._address)
