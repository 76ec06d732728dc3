"""A small plant of real processes: broker, coordinator and agents, started as a user would.

Three inputs, three classes, made-up rows.  Whatever a test starts here is gone when it ends.
"""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import numpy as np
import psutil
from numpy.typing import NDArray
from tests.e2e.processes import Outcome, Running, command_of, find_mosquitto, marked, until
from tests.free_ports import free_port

from plantfed_agent.agent_store import read_state
from plantfed_agent.state import AgentState
from plantfed_broker.folder import add_agent, render_federation
from plantfed_coordinator.journal import FILE_NAME, load_state, read_records
from plantfed_coordinator.records import Record
from plantfed_coordinator.state import FederationState
from plantfed_shared.errors import StorageError
from plantfed_shared.store import reading

FEDERATION = "toy"
INPUTS = ("a", "b", "c")
CLASSES = ("red", "green", "blue")


# ---------------------------------------------------------------------- files


def write_toml(path: Path, sections: Mapping[str, object]) -> None:
    """One level of tables; the JSON of a string, number or list of them is TOML."""
    plain = {k: v for k, v in sections.items() if not isinstance(v, Mapping)}
    lines = [f"{key} = {_value(value)}" for key, value in plain.items()]
    for name, section in sections.items():
        if isinstance(section, Mapping):
            lines.append(f"[{name}]")
            lines += [f"{key} = {_value(value)}" for key, value in section.items()]
    path.write_text("\n".join([*lines, ""]))


def _value(value: object) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        tables = (", ".join(f"{k} = {_value(v)}" for k, v in table.items()) for table in value)
        return "[" + ", ".join(f"{{ {table} }}" for table in tables) + "]"
    return json.dumps(value)


def definition(**changes: Mapping[str, object]) -> dict[str, object]:
    """A federation of three inputs and three classes; changes are per section."""
    sections: dict[str, dict[str, object]] = {
        "model": {"hidden": [8]},
        "loss": {"kind": "cross-entropy"},
        "algorithm": {},
        "schedule": {"release_after_s": 0.5},
    }
    for name, section in changes.items():
        sections[name] = {**sections.get(name, {}), **section}
    return {
        "federation": FEDERATION,
        "personal": [f"layer{len(sections['model']['hidden']) + 1}.*"],  # type: ignore[arg-type]
        "inputs": [{"name": name} for name in INPUTS],
        "classes": list(CLASSES),
        **sections,
    }


Rows = tuple[NDArray[np.float64], NDArray[np.str_]]


def rows(count: int, seed: int) -> Rows:
    """Samples whose class is a linear function of the inputs, the same for all seeds."""
    weights = np.array([[2.0, -1.0, 0.5], [-1.0, 2.0, -0.5], [0.3, 0.3, -2.0]])
    x = np.random.default_rng(seed).normal(size=(count, 3))
    return x, np.array(CLASSES)[(x @ weights).argmax(1)]


def csv_lines(made: Rows) -> str:
    return "".join(
        f"{a:.6f},{b:.6f},{c:.6f},{label}\n" for (a, b, c), label in zip(*made, strict=True)
    )


def write_csv(path: Path, made: Rows) -> None:
    path.write_text(f"{','.join(INPUTS)},colour\n{csv_lines(made)}")


# ---------------------------------------------------------------------- the plant


class Agent:
    """One machine: its folder and, while it runs, its process."""

    def __init__(self, folder: Path, mark: str) -> None:
        self.id = folder.name
        self.folder = folder
        self.config = folder / "agent.toml"
        self.rows_file = folder / "rows.csv"
        self.state_dir = folder / "state"
        self.service: Running | None = None
        self._mark = mark

    def configure(self, **changes: Mapping[str, object]) -> None:
        """Write agent.toml; changes are per section."""
        identity = {"username": self.id, "password_file": "password"}
        sections: dict[str, dict[str, object]] = {
            "agent": {"id": self.id, "federation": FEDERATION},
            "broker": {"url": self.url, **identity},
            "data": {"train": ["rows.csv"], "label": "colour"},
            "training": {"max_rounds_without_new_rows": 100_000},
        }
        for name, section in changes.items():
            merged = {**sections.get(name, {}), **section}
            sections[name] = {k: v for k, v in merged.items() if v is not None}
        write_toml(self.config, sections)

    url = ""
    inside: tuple[str, ...] = ()
    """What to put before its command: a way into another network namespace."""

    def start(self) -> Running:
        command = [*self.inside, *command_of("agent", "run", "--config", self.config)]
        self.service = Running(command, self.folder / "agent.log", self._mark)
        return self.service

    @property
    def process(self) -> Running:
        assert self.service is not None
        return self.service

    def state(self) -> AgentState:
        """As it is on disk now."""
        return read_state(self.state_dir)[0]

    def rounds(self) -> int:
        """Finished rounds, 0 before it has a state."""
        with suppress(StorageError):
            return self.state().rounds
        return 0

    def worker(self) -> psutil.Process | None:
        """Its training process, if there is one."""
        return next(iter(self.process.children()), None)


