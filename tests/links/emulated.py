"""An emulated thin link, for tests and measurements: start it, put processes on its two sides.

Needs root and /dev/net/tun; where they are missing, :data:`needs_tunnel` skips.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import which

import pytest
from tests.links.pipe import LinkShape
from tests.links.tunnel import BROKER_SIDE

REPOSITORY = Path(__file__).parents[2]


def can_tunnel() -> bool:
    """Whether this machine lets us have network namespaces and TUN devices of our own."""
    if os.geteuid() != 0 or not os.access("/dev/net/tun", os.W_OK):
        return False
    if None in map(which, ("ip", "nsenter", "unshare")):
        return False
    return subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode == 0


@dataclass(frozen=True, slots=True)
class Count:
    """What went into one direction of the line so far; see :class:`tests.links.pipe.Pipe`."""

    bytes_sent: int
    busy_s: float
    dropped: int
    lost: int

    def __sub__(self, before: "Count") -> "Count":
        mine, theirs = asdict(self), asdict(before)
        return Count(**{name: mine[name] - theirs[name] for name in mine})


class EmulatedLink:
    """A running link.

    Attributes:
        agent_side: what to put before a command that is to run on the agent's side.
        broker_side: the same for the broker's side.
        host: address of the broker's side.
    """

    host = BROKER_SIDE

    def __init__(self, process: "subprocess.Popen[str]", namespaces: tuple[str, str]) -> None:
        self._process = process
        self.agent_side, self.broker_side = (("nsenter", f"--net={one}") for one in namespaces)

    def cut(self) -> None:
        """Nothing gets through any more, and neither side is told."""
        self._ask("cut")

    def mend(self) -> None:
        """Packets get through again."""
        self._ask("mend")

    def count(self) -> tuple[Count, Count]:
        """(up, down) since the start."""
        counted = json.loads(self._ask("count"))
        return Count(**counted["up"]), Count(**counted["down"])

    def _ask(self, order: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{order}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the emulator has ended"
        return answer


@contextmanager
def emulated_link(shape: LinkShape, congestion: str = "cubic") -> Iterator[EmulatedLink]:
    """Start a link.

    Raises:
        OSError: this machine does not let us.
    """
    command = [sys.executable, "-m", "tests.links.tunnel", "--congestion", congestion]
    with subprocess.Popen(
        [*command, "--shape", json.dumps(asdict(shape))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            words = process.stdout.readline().split()
            if words[:1] != ["ready"]:
                raise OSError(process.stderr.read())
            pid, near, far = words[1:]
            yield EmulatedLink(process, (f"/proc/{pid}/fd/{near}", f"/proc/{pid}/fd/{far}"))
        finally:
            process.stdin.close()
            process.wait()


needs_tunnel = pytest.mark.skipif(
    not can_tunnel(), reason="needs root, /dev/net/tun and network namespaces"
)
