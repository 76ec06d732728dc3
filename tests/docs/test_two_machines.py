"""`docs/two-machines.md`, carried out as it stands, and the files it points to.

Root gets two network namespaces joined by a cable; anybody else has both hosts on this machine, in
two folders, with 127.0.0.1 instead of the guide's address.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from tests.docs.guide import Block, Host, Walk, blocks
from tests.free_ports import free_port

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "two-machines.md"
A, B = "192.168.50.10", "192.168.50.20"
OURS = ("plantfed", "__editable__", "pip", "setuptools", "_distutils_hack", "distutils-precedence")
SCP = """#!/bin/sh
# scp between the folders of the test's hosts
for last in "$@"; do :; done
host=${last%%:*}; host=${host#*@}; to="$HOSTS/$host/${last#*:}"
while [ $# -gt 1 ]; do
    case $1 in -*) ;; *) cp -r "$1" "$to";; esac
    shift
done
"""


def read_guide() -> list[Block]:
    return list(blocks(GUIDE.read_text(encoding="utf-8")))


# ---------------------------------------------------------------------- the two machines


def may_join_namespaces() -> bool:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    name = f"plantfed-try-{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode:
        return False
    return not subprocess.run(["ip", "netns", "del", name], check=False).returncode


def ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def joined_namespaces() -> Iterator[tuple[str, str]]:
    """Two networks with one cable between them, and nothing else."""
    one, other = (f"plantfed-{side}-{os.getpid()}" for side in "ab")
    with ExitStack() as stack:
        for name in (one, other):
            ip("netns", "add", name)
            stack.callback(ip, "netns", "del", name)
        ip("-n", one, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", other)
        for name, address in ((one, A), (other, B)):
            ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
            for link in ("lo", "eth0"):
                ip("-n", name, "link", "set", link, "up")
        yield one, other


def dependencies(folder: Path) -> Path:
    """All that is installed here but PlantFed, so that pip need not fetch it again."""
    here = Path(sysconfig.get_path("purelib"))
    there = folder / here.relative_to(sys.prefix)
    there.mkdir(parents=True)
    (folder / "bin").symlink_to(Path(sys.prefix) / "bin")
    for path in here.iterdir():
        if not path.name.startswith(OURS):
            (there / path.name).symlink_to(path)
    return there


def environment(folder: Path) -> dict[str, str]:
    tools = folder / "tools"
    tools.mkdir()
    (tools / "scp").write_text(SCP)
    (tools / "scp").chmod(0o755)
    # the Python that runs the tests, not the one of the system
    (tools / "python3").symlink_to(Path(sys.base_prefix) / "bin" / "python3")
    (tools / "pip").write_text(f'#!/bin/sh\nexec {sys.executable} -m pip "$@"\n')
    (tools / "pip").chmod(0o755)
    hidden = ("VIRTUAL_ENV", "PYTHONHOME", "COVERAGE", "PYTEST")
    env = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
    settings_of_pip = Path("~/.config/pip/pip.conf").expanduser()
    if settings_of_pip.exists():
        env.setdefault("PIP_CONFIG_FILE", str(settings_of_pip))
    env["PATH"] = f"{tools}{os.pathsep}{env.get('PATH', os.defpath)}"
    env["PYTHONPATH"] = str(dependencies(folder / "installed"))
    env |= {"PIP_NO_COMPILE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    env["HOSTS"] = str(folder / "hosts")
    return env


def check_out(folder: Path) -> None:
    """Sources as a checkout has them."""
    unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    folder.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in ("shared", "coordinator", "edge_agent", "broker_config", "lab"):
        shutil.copytree(ROOT / name, folder / name, ignore=unwanted)


@pytest.fixture
def namespaces() -> Iterator[tuple[str, str]]:
    if not may_join_namespaces():
        yield "", ""
        return
    with joined_namespaces() as names:
        yield names


@pytest.fixture
def walk(tmp_path: Path, namespaces: tuple[str, str]) -> Iterator[Walk]:
    env = environment(tmp_path)
    hosts = {
        name: Host(tmp_path / name, env, namespace)
        for name, namespace in zip(("host-a", "host-b"), namespaces, strict=True)
    }
    (tmp_path / "hosts").mkdir()
    (tmp_path / "hosts" / B).symlink_to(tmp_path / "host-b")
    check_out(hosts["host-a"].home / "plantfed-checkout")
    try:
        yield Walk(hosts)
    finally:
        for host in hosts.values():
            for service in host.services.values():
                service.dispose()


def adapted(block: Block, ports: dict[str, int]) -> Block:
    """The block for two folders on one machine, whose usual ports may be taken."""
    text = block.text
    for variant, port in ports.items():
        text = text.replace(f":{variant}", f":{port}")
    port = ports["8883" if "mtls" in text else "1883"]
    text = text.replace(f"--host {A}", f"--host 127.0.0.1 --port {port}").replace(A, "127.0.0.1")
    return Block(block.line, block.language, block.host, block.words, text)


# ---------------------------------------------------------------------- the guide


def carry_out(walk: Walk, steps: list[Block]) -> None:
    """Everything, top to bottom; without a package index, with the programs of this environment."""
    borrowed = False
    for block in steps:
        online = "online" in block.words
        if online and borrowed:
            continue
        try:
            walk.step(block)
        except AssertionError as error:
            if not online or "No matching distribution found" not in str(error):
                raise
            borrowed = True
            for host in walk.hosts.values():
                borrow_installation(host)


def borrow_installation(host: Host) -> None:
    activate = host.home / "plantfed" / "bin" / "activate"
    activate.parent.mkdir(parents=True, exist_ok=True)
    scripts = sysconfig.get_path("scripts")
    activate.write_text(f'unset PYTHONPATH\nPATH="{scripts}:$PATH"\n')
    assert host.run("cd; . ~/plantfed/bin/activate").returncode == 0


@pytest.mark.timeout(240)  # 30 s on a quiet machine
def test_the_guide_works(walk: Walk, namespaces: tuple[str, str]) -> None:
    steps = [block for block in read_guide() if block.host]
    if not namespaces[0]:
        ports = {"1883": free_port(), "8883": free_port()}
        steps = [adapted(block, ports) for block in steps]
    carry_out(walk, steps)

    # the update of host B is in the history of host A
    a, b = walk.hosts["host-a"], walk.hosts["host-b"]
    history = json.loads(a.run("plantfed-coordinator history --json --last 10000").stdout)
    assert [e["agent"] for e in history if e["kind"] == "join"] == ["press-01"]
    assert sum(e["kind"] == "release" for e in history) >= 1
    assert [e["fields"]["epoch"] for e in history if e["kind"] == "epoch"] == [1, 2]
    overview = json.loads(a.run("plantfed-coordinator members --json").stdout)
    assert [m["id"] for m in overview["members"] if m["updates"] >= 1] == ["press-01"]

    # the machine's own model answers for every row, in the federation's words
    rows = re.findall(
        r"^\d+  (?:ok|leak|worn bearing)  [01]\.\d+$", walk.output_of("predict"), re.MULTILINE
    )
    assert len(rows) == 5
    answers = json.loads((b.home / "press-01" / "answers.json").read_text())["rows"]
    assert [row["row"] for row in answers] == list(range(1, 601))
    assert {row["label"] for row in answers} <= {"ok", "leak", "worn bearing"}
    assert (b.home / "press-01" / "press-01.npz").exists()
    assert "480 samples to train and 120 to test" in walk.output_of("plantfed-agent check")

    if namespaces[0]:
        assert_one_outbound_connection(b)
    for name in ("agent", "coordinator", "broker"):
        walk.stop(name)
    for name in filter(None, namespaces):
        assert ip("netns", "pids", name) == "", "a process is left"


def assert_one_outbound_connection(host: Host) -> None:
    assert host.run("ss -tulnH").stdout == "", "something listens"
    lines = host.run("ss -tnH state established").stdout.splitlines()
    # paho wakes its thread through a socket pair on the loopback
    peers = [line.split()[3] for line in lines if "127.0.0.1" not in line]
    assert peers == [f"{A}:8883"]


def test_what_is_not_carried_out_needs_more_rights() -> None:
    for block in read_guide():
        assert block.host or "sudo" in block.text, f"line {block.line}"


def test_what_it_points_to_is_there() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    for name in (
        "coordinator/federation.example.toml",
        "edge_agent/agent.example.toml",
        "coordinator/plantfed-coordinator.service",
        "edge_agent/plantfed-agent@.service",
        "tests/docs/test_two_machines.py",
    ):
        assert name in text
        assert (ROOT / name).is_file()
