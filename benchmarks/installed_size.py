"""What ``pip install 'plantfed[agent]'`` puts on a machine."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path

from benchmarks.host import ROOT

SOURCES = ("shared", "coordinator", "edge_agent", "broker_config", "lab")
FILES = ("pyproject.toml", "README.md", "LICENSE")
PIP_OPTIONS = ("--disable-pip-version-check", "--no-input", "--timeout", "15", "--retries", "1")
NO_INDEX = ("(from versions: none)", "after connection broken by")
"""What pip says of a package when no index answers; a wrong version names the others."""
BLOCK_BYTES = 512
PATIENCE_S = 300.0


class NoIndexError(Exception):
    """The package index cannot be reached."""


@dataclass(frozen=True)
class Installed:
    """A fresh environment with an agent in it.

    Attributes:
        n_bytes: on disk in site-packages, without what an empty environment has.
        packages: bytes on disk by distribution, the largest first.
    """

    n_bytes: int
    packages: dict[str, int]


def measure() -> Installed:
    """Install this checkout with the agent's extra into an environment of its own.

    Raises:
        NoIndexError: packages cannot be downloaded.
        RuntimeError: pip failed for another reason.
    """
    with tempfile.TemporaryDirectory(prefix="plantfed-bench-") as path:
        folder = Path(path)
        subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
        (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
        empty, already = disk_bytes(site.rglob("*")), _names(site)
        _copy_sources(folder / "source")
        _install(folder, folder / "source")
        sizes = {
            found.name: disk_bytes(_files(found))
            for found in distributions(path=[str(site)])
            if found.name not in already
        }
        largest_first = sorted(sizes.items(), key=lambda item: -item[1])
        return Installed(disk_bytes(site.rglob("*")) - empty, dict(largest_first))


def disk_bytes(paths: Iterable[Path]) -> int:
    """What files and folders take on disk, as du counts; each counts once."""
    seen = {}
    for path in paths:
        status = path.lstat()
        seen[status.st_dev, status.st_ino] = BLOCK_BYTES * status.st_blocks
    return sum(seen.values())


def no_index_answers(complaint: str) -> bool:
    """Whether pip failed because it could not download."""
    return any(sign in complaint for sign in NO_INDEX)


def _names(site: Path) -> set[str]:
    return {found.name for found in distributions(path=[str(site)])}


def _files(found: Distribution) -> list[Path]:
    paths = (Path(str(found.locate_file(file))) for file in found.files or [])
    return [path for path in paths if path.exists()]


def _copy_sources(to: Path) -> None:
    """A build leaves files beside its sources, so it gets its own."""
    for name in SOURCES:
        shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, to / name)


def _install(folder: Path, source: Path) -> None:
    done = _pip(folder, "install", f"{source}[agent]")
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1]
        raise NoIndexError(reason) if no_index_answers(done.stderr) else RuntimeError(reason)


def _pip(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    python = str(folder / "venv" / "bin" / "python")
    # no PYTHONPATH: what is installed elsewhere must not count as installed here
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(
        [python, "-m", "pip", *arguments, "--quiet", *PIP_OPTIONS],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=environment,
        check=False,
    )
