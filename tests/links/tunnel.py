"""A process that joins two network namespaces of its own by an emulated thin link.

Kernels without netem can't delay packets, so they go through here: a TUN device in each namespace,
and between them a :class:`Pipe` each way.  Needs root.  The namespaces have no names and end with
this process, however it ends.

It says ``ready PID FD FD`` once the namespaces (agent side first) can be entered with ``nsenter
--net=/proc/PID/fd/FD``.  Then it obeys lines on its input, and answers each with one line:
``cut`` and ``mend`` (nothing gets through meanwhile, and nobody is told) and ``count`` (JSON).
"""

import argparse
import ctypes
import fcntl
import json
import os
import selectors
import struct
import subprocess
import sys
import time
from heapq import heappop, heappush
from itertools import count

from tests.links.pipe import LinkShape, Pipe

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN_WITHOUT_HEADER = 0x0001 | 0x1000
AGENT_SIDE, BROKER_SIDE = "10.78.0.1", "10.78.0.2"
PACKET_BYTES = 65536


def new_namespace(address: str, peer: str, congestion: str) -> tuple[int, int]:
    """Move into a new network namespace; returns it and its end of the link, as descriptors."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    namespace = os.open("/proc/self/ns/net", os.O_RDONLY)
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", b"link", IFF_TUN_WITHOUT_HEADER))
    for command in (
        "link set lo up",
        f"addr add {address} peer {peer} dev link",
        "link set dev link mtu 1500 txqueuelen 1000 up",
        # the machine's own default may be one that takes no notice of losses, such as bbr
        f"route replace {peer} dev link congctl {congestion}",
    ):
        subprocess.run(["ip", *command.split()], check=True, stdin=subprocess.DEVNULL)
    return namespace, device


class Tunnel:
    """Carries packets between two devices."""

    def __init__(self, shape: LinkShape, agent_device: int, broker_device: int) -> None:
        self._ways = {
            agent_device: (Pipe(shape, "up"), broker_device),
            broker_device: (Pipe(shape, "down"), agent_device),
        }
        self._flying: list[tuple[float, int, int, bytes]] = []
        self._sequence = count()

    @property
    def pipes(self) -> list[Pipe]:
        return [pipe for pipe, _ in self._ways.values()]

    def take(self, device: int) -> None:
        """Take in all packets that wait at one end."""
        pipe, far_end = self._ways[device]
        while True:
            try:
                packet = os.read(device, PACKET_BYTES)
            except BlockingIOError:
                return
            arrival = pipe.offer(len(packet), time.monotonic())
            if arrival is not None:
                heappush(self._flying, (arrival, next(self._sequence), far_end, packet))

    def hand_out(self) -> float | None:
        """Hand out what has arrived; returns the seconds until the next does."""
        while self._flying:
            wait_s = self._flying[0][0] - time.monotonic()
            if wait_s > 0:
                return wait_s
            *_, far_end, packet = heappop(self._flying)
            os.write(far_end, packet)
        return None

    def obey(self, order: str) -> str:
        """Do what a line says; returns the answer."""
        match order:
            case "cut" | "mend":
                for pipe in self.pipes:
                    pipe.open = order == "mend"
                if order == "cut":
                    self._flying.clear()
                return order
            case "count":
                names = ("bytes_sent", "busy_s", "dropped", "lost")
                up, down = ({n: getattr(pipe, n) for n in names} for pipe in self.pipes)
                return json.dumps({"up": up, "down": down})
        raise ValueError(order)


def carry(tunnel: Tunnel, devices: tuple[int, int]) -> None:
    """Work until the input ends."""
    with selectors.DefaultSelector() as selector:
        for source in (*devices, sys.stdin.fileno()):
            selector.register(source, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select(tunnel.hand_out()):
                if key.fd in devices:
                    tunnel.take(key.fd)
                elif order := sys.stdin.readline():
                    print(tunnel.obey(order.strip()), flush=True)
                else:
                    return


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", type=json.loads, default={})
    parser.add_argument("--congestion", default="cubic")
    asked = parser.parse_args()
    near, near_device = new_namespace(AGENT_SIDE, BROKER_SIDE, asked.congestion)
    far, far_device = new_namespace(BROKER_SIDE, AGENT_SIDE, asked.congestion)
    print("ready", os.getpid(), near, far, flush=True)
    carry(Tunnel(LinkShape(**asked.shape), near_device, far_device), (near_device, far_device))


if __name__ == "__main__":
    main()
