"""A TCP port that nobody listens on now."""

import random
import socket

BELOW_OUTGOING = range(15_000, 32_768)
"""Linux gives a connection that goes out a port from 32768 on: while a broker is down for a
restart, its port could become one of those."""


def free_port() -> int:
    """One of this machine, which it gives to no connection that goes out."""
    while True:
        port = random.SystemRandom().choice(BELOW_OUTGOING)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
