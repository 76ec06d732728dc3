"""The folder of a demo: a broker's, a coordinator's and one for each plant, as on their machines.

OUT/broker/        rendered by plantfed-broker
OUT/coordinator/   coordinator.toml, federation.toml, its password, state/
OUT/agents/ID/     agent.toml, its password, its own rows, state/
OUT/logs/          what every process wrote
OUT/result.json, OUT/report.html
OUT/.plantfed-demo  that it is one, and the id of its federation
"""

import fcntl
import json
import re
import secrets
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from plantfed_broker import add_agent, render_federation
from plantfed_lab.plant_files import write_agent_file, write_federation_file, write_plant
from plantfed_lab.templating import fill
from plantfed_lab.tennessee_eastman import Plant
from plantfed_shared.definition import FederationDefinition
from plantfed_shared.errors import ConfigError, StorageError

MARKER = ".plantfed-demo"
PROCESS = "tennessee-eastman"
HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class DemoFolder:
    """Where a demo keeps things.

    Attributes:
        path: of all of it.
        federation: id of its federation, no other demo's: they may share a broker, on which
            topics and client ids are made of it.
    """

    path: Path
    federation: str

    @property
    def broker(self) -> Path:
        """The broker's folder."""
        return self.path / "broker"

    @property
    def coordinator(self) -> Path:
        """The coordinator's folder."""
        return self.path / "coordinator"

    @property
    def logs(self) -> Path:
        """One log per process."""
        return self.path / "logs"

    def agent(self, agent_id: str) -> Path:
        """The folder of one plant."""
        return self.path / "agents" / agent_id


@contextmanager
def fresh_folder(path: Path) -> Iterator[DemoFolder]:
    """An empty folder that no other demo uses; what an earlier demo left in it is removed.

    Raises:
        ConfigError: it holds something else, or another demo is using it.
        StorageError: it cannot be written.
    """
    path = path.resolve()
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not (path / MARKER).exists() and any(path.iterdir()):
            raise ConfigError(
                "holds files that are not from an earlier demo",
                where=f"--out {path}",
                hint="Name an empty or a new folder",
            )
        with (path / MARKER).open("a", encoding="utf-8") as marker:
            _lock(marker.fileno(), path)
            _empty(path)
            for name in ("coordinator", "agents", "logs"):
                (path / name).mkdir()
            yield DemoFolder(path, _federation(path / MARKER))
    except OSError as error:
        raise StorageError(f"cannot be used: {error}", where=f"--out {path}") from error


def fill_folder(
    folder: DemoFolder,
    plants: Sequence[Plant],
    definition: FederationDefinition,
    url: str | None,
    artefact: Path | None = None,
) -> None:
    """Write everything a broker, a coordinator and agents need to be started.

    Args:
        folder: an empty one.
        plants: what the agents have.
        definition: of the federation.
        url: of a running broker that asks for no password, or None for one of our own.
        artefact: of a compiled network in the place of the dense one.
    """
    agents = [plant.id for plant in plants]
    if url is None:
        heads = _render_own_broker(folder, definition.federation, agents)
        broker = (folder.broker / "coordinator-broker.toml").read_text(encoding="utf-8")
        shutil.copy(folder.broker / "coordinator.password", folder.coordinator)
    else:
        broker = f"[broker]\nurl = {json.dumps(url)}\n"
        heads = [fill("agent-head.toml.j2", id=a, d=definition, broker=broker) for a in agents]
        for agent_id in agents:
            folder.agent(agent_id).mkdir()
    (folder.coordinator / "coordinator.toml").write_text(
        fill("coordinator.toml.j2", broker=broker), encoding="utf-8"
    )
    write_federation_file(folder.coordinator / "federation.toml", definition, artefact)
    for plant, head in zip(plants, heads, strict=True):
        site = folder.agent(plant.id)
        files = write_plant(site, plant)
        # at most one round per release; plants without new rows would rest before the end
        max_rounds = max(100, (definition.schedule.max_releases or 0) + 1)
        write_agent_file(site / "agent.toml", head, files, max_rounds)


def _render_own_broker(folder: DemoFolder, federation: str, agents: Sequence[str]) -> list[str]:
    """The heads of ``agent.toml`` as ``plantfed-broker add-agent`` writes them."""
    render_federation(folder.broker, federation, host=HOST, port=_free_port())
    heads = []
    for agent_id in agents:
        settings_file = add_agent(folder.broker, agent_id, folder.agent(agent_id))
        head, _, _ = settings_file.read_text(encoding="utf-8").partition("[data]")
        heads.append(head)
    return heads


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(
            "another demo is running in this folder",
            where=f"--out {path}",
            hint="Wait for it, or name another folder",
        ) from None


def _federation(marker: Path) -> str:
    """The id in the marker of a folder, which a second demo in it keeps.

    It takes up what the first has left on a shared broker, which knows no end of a federation.
    """
    federation = marker.read_text(encoding="utf-8").strip()
    if not re.fullmatch(rf"{PROCESS}-[0-9a-f]{{8}}", federation):
        federation = f"{PROCESS}-{secrets.token_hex(4)}"
        marker.write_text(f"{federation}\n", encoding="utf-8")
    return federation


def _empty(path: Path) -> None:
    for entry in path.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != MARKER:
            entry.unlink()
