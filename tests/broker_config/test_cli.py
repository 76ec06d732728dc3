"""The command as people type it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.broker_config.running import LATE, Site, on_each_broker
from tests.contract.client import on_loop, opened
from tests.free_ports import free_port

from plantfed_broker.embedded import BrokerKind

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "plantfed_broker"]
ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("broker_config", "shared"))
}


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *words], capture_output=True, text=True, env=ENVIRONMENT, timeout=60, check=False
    )


@contextmanager
def serving(*words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The running command and its first line."""
    with subprocess.Popen(
        [*COMMAND, "serve", *words], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline()
        finally:
            process.terminate()


def test_render_add_and_remove_say_what_to_do_next(tmp_path: Path) -> None:
    folder = str(tmp_path / "broker")
    shown = run("render", "--federation", "hall-7", "--host", "broker.plant", "--out", folder)
    assert shown.stdout == f"{folder}: broker of hall-7 at mqtt://broker.plant:1883, 0 agents\n"
    assert "clear text; use --variant mtls" in shown.stderr
    shown = run("add-agent", "press-01", "--dir", folder)
    assert f"{folder}/agents/press-01: move it to the machine" in shown.stdout
    assert "systemctl reload mosquitto" in shown.stdout
    again = run("add-agent", "press-01", "--dir", folder)
    assert (again.returncode, again.stderr) == (
        78,
        "plantfed-broker: agent 'press-01' exists. "
        "Give it new credentials with: plantfed-broker add-agent press-01 --replace\n",
    )
    shown = run("render", "--federation", "hall-7", "--host", "broker.plant", "--out", folder)
    assert shown.stdout.endswith(", 1 agent\n")
    moved = run("render", "--federation", "hall-7", "--host", "10.0.0.7", "--out", folder)
    assert "agent.toml of every agent; it still says mqtt://broker.plant:1883" in moved.stderr
    shown = run("remove-agent", "press-01", "--dir", folder)
    assert shown.stdout.startswith("press-01 may not connect any more\n")


@on_each_broker
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_says_what_runs_where_and_ends_cleanly(
    kind: BrokerKind, number: signal.Signals, tmp_path: Path
) -> None:
    site = Site.build(tmp_path, kind)
    with serving("--dir", str(tmp_path), "--kind", kind) as (process, line):
        assert line == f"{kind} {site.broker.address}\n"
        process.send_signal(number)
        assert process.wait(20) == 0
    with site.broker:
        pass


@on_each_broker
@on_loop
async def test_serve_lets_a_new_agent_in_by_itself(kind: BrokerKind, tmp_path: Path) -> None:
    site = Site.build(tmp_path, kind)
    with serving("--dir", str(tmp_path), "--kind", kind) as (_, line):
        assert line
        run("add-agent", LATE, "--dir", str(tmp_path))
        async with opened(site.bus(LATE)) as late:
            await late.connected_again()


def test_a_port_taken_by_a_stranger_exits_69(tmp_path: Path) -> None:
    Site.build(tmp_path / "one", BrokerKind.NATS)
    Site.build(tmp_path / "other", BrokerKind.NATS)
    port = str(free_port())
    with serving("--dir", str(tmp_path / "one"), "--port", port):
        second = run("serve", "--dir", str(tmp_path / "other"), "--port", port)
    assert second.returncode == 69
    assert second.stderr.startswith(f"plantfed-broker: port {port} is taken by another program")
    assert second.stderr.count("\n") == 1


@pytest.mark.parametrize("same_port", [True, False])
def test_a_folder_that_is_served_already_is_told_from_a_stranger(
    tmp_path: Path, same_port: bool
) -> None:
    site = Site.build(tmp_path, BrokerKind.NATS)
    words = [] if same_port else ["--port", str(free_port())]
    with serving("--dir", str(tmp_path)) as (first, _):
        second = run("serve", "--dir", str(tmp_path), *words)
        assert second.returncode == 69
        assert second.stderr == (
            f"plantfed-broker: {tmp_path}: plantfed-broker serves this folder already at "
            f"{site.broker.address} by process {first.pid}. Use it, or end it first\n"
        )
        first.kill()  # the lock goes with the process, however it ends
        first.wait()
        with serving("--dir", str(tmp_path), "--port", str(free_port())) as (_, line):
            assert "mqtt://" in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--federation", "Pr+"], "federation id 'Pr+' is not allowed. Use 1 to 63 of a-z"),
        (["--federation", "a", "--root", "a/#"], "topic root 'a/#' is not allowed. Use one or"),
        (["--federation", "a", "--host", "a b"], "host = 'a b': write the name or the IP address"),
        (["--federation", "a", "--bind", "here"], "bind = 'here': write an IP address"),
    ],
)
def test_what_cannot_be_rendered_is_one_line(words: list[str], said: str, tmp_path: Path) -> None:
    shown = run("render", *words, "--out", str(tmp_path / "broker"))
    assert (shown.returncode, shown.stdout) == (78, "")
    assert shown.stderr.startswith(f"plantfed-broker: {said}")
    assert shown.stderr.count("\n") == 1
    assert not (tmp_path / "broker").exists()


def test_a_given_broker_is_named_and_left_alone(tmp_path: Path) -> None:
    Site.build(tmp_path, BrokerKind.NATS)
    with serving("--dir", str(tmp_path)) as (_, line):
        url = line.split()[1]
        shown = run("serve", "--dir", str(tmp_path), "--broker", url)
    assert (shown.returncode, shown.stdout) == (0, f"external {url}\n")
