"""A guide in Markdown as a list of steps, and terminals on two hosts to carry them out.

A fenced block with a host in its info string is a step: ``sh host-a``, ``toml host-b``.
More words:

    online            runs outside the host's network, since it fetches packages
    service=NAME      a program that stays, in a terminal of its own; says="PATTERN" is what it logs
    stop=NAME,NAME    Ctrl-C for these services first
    until="PATTERN"   run again until this regular expression is found in the output
    until=changed     run again until the output is another one
    file=PATH         the block is the content of this file
    append=PATH       ... comes after its end
    section=PATH      ... replaces its section of the same name, with the tables below it
"""

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^```(?P<info>\S.*?)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
WAIT_S = 30.0
POLL_S = 0.05

Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        line: of the guide.
        language: "sh" or "toml".
        host: "" where it is only to be read.
        words: the rest of the info string.
        text: what is in it.
    """

    line: int
    language: str
    host: str
    words: Mapping[str, str]
    text: str


def blocks(markdown: str) -> Iterator[Block]:
    for found in FENCE.finditer(markdown):
        language, *rest = shlex.split(found["info"])
        host = rest.pop(0) if rest else ""
        words = {name: value for name, _, value in (word.partition("=") for word in rest)}
        line = markdown.count("\n", 0, found.start()) + 1
        yield Block(line, language, host, words, found["text"])


def with_section(document: str, section: str) -> str:
    """A TOML document with one of its sections replaced."""
    name = re.escape(section.split("]", 1)[0].removeprefix("["))
    pattern = rf"^\[{name}\]\n.*?(?=^\[(?!{name}\.)|\Z)"
    changed, count = re.subn(
        pattern, lambda _: section + "\n", document, flags=re.MULTILINE | re.DOTALL
    )
    assert count == 1, document
    return changed


class Service:
    """A program in a terminal of its own."""

    def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str], log: Path):
        self.name = name
        self._log_file = log
        with log.open("wb") as file:
            # a session of its own is a terminal: Ctrl-C goes to the shell and to the program
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=dict(env),
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self._log_file.read_text()

    def says(self, text: str) -> None:
        deadline = time.monotonic() + WAIT_S
        while not re.search(text, self.log, re.MULTILINE):
            assert self._process.poll() is None, f"{self.name} ended:\n{self.log}"
            assert time.monotonic() < deadline, f"{self.name} never said {text!r}:\n{self.log}"
            time.sleep(POLL_S)

    def interrupt(self) -> None:
        """Ctrl-C; it ends in good order and says nothing of a traceback."""
        assert self._process.poll() is None, f"{self.name} had ended:\n{self.log}"
        os.killpg(self._process.pid, signal.SIGINT)
        code = self._process.wait(WAIT_S)
        assert code == 0, f"{self.name} ended with {code}:\n{self.log}"
        assert "Traceback" not in self.log, self.log

    def dispose(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class Host:
    """One machine of the guide: a home folder, a terminal, services, perhaps a network.

    Args:
        home: folder.
        env: of all its programs.
        namespace: of the network its programs are in; "" for this machine's.
    """

    def __init__(self, home: Path, env: Mapping[str, str], namespace: str) -> None:
        self.home = home
        self.services: dict[str, Service] = {}
        self._namespace = namespace
        self._terminal = home.parent / f"{home.name}-terminal"
        self._logs = 0
        self._env = {**env, "HOME": str(home)}
        home.mkdir()
        self._terminal.mkdir()
        (self._terminal / "environment").write_text("")
        (self._terminal / "folder").write_text(str(home))

    @property
    def folder(self) -> Path:
        """Where its terminal is."""
        return Path((self._terminal / "folder").read_text().strip())

    def run(self, script: str, *, online: bool = False) -> Done:
        """Type into the terminal, which keeps its folder and its variables."""
        kept = shlex.quote(str(self._terminal))
        whole = "\n".join(
            [
                f'set -eu; . {kept}/environment; cd "$(cat {kept}/folder)"',
                script,
                f"pwd > {kept}/folder; export -p | grep -v ' HOME=' > {kept}/environment",
            ]
        )
        return subprocess.run(
            [*([] if online else self._inside()), "bash", "-c", whole],
            capture_output=True,
            text=True,
            env=self._env,
            stdin=subprocess.DEVNULL,
            timeout=120,
            check=False,
        )

    def serve(self, name: str, script: str) -> Service:
        """Open another terminal, and start a program in it that stays."""
        self._logs += 1
        command = [*self._inside(), "bash", "-c", f"set -eu; cd ~\n{script}"]
        log = self._terminal / f"{self._logs}-{name}.log"
        self.services[name] = Service(name, command, self._env, log)
        return self.services[name]

    def _inside(self) -> list[str]:
        return ["ip", "netns", "exec", self._namespace] if self._namespace else []


class Walk:
    """Carries a guide out, block by block.

    Args:
        hosts: by the names that the guide has for them.
    """

    def __init__(self, hosts: Mapping[str, Host]) -> None:
        self.hosts = hosts
        self.outputs: list[tuple[Block, str]] = []

    def step(self, block: Block) -> None:
        """Carry out one block.

        Raises:
            AssertionError: it does not do what the guide says; with the logs of all services.
        """
        try:
            self._step(block)
        except AssertionError as error:
            logs = [
                f"--- {service.name}:\n{service.log}"
                for host in self.hosts.values()
                for service in host.services.values()
            ]
            raise AssertionError("\n".join([str(error), *logs])) from error

    def _step(self, block: Block) -> None:
        host = self.hosts[block.host]
        if block.language == "toml":
            self._write(host, block)
            return
        for name in filter(None, block.words.get("stop", "").split(",")):
            self.stop(name)
        if "service" in block.words:
            host.serve(block.words["service"], block.text).says(block.words["says"])
        else:
            self.outputs.append((block, self._type(host, block)))

    def stop(self, name: str) -> None:
        """Ctrl-C for one service, wherever it runs."""
        (host,) = (h for h in self.hosts.values() if name in h.services)
        host.services.pop(name).interrupt()

    def output_of(self, command: str) -> str:
        """What the last block with this command has printed."""
        return next(output for block, output in reversed(self.outputs) if command in block.text)

    def _type(self, host: Host, block: Block) -> str:
        until = block.words.get("until")
        first = self._type_once(host, block)
        if until is None:
            assert first.returncode == 0, _shown(block, first)
            return first.stdout
        deadline = time.monotonic() + WAIT_S
        done = first
        while not _is_as_wanted(until, first, done):
            assert time.monotonic() < deadline, f"never {until!r}, {_shown(block, done)}"
            time.sleep(POLL_S)
            done = self._type_once(host, block)
        return done.stdout

    @staticmethod
    def _type_once(host: Host, block: Block) -> Done:
        return host.run(block.text, online="online" in block.words)

    @staticmethod
    def _write(host: Host, block: Block) -> None:
        ((how, name),) = block.words.items()
        path = host.folder / name
        before = path.read_text() if how != "file" else ""
        assert how != "file" or not path.exists(), path
        text = with_section(before, block.text) if how == "section" else before + block.text
        assert how in ("file", "append", "section")
        path.write_text(text)


def _is_as_wanted(until: str, first: Done, done: Done) -> bool:
    if done.returncode:
        return False
    return (
        done.stdout != first.stdout if until == "changed" else bool(re.search(until, done.stdout))
    )


def _shown(block: Block, done: Done) -> str:
    return f"line {block.line}: {block.text}{done.stdout}{done.stderr}"
