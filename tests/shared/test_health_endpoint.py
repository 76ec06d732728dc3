"""The health endpoint: what it answers, and what it does not let clients do to it."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tests.free_ports import free_port

from plantfed_shared.bus.connection_state import ConnectionState
from plantfed_shared.errors import BrokerError
from plantfed_shared.health_endpoint import MOST_REQUESTS, health_endpoint
from plantfed_shared.health_settings import HealthSection
from plantfed_shared.service_manager import ServiceManager
from plantfed_shared.vitals import Vitals


def ask(port: int, path: str, method: str = "GET") -> tuple[int, dict[str, Any]]:
    with closing(HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request(method, path)
        answer = connection.getresponse()
        body = answer.read()
        return answer.status, json.loads(body) if body.startswith(b"{") else {}


@pytest.fixture
def vitals(tmp_path: Path) -> Vitals:
    return Vitals(ServiceManager({}), tmp_path, watched=True)


@pytest.fixture
def port(vitals: Vitals) -> Iterator[int]:
    port = free_port()
    with health_endpoint(("127.0.0.1", port), vitals):
        yield port


def test_what_it_answers(vitals: Vitals, port: int) -> None:
    assert ask(port, "/healthz") == (503, {"ok": False, "reason": "it is starting"})
    vitals.turn(ConnectionState(False, 1.0), 0.0, release=7)
    status, told = ask(port, "/healthz")
    assert (status, told["ok"]) == (200, True)
    status, told = ask(port, "/readyz")
    assert (status, told["reason"]) == (503, "no connection to the broker")
    vitals.turn(ConnectionState(True, 2.0), 0.0, release=7)
    status, told = ask(port, "/readyz")
    assert (status, told["ok"], told["release"]) == (200, True, 7)
    for method, path in (("GET", "/"), ("GET", "/../etc/passwd"), ("POST", "/healthz")):
        assert ask(port, path, method)[0] in (404, 501)


def test_clients_that_say_nothing_are_hung_up_on_and_do_not_pile_up(
    vitals: Vitals, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plantfed_shared.health_endpoint._Handler.timeout", 0.3)
    vitals.turn(ConnectionState(True, 2.0), 0.0)
    before = threading.active_count()
    idle = [socket.create_connection(("127.0.0.1", port), 20) for _ in range(5 * MOST_REQUESTS)]
    deadline = time.monotonic() + 30
    served = False
    while not served and time.monotonic() < deadline:
        assert threading.active_count() <= before + MOST_REQUESTS
        try:
            served = ask(port, "/healthz")[0] == 200
        except OSError:
            time.sleep(0.05)
    assert served
    for one in idle:
        with closing(one):
            one.settimeout(20)
            with suppress(ConnectionResetError):
                assert one.recv(1) == b""


def test_a_request_without_end(vitals: Vitals, port: int) -> None:
    with closing(socket.create_connection(("127.0.0.1", port), 20)) as one:
        one.sendall(b"GET /" + b"a" * 70_000)
        assert b" 414 " in one.recv(100)
    assert ask(port, "/healthz")[0] == 503


def test_a_port_that_is_taken(vitals: Vitals, port: int) -> None:
    with (
        pytest.raises(BrokerError, match=rf"health.listen = 127.0.0.1:{port}: cannot listen"),
        health_endpoint(("127.0.0.1", port), vitals),
    ):
        pass


@pytest.mark.parametrize(
    "wrong",
    ["8321", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "localhost:1", "300.0.0.1:80", ":80"],
)
def test_an_address_that_is_none(wrong: str) -> None:
    with pytest.raises(ValidationError):
        HealthSection(listen=wrong)


def test_addresses() -> None:
    assert HealthSection().address is None
    assert HealthSection(listen="127.0.0.1:8321").address == ("127.0.0.1", 8321)
    assert HealthSection(listen="[::1]:8321").address == ("::1", 8321)
