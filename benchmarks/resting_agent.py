"""One real agent, from its first round to its rest: memory and processor time of its processes."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic, sleep

import psutil
from rich.console import Console

from plantfed_agent.settings import AgentSettings, load_agent_settings
from plantfed_agent.views import read_status
from plantfed_coordinator.views import read_overview
from plantfed_lab.demo_folder import DemoFolder, fill_folder, fresh_folder
from plantfed_lab.processes import Processes, last_line
from plantfed_lab.tennessee_eastman import federation_definition, plants
from plantfed_shared.definition import Schedule
from plantfed_shared.errors import StorageError

PLANTS = 20
RELEASES = 20
POLL_S = 0.1
PATIENCE_S = 90.0


@dataclass(frozen=True)
class Usage:
    """All processes of an agent at one moment.

    Attributes:
        processes: how many.
        resident: RSS in bytes; what processes share counts for each.
        private: USS in bytes: what would be free without them.
        processor: seconds since their start, of the threads that are alive; in nanoseconds, since
            an agent at rest takes less than the clock tick that other counters have.
    """

    processes: int
    resident: int
    private: int
    processor: float


@dataclass(frozen=True)
class Footprint:
    """What one agent took.

    Attributes:
        busiest: the moment with most RSS while it was training.
        resting: at the end.
        rounds: trained.
        seconds: from when its training process had ended until the end.
        processor: seconds in that time.
    """

    busiest: Usage
    resting: Usage
    rounds: int
    seconds: float
    processor: float


def measure(rest_s: float, console: Console) -> Footprint:
    """Let an agent train its rounds, wait until it rests, and watch it for a while."""
    with _running_agent() as (agent, folder, check):
        settings = load_agent_settings(folder.agent(_plant_id(folder)) / "agent.toml")
        busiest = _train(agent, settings, folder.coordinator / "state", check)
        console.print(f"[dim]at rest; watching it for {rest_s:.0f} s[/dim]")
        before, begin = usage(agent), monotonic()
        while monotonic() < begin + rest_s:
            check()
            sleep(min(1.0, rest_s))
        resting, seconds = usage(agent), monotonic() - begin
        return Footprint(
            busiest=busiest,
            resting=resting,
            rounds=read_status(settings).rounds,
            seconds=seconds,
            processor=resting.processor - before.processor,
        )


def usage(root: psutil.Process) -> Usage:
    """A process and all its descendants."""
    found = Usage(0, 0, 0, 0.0)
    for process in (root, *root.children(recursive=True)):
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            memory = process.memory_full_info()
            found = Usage(
                found.processes + 1,
                found.resident + memory.rss,
                found.private + memory.uss,
                found.processor + _processor_seconds(process.pid),
            )
    return found


def _processor_seconds(pid: int) -> float:
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text(encoding="ascii").split()[0]) for task in tasks) / 1e9


@contextmanager
def _running_agent() -> Iterator[tuple[psutil.Process, DemoFolder, Callable[[], None]]]:
    """A broker, a coordinator and an agent with the rows of one plant of twenty."""
    definition = federation_definition(0, Schedule(max_releases=RELEASES))
    with (
        tempfile.TemporaryDirectory(prefix="plantfed-bench-") as path,
        fresh_folder(Path(path)) as folder,
    ):
        members = plants(0, PLANTS)[:1]
        fill_folder(folder, members, definition, None)
        with Processes(folder.logs) as processes:
            broker = processes.start(
                "broker", "plantfed_broker", ["serve", "--dir", "."], folder.broker
            )
            _wait(lambda: "mqtt" in last_line(broker.log), "the broker", processes.check)
            run = ("run", "--config")
            processes.start(
                "coordinator",
                "plantfed_coordinator",
                [*run, "coordinator.toml"],
                folder.coordinator,
            )
            child = processes.start(
                "agent", "plantfed_agent", [*run, "agent.toml"], folder.agent(members[0].id)
            )
            yield psutil.Process(child.process.pid), folder, processes.check


def _plant_id(folder: DemoFolder) -> str:
    return next((folder.path / "agents").iterdir()).name


def _train(
    agent: psutil.Process, settings: AgentSettings, journal: Path, check: Callable[[], None]
) -> Usage:
    """Wait until the last release has come back and the training process has ended."""
    busiest = Usage(0, 0, 0, 0.0)

    def at_rest() -> bool:
        nonlocal busiest
        now = usage(agent)
        if now.resident > busiest.resident:
            busiest = replace(now)
        with suppress(StorageError):
            overview = read_overview(journal)
            served = read_status(settings).model_k
            return overview.final and served == overview.k and now.processes == 1
        return False

    _wait(at_rest, "the agent's rest", check)
    return busiest


def _wait(condition: Callable[[], bool], what: str, check: Callable[[], None]) -> None:
    deadline = monotonic() + PATIENCE_S
    while not condition():
        check()
        if monotonic() > deadline:
            raise TimeoutError(f"{what} has not come within {PATIENCE_S:.0f} s")
        sleep(POLL_S)
