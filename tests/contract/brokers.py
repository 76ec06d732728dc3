"""Brokers to run the bus contract on: the in-memory one and real processes on free ports.

The configurations here hold only what the contract needs.
"""

import asyncio
import base64
import hashlib
import os
import random
import shutil
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests import free_ports
from tests.contract.certificates import Certificates

from plantfed_shared.bus.local import LocalBus, LocalHub
from plantfed_shared.bus.memory import MemoryBroker
from plantfed_shared.bus.mqtt import MqttBus
from plantfed_shared.bus.port import BrokerAddress, Bus, SessionSettings
from plantfed_shared.bus.reconnect import Protocol as MqttProtocol
from plantfed_shared.topics import COORDINATOR, Permission, Topics

TOPICS = Topics("hall-7")
AGENTS = ("press-01", "press-02")
USERS = (*AGENTS, COORDINATOR)
HOST = "127.0.0.1"


class World(Protocol):
    """A broker under test and the links to it."""

    def bus(self, session: SessionSettings) -> Bus:
        """A client that isn't open yet; its client id is its user name too."""

    async def cut(self, client_id: str) -> None:
        """Break a client's connection and keep it from coming back."""

    async def mend(self, client_id: str) -> None:
        """Let it come back."""

    async def restart(self) -> None:
        """End the broker and start it again; it need not remember anything."""


def password(user: str) -> str:
    return f"secret of {user}"


def permissions() -> list[Permission]:
    return [
        *(line for agent in AGENTS for line in TOPICS.permissions(agent)),
        *TOPICS.coordinator_permissions(),
    ]


class MemoryWorld:
    """Everything in this process."""

    def __init__(self) -> None:
        self.hub = LocalHub(
            MemoryBroker(random.Random(1)), lambda: asyncio.get_running_loop().time()
        )

    def bus(self, session: SessionSettings) -> LocalBus:
        return LocalBus(self.hub, session)

    async def cut(self, client_id: str) -> None:
        self.hub.broker.cut(client_id, self.hub.clock())
        self.hub.wake()

    async def mend(self, client_id: str) -> None:
        self.hub.broker.mend(client_id, self.hub.clock())
        self.hub.wake()

    async def restart(self) -> None:
        self.hub.broker.forget(self.hub.clock())
        self.hub.wake()


