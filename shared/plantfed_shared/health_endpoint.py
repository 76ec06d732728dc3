"""How the service does, over HTTP, for supervisors: ``GET /healthz`` and ``GET /readyz``.

It runs on threads of its own: it takes nothing from the service's loop, and answers also when
that hangs, which is when it matters.
"""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from plantfed_shared.errors import BrokerError
from plantfed_shared.vitals import Vitals

MOST_REQUESTS = 8
"""At a time; who comes then is hung up on."""
REQUEST_WITHIN_S = 2.0
"""From one byte of a request to the next."""
ANSWERED_WITHIN_S = 5.0
"""All of it: who sends a byte now and then must not keep the others out."""


class _Handler(BaseHTTPRequestHandler):
    timeout = REQUEST_WITHIN_S
    server: "_Server"

    def do_GET(self) -> None:
        vitals = self.server.vitals
        questions = {"/healthz": vitals.alive, "/readyz": vitals.ready}
        ask = questions.get(self.path)
        if ask is None:
            self._answer(404, {"reason": f"ask for {' or '.join(questions)}"})
            return
        good, told = ask()
        self._answer(200 if good else 503, {"ok": good, **told})

    def _answer(self, status: int, told: dict[str, Any]) -> None:
        body = json.dumps(told).encode() + b"\n"
        self.send_response_only(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: supervisors ask every few seconds."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], vitals: Vitals) -> None:
        self.vitals = vitals
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._free = threading.BoundedSemaphore(MOST_REQUESTS)
        self._answered_by: dict[socket.socket, float] = {}
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            self._answered_by[request] = time.monotonic() + ANSWERED_WITHIN_S
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._answered_by.pop(request, None)
            self._free.release()

    def service_actions(self) -> None:
        """Hang up on whom nothing could be answered in time; called twice a second."""
        now = time.monotonic()
        for request, latest in list(self._answered_by.items()):
            if now > latest:
                _hang_up(request)

    def handle_error(self, *_: object) -> None:
        """Say nothing: a client that hangs up is none of our business."""


def _hang_up(request: socket.socket) -> None:
    with suppress(OSError):  # it has ended by itself
        request.shutdown(socket.SHUT_RDWR)


@contextmanager
def health_endpoint(address: tuple[str, int], vitals: Vitals) -> Iterator[None]:
    """Answer while the context lasts.

    Args:
        address: IP address and port.
        vitals: what is answered.

    Raises:
        BrokerError: the port is taken, or the address is none of this machine's.
    """
    where = f"health.listen = {address[0]}:{address[1]}"
    try:
        server = _Server(address, vitals)
    except OSError as error:
        raise BrokerError(
            f"cannot listen there: {error.strerror}", where=where, hint="Give another port"
        ) from None
    thread = threading.Thread(target=server.serve_forever, name="health", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
