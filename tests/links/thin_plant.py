"""A plant of real processes whose one agent is behind an emulated link, and what its broker saw."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.plant import Plant
from tests.e2e.processes import Running
from tests.links.emulated import EmulatedLink, emulated_link
from tests.links.pipe import LinkShape
from tests.links.shaper import shaper

LOG_EVERYTHING = ("log_type all", "connection_messages true")
_PUBLISH = re.compile(
    r"(?P<way>Sending|Received) PUBLISH (?:to|from) (?P<client>\S+) "
    r"\(d\d, q\d, r\d, m\d+, '(?P<topic>[^']*)', \.\.\. \((?P<bytes>\d+) bytes\)\)"
)
_PUBACK = re.compile(r"Received PUBACK from (?P<client>\S+) \(")


@dataclass(frozen=True, slots=True)
class Passage:
    """One message as the broker saw it.

    Attributes:
        at: when this was read in the log, monotonic seconds.
        to_client: whether it was sent, not received, by the broker.
        client: user name of the other side.
        kind: last level of the topic; ``puback`` for the acknowledgement of one it has sent.
        n_bytes: of the payload.
    """

    at: float
    to_client: bool
    client: str
    kind: str
    n_bytes: int = 0


class BrokerLog:
    """Reads mosquitto's log while it is written."""

    def __init__(self, broker: Running) -> None:
        self._broker = broker
        self._place = 0
        self._passages: list[Passage] = []

    def read(self) -> list[Passage]:
        """All messages so far."""
        now = time.monotonic()
        *whole, _rest = self._broker.log_from(self._place).splitlines(keepends=True) or [""]
        whole += [_rest] if _rest.endswith("\n") else []
        for line in whole:
            self._place += len(line.encode())
            if found := _PUBLISH.search(line):
                self._passages.append(
                    Passage(
                        now,
                        found["way"] == "Sending",
                        found["client"],
                        found["topic"].rsplit("/", 1)[-1],
                        int(found["bytes"]),
                    )
                )
            elif found := _PUBACK.search(line):
                self._passages.append(Passage(now, False, found["client"], "puback"))
        return self._passages


@contextmanager
def thin_plant(
    folder: Path, shape: LinkShape, *mosquitto: str, n_rows: int = 60, congestion: str = "cubic"
) -> Iterator[tuple[Plant, EmulatedLink]]:
    """Broker and coordinator run, on one side of a link; agent m1 is on the other, not started.

    Args:
        folder: for all files.
        shape: of the link.
        mosquitto: more lines of its configuration.
        n_rows: of the agent.
        congestion: control of TCP, on both sides.
    """
    with (
        emulated_link(shape, congestion) as link,
        Plant(folder, agents=1, n_rows=n_rows, host=link.host) as plant,
    ):
        plant.inside = link.broker_side
        plant.agents[0].inside = link.agent_side
        plant.start_mosquitto(*LOG_EVERYTHING, *mosquitto)
        yield plant, link


@contextmanager
def shaped_plant(folder: Path, shape: LinkShape) -> Iterator[Plant]:
    """The same without root: the link is a relay, which loses no packets."""
    with Plant(folder, agents=1) as plant, shaper(plant.port, shape) as relay:
        plant.agents[0].url = f"mqtt://127.0.0.1:{relay.port}"
        plant.start_mosquitto(*LOG_EVERYTHING)
        yield plant
