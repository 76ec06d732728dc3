"""The relay that stands in for a thin link where there are no network namespaces."""

import socket
import threading
import time

from tests.links.pipe import LinkShape
from tests.links.shaper import HOST, shaper

SHAPE = LinkShape(bits_per_s=800_000.0, rtt_s=0.2)
N_BYTES = 40_000


def send_all(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.sendall(bytes(N_BYTES))


def test_bytes_take_the_line_s_time_and_the_delay() -> None:
    with socket.create_server((HOST, 0)) as server:
        threading.Thread(target=send_all, args=(server,)).start()
        with shaper(server.getsockname()[1], SHAPE) as relay:
            begin = time.monotonic()
            with socket.create_connection((HOST, relay.port)) as client:
                received = b"".join(iter(lambda: client.recv(65536), b""))
            took_s = time.monotonic() - begin
    assert received == bytes(N_BYTES)
    # never less; how much more is the machine's business
    assert took_s >= 8 * N_BYTES / 800_000.0 + 0.1


def test_a_cut_breaks_what_stands_and_lets_nobody_in_until_it_is_mended() -> None:
    with socket.create_server((HOST, 0)) as server, shaper(server.getsockname()[1], SHAPE) as relay:

        def hangs_up(client: socket.socket) -> bool:
            try:
                return client.recv(1) == b""
            except ConnectionResetError:
                return True

        with socket.create_connection((HOST, relay.port)) as client:
            far_end, _ = server.accept()
            relay.cut()
            assert hangs_up(client)
            assert hangs_up(far_end)
            far_end.close()
        with socket.create_connection((HOST, relay.port)) as client:
            assert hangs_up(client)
        relay.mend()
        with socket.create_connection((HOST, relay.port)) as client:
            far_end, _ = server.accept()
            with far_end:
                client.sendall(b"x")
                assert far_end.recv(1) == b"x"