class Plant:
    """Context manager: broker, coordinator and agents of one test, all gone when it ends.

    Attributes:
        inside: what to put before the broker's and the coordinator's command.
        coordinator_program: what to start in the place of the coordinator.
    """

    inside: tuple[str, ...] = ()
    coordinator_program: tuple[str, ...] = ()

    def __init__(
        self, folder: Path, agents: int = 1, n_rows: int = 60, host: str = "127.0.0.1"
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.broker_dir = folder / "broker"
        self.federation_file = folder / "federation.toml"
        self.config = folder / "coordinator.toml"
        self.state_dir = folder / "state"
        self.url = f"mqtt://{host}:{self.port}"
        self.broker: Running | None = None
        self.coordinator: Running | None = None
        self._started: list[Running] = []
        render_federation(self.broker_dir, FEDERATION, host=host, port=self.port)
        self.agents = [self.add_agent(f"m{number}", n_rows) for number in range(1, agents + 1)]
        self.define()
        self.configure()

    def add_agent(self, name: str, n_rows: int = 60) -> Agent:
        folder = self.folder / name
        add_agent(self.broker_dir, name, folder)
        agent = Agent(folder, str(self.folder))
        agent.url = self.url
        agent.configure()
        write_csv(agent.rows_file, rows(n_rows, seed=int(name[1:])))
        return agent

    def define(self, **changes: Mapping[str, object]) -> None:
        """Write federation.toml; changes are per section."""
        write_toml(self.federation_file, definition(**changes))

    def configure(self, **changes: Mapping[str, object]) -> None:
        """Write coordinator.toml; changes are per section."""
        sections: dict[str, dict[str, object]] = {
            "coordinator": {"federation_file": "federation.toml", "state_dir": "state"},
            "broker": {
                "url": self.url,
                "username": "_coordinator",
                "password_file": "broker/coordinator.password",
            },
        }
        for name, section in changes.items():
            sections[name] = {**sections.get(name, {}), **section}
        write_toml(self.config, sections)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        services = [self.coordinator, *(agent.service for agent in self.agents), self.broker]
        for service in services:
            if service is not None:
                service.dispose()
        left: list[psutil.Process] = []
        with suppress(AssertionError):
            until(lambda: not marked(str(self.folder)), "everything has ended", 3)
        for process in marked(str(self.folder)):
            left.append(process)
            with suppress(psutil.NoSuchProcess):
                process.kill()
        if kind is None:
            assert not left, f"still running: {left}"
            logs = {s.log_file.name: s.log for s in services if s is not None}
            for name, log in logs.items():
                assert "Traceback" not in log, f"{name}:\n{log}"

    # ------------------------------------------------------------------ services

    def start_broker(self, kind: str | None = None) -> Running:
        """The embedded broker through its public command."""
        chosen = ["--kind", kind] if kind else []
        serve = command_of("broker", "serve", "--dir", self.broker_dir, *chosen)
        command = [*self.inside, *serve]
        self.broker = Running(command, self.folder / "broker.log", str(self.folder))
        self.broker.says(self.url)
        return self.broker

    def start_mosquitto(self, *lines: str) -> Running:
        """Mosquitto with its default persistence: it writes nothing before half an hour is over.

        Args:
            lines: more settings for it; of one that we set as well, only the value given here.
        """
        program = find_mosquitto()
        assert program
        rendered = (self.broker_dir / "mosquitto.conf").read_text().splitlines()
        ours = [line for line in rendered if not line.startswith("autosave_interval")]
        assert "persistence true" in ours
        assert len(ours) < len(rendered)
        where = self.folder / "mosquitto"
        where.mkdir(exist_ok=True)
        names = {line.split()[0] for line in lines}
        ours = [line for line in ours if line.split()[:1] and line.split()[0] not in names]
        ours += [f"persistence_location {where}/", "log_dest stderr", *lines]
        ours += ["user root"] if os.geteuid() == 0 else []
        config = where / "mosquitto.conf"
        config.write_text("\n".join([*ours, ""]))
        self.broker = Running(
            [*self.inside, program, "-c", str(config)],
            self.folder / "broker.log",
            str(self.folder),
        )
        self.broker.says("running")
        return self.broker

    def start_coordinator(self) -> Running:
        program = self.coordinator_program or command_of("coordinator")
        command = [*self.inside, *program, "run", "--config", str(self.config)]
        log_file = self.folder / "coordinator.log"
        self.coordinator = Running(command, log_file, str(self.folder))
        return self.coordinator

    def start(self, kind: str | None = None) -> None:
        """All of it."""
        self.start_broker(kind)
        self.start_coordinator().says("connected to the broker")
        for agent in self.agents:
            agent.start()

    # ------------------------------------------------------------------ what the coordinator has

    def journal(self) -> list[Record]:
        """All records so far; none before there is a journal."""
        try:
            with reading(self.state_dir / FILE_NAME) as database:
                return list(read_records(database))
        except StorageError:
            return []

    def federation(self, *, from_snapshot: bool = True) -> FederationState:
        """The state after the last record."""
        with reading(self.state_dir / FILE_NAME) as database:
            loaded = load_state(database, from_snapshot=from_snapshot)
        assert loaded is not None
        return loaded.state

    def releases(self) -> int:
        return count_records(self.journal(), "Released")

    def goes_on(self, releases: int = 2, within_s: float = 40.0) -> None:
        """Wait for new releases."""
        before = self.releases()
        until(lambda: self.releases() >= before + releases, "new releases", within_s)


def count_records(records: Sequence[Record], kind: str) -> int:
    return sum(type(record).__name__ == kind for record in records)


def as_json(outcome: Outcome) -> Any:
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)
