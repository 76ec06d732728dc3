"""What belongs to one demo or one plant stays apart from all others, and on this machine."""

import json
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray
from tests.e2e.demos import Demo, open_broker
from tests.e2e.processes import find_mosquitto, until

from plantfed_agent.agent_store import read_state
from plantfed_agent.column_mapping import ColumnsToRead
from plantfed_agent.settings import load_agent_settings
from plantfed_agent.sources import read_table
from plantfed_lab.process_variables import VARIABLES
from plantfed_lab.tennessee_eastman import plants
from plantfed_shared.errors import StorageError

AGENTS = ("plant-01", "plant-02", "plant-03")
Rows = NDArray[np.float64]


def programs(demo: Demo, module: str) -> list[psutil.Process]:
    """Its processes that run a module; those still about to become it are not counted."""
    found = []
    for process in demo.processes():
        with suppress(psutil.Error):
            words = process.cmdline()
            if "-m" in words and words[words.index("-m") + 1] == module:
                found.append(process)
    return found


def rounds(demo: Demo, agent: str) -> int:
    with suppress(StorageError):
        return read_state(demo.out / "agents" / agent / "state")[0].rounds
    return 0


def opened_below(process: psutil.Process, folder: Path) -> set[str]:
    """First two levels below a folder of the files a process has open."""
    files = [Path(file.path) for file in process.open_files()]
    inside = [file.relative_to(folder) for file in files if file.is_relative_to(folder)]
    return {str(Path(*file.parts[:2])) for file in inside}


def rows_of(folder: Path, name: str) -> Rows:
    """The rows of one of an agent's files, in the order of the federation's inputs."""
    section = load_agent_settings(folder / "agent.toml").data
    columns = [section.mapping.columns.get(variable, variable) for variable, _, _ in VARIABLES]
    (path,) = section.train if name == "train" else section.test
    table = read_table(path, ColumnsToRead(tuple(columns), ()))
    return np.column_stack([table.numbers[column] for column in columns])


def test_every_program_is_a_process_of_its_own_with_its_own_files(demo: Demo) -> None:
    with demo.start("--agents", "3", "--releases", "100000") as process:
        until(lambda: all(rounds(demo, agent) for agent in AGENTS), "all have trained")
        agents = {Path(p.cwd()).name: p for p in programs(demo, "plantfed_agent")}
        (coordinator,) = programs(demo, "plantfed_coordinator")
        (broker,) = programs(demo, "plantfed_broker")
        assert sorted(agents) == list(AGENTS)
        assert Path(coordinator.cwd()) == demo.out / "coordinator"
        assert Path(broker.cwd()) == demo.out / "broker"
        pids = {p.pid for p in (coordinator, broker, *agents.values())}
        assert len(pids | {process.pid}) == 6
        for agent, running in agents.items():
            assert opened_below(running, demo.out) == {f"agents/{agent}", f"logs/{agent}.log"}
        assert opened_below(coordinator, demo.out) == {"coordinator/state", "logs/coordinator.log"}
        process.terminate()
        process.communicate(timeout=30)

    known = {plant.id: plant for plant in plants(seed=0, n_plants=3)}
    seen: dict[str, set[tuple[float, ...]]] = {}
    for agent, plant in known.items():
        folder = demo.out / "agents" / agent
        suffix = "npz" if agent == "plant-02" else "csv"
        names = {path.name for path in folder.iterdir()}
        assert names == {"agent.toml", "password", f"train.{suffix}", f"test.{suffix}", "state"}
        kept = {path.name for path in (folder / "state").iterdir()}
        assert kept - {"agent.db-wal", "agent.db-shm"} == {"agent.db", "agent.lock"}
        own = np.concatenate([rows_of(folder, "train"), rows_of(folder, "test")])
        # CSV files have ten digits
        readings = np.concatenate([plant.readings_train, plant.readings_test])
        np.testing.assert_allclose(own, readings, rtol=1e-9)
        seen[agent] = {tuple(row) for row in readings.tolist()}
        assert len(seen[agent]) == len(own)
    assert len(set().union(*seen.values())) == sum(map(len, seen.values()))


def test_two_demos_on_one_broker_do_not_meet(demo: Demo, tmp_path: Path) -> None:
    other = Demo(tmp_path / "other")
    with open_broker(tmp_path) as url:
        arguments = ("--agents", "3", "--releases", "4", "--broker", url)
        with demo.start(*arguments) as one, other.start(*arguments) as two:
            outputs = [process.communicate(timeout=100)[0] for process in (one, two)]
        assert [one.returncode, two.returncode] == [0, 0], outputs
        # again in the same folder, on a broker that remembers the first
        with demo.start(*arguments) as again:
            outputs.append(again.communicate(timeout=100)[0])
        assert again.returncode == 0, outputs[-1]
    results = [json.loads((d.out / "result.json").read_text()) for d in (demo, other)]
    assert len({result["federation"] for result in results}) == 2
    for result, out in zip(results, (demo.out, other.out), strict=True):
        assert result["releases"] == 4
        assert [agent["id"] for agent in result["agents"]] == list(AGENTS)
        for agent in AGENTS:
            log = (out / "logs" / f"{agent}.log").read_text()
            assert log.count("connected to the broker") == 1, log
            assert "no connection" not in log


@pytest.mark.parametrize("kind", ["mosquitto", "nats"])
def test_a_demo_without_any_network(demo: Demo, kind: str) -> None:
    hide = ""
    if kind == "mosquitto" and not find_mosquitto():
        pytest.skip("mosquitto is not installed")
    if kind == "nats" and find_mosquitto():
        hide = f"mount --bind /dev/null {find_mosquitto()} && "
    needed = ("unshare", "ip", "mount")
    if missing := [program for program in needed if not shutil.which(program)]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    # namespaces of its own: the only network is its loopback
    within = ["unshare", "--user", "--map-root-user", "--net", "--mount", "sh", "-c"]
    script = f'ip link set lo up && {hide}exec "$@"'
    tried = subprocess.run([*within, script, "sh", "true"], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip(f"namespaces are not allowed here: {tried.stderr.decode().strip()}")
    outside = Path("/proc/self/ns/net").readlink()
    with demo.start("--agents", "3", "--releases", "6", within=[*within, script, "sh"]) as process:
        agents = until(lambda: programs(demo, "plantfed_agent")[2:], "three agents run")
        spaces = {Path(f"/proc/{agent.pid}/ns/net").readlink() for agent in agents}
        output, _ = process.communicate(timeout=100)
    assert process.returncode == 0, output
    assert spaces
    assert outside not in spaces
    result = json.loads((demo.out / "result.json").read_text())
    assert (result["broker"]["kind"], result["releases"]) == (kind, 6)
    demo.assert_nothing_is_left()