class Link:
    """A TCP relay that can be cut."""

    def __init__(self, broker_port: int) -> None:
        self.port = 0
        self._broker_port = broker_port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._relays: set[asyncio.Task[None]] = set()

    async def mend(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, HOST, self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._writers:
            writer.transport.abort()
        while self._relays:
            await asyncio.wait(self._relays)

    async def _accept(
        self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter
    ) -> None:
        self._writers.add(to_client)
        try:
            from_broker, to_broker = await asyncio.open_connection(HOST, self._broker_port)
        except OSError:
            to_client.transport.abort()
            return
        self._writers.add(to_broker)
        for reader, writer in ((from_client, to_broker), (from_broker, to_client)):
            task = asyncio.create_task(_relay(reader, writer))
            self._relays.add(task)
            task.add_done_callback(self._relays.discard)


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while some := await reader.read(65536):
            writer.write(some)
            await writer.drain()
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


@dataclass
class BrokerProcess:
    """A broker's command line, and the line on stderr that says it is ready."""

    command: list[str]
    ready: bytes
    lines: list[bytes] = field(default_factory=list)
    _process: Process | None = None
    _reader: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(*self.command, stderr=PIPE)
        assert self._process.stderr is not None
        stderr = self._process.stderr
        while self.ready not in (line := await stderr.readline()):
            self.lines.append(line)
            assert line, b"".join(self.lines).decode()
        self._reader = asyncio.create_task(self._read(stderr))

    async def _read(self, stderr: asyncio.StreamReader) -> None:
        while line := await stderr.readline():
            self.lines.append(line)

    async def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        await self._ended()

    async def stop(self) -> None:
        assert self._process is not None
        self._process.terminate()
        await self._ended()

    async def _ended(self) -> None:
        assert self._process is not None
        await self._process.wait()
        if self._reader is not None:
            await self._reader


class MqttWorld:
    """A broker process with a link per client."""

    def __init__(
        self,
        process: BrokerProcess,
        port: int,
        *,
        protocol: MqttProtocol = "auto",
        certificates: Certificates | None = None,
    ) -> None:
        self.process = process
        self.port = port
        self._protocol: MqttProtocol = protocol
        self._certificates = certificates
        self._links = {user: Link(port) for user in USERS}

    def address(self, user: str) -> BrokerAddress:
        port = self._links[user].port
        if self._certificates is None:
            return BrokerAddress(HOST, port, user, password(user))
        cert_file, key_file = self._certificates.identity(user)
        return BrokerAddress(
            HOST, port, ca_file=self._certificates.ca_file, cert_file=cert_file, key_file=key_file
        )

    def bus(self, session: SessionSettings, address: BrokerAddress | None = None) -> MqttBus:
        return MqttBus(
            address or self.address(session.client_id),
            session,
            rng=random.Random(1),
            protocol=self._protocol,
        )

    async def cut(self, client_id: str) -> None:
        await self._links[client_id].cut()

    async def mend(self, client_id: str) -> None:
        await self._links[client_id].mend()

    async def restart(self) -> None:
        await self.process.stop()
        await self.process.start()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["MqttWorld"]:
        async with AsyncExitStack() as stack:
            await self.process.start()
            stack.push_async_callback(self.process.stop)
            for link in self._links.values():
                await link.mend()
                stack.push_async_callback(link.cut)
            yield self


def find_mosquitto() -> str | None:
    return shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")


def mosquitto(folder: Path, *lines: str, certificates: Certificates | None = None) -> BrokerProcess:
    """Mosquitto on the first free port, with passwords, or with certificates and an ACL."""
    program = find_mosquitto()
    assert program is not None
    options = [
        f"listener {free_port(folder)} {HOST}",
        # Started by root it would drop its rights and could not read our files.
        *(["user root"] if os.geteuid() == 0 else []),
        "log_dest stderr",
        "persistence false",
        *lines,
    ]
    if certificates is None:
        passwords = folder / "passwords"
        passwords.write_text("".join(f"{user}:{_hashed(password(user))}\n" for user in USERS))
        options += ["allow_anonymous false", f"password_file {passwords}"]
    else:
        acl = folder / "acl"
        acl.write_text(
            "".join(f"user {p.user}\ntopic {p.access} {p.topic}\n" for p in permissions())
        )
        cert_file, key_file = certificates.identity("broker")
        options += [
            f"cafile {certificates.ca_file}",
            f"certfile {cert_file}",
            f"keyfile {key_file}",
            "require_certificate true",
            "use_identity_as_username true",
            f"acl_file {acl}",
        ]
    config = folder / "mosquitto.conf"
    config.write_text("\n".join(options) + "\n")
    return BrokerProcess([program, "-c", str(config)], b" running")


def nats(folder: Path) -> BrokerProcess:
    """NATS with JetStream; users may do what the topics' table allows."""
    users = "\n".join(_nats_user(user) for user in USERS)
    config = folder / "nats.conf"
    config.write_text(
        f'listen: "{HOST}:-1"\n'
        "server_name: contract\n"
        f'jetstream {{ store_dir: "{folder}/jetstream" }}\n'
        # Unacknowledged messages come again after this time, and only then, even on reconnecting.
        f'mqtt {{ listen: "{HOST}:{free_port(folder)}", ack_wait: "1s" }}\n'
        f"authorization {{ users: [\n{users}\n] }}\n"
    )
    program = Path(sys.executable).with_name("nats-server")
    return BrokerProcess([str(program), "-c", str(config)], b"Server is ready")


def _nats_user(user: str) -> str:
    def subjects(topics: Iterable[str]) -> str:
        return ", ".join(f'"{t.replace("/", ".").replace("+", "*")}"' for t in topics)

    write = [p.topic for p in permissions() if p.user == user and "write" in p.access]
    read = [p.topic for p in permissions() if p.user == user and "read" in p.access]
    return (
        f'{{ user: "{user}", password: "{password(user)}", permissions: {{'
        f" publish: {{ allow: [{subjects(write)}] }},"
        f" subscribe: {{ allow: [{subjects(read)}] }} }} }}"
    )


def free_port(folder: Path) -> int:
    """A port nobody uses; the same one for the same folder."""
    note = folder / "port"
    if not note.exists():
        note.write_text(str(free_ports.free_port()))
    return int(note.read_text())


def _hashed(secret: str) -> str:
    salt, rounds = b"twelve bytes", 101
    digest = hashlib.pbkdf2_hmac("sha512", secret.encode(), salt, rounds)
    return f"$7${rounds}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"
