"""What is installed: exactly our six packages with their data, and nothing of the tests."""

import shutil
import subprocess
import sys
from configparser import ConfigParser
from email import message_from_string
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from zipfile import ZipFile

import pytest
from tests.rules.sources import PACKAGES, ROOT

PROJECT_FILES = ("pyproject.toml", "README.md", "LICENSE")
OLDEST_SETUPTOOLS = 77


def installed_setuptools() -> int:
    try:
        return int(version("setuptools").partition(".")[0])
    except PackageNotFoundError:
        return 0


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    """Built from a copy: setuptools leaves a build folder, and takes up what an old one holds."""
    folder = tmp_path_factory.mktemp("source")
    for name in PROJECT_FILES:
        assert (ROOT / name).exists(), f"{name} is missing: pyproject.toml names it"
        shutil.copy(ROOT / name, folder)
    for top in {*PACKAGES.values(), ROOT / "tests"}:
        shutil.copytree(top, folder / top.name, ignore=shutil.ignore_patterns("__pycache__"))
    # with a setuptools that is there, nothing is fetched; else pip fetches one
    local = ["--no-build-isolation", "--no-index"]
    options = local if installed_setuptools() >= OLDEST_SETUPTOOLS else []
    out = folder / "out"
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(out)]
    built = subprocess.run(
        [*command, *options, str(folder)], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = out.iterdir()
    return ZipFile(path)


def metadata(wheel: ZipFile, name: str) -> str:
    (path,) = (p for p in wheel.namelist() if p.endswith(f".dist-info/{name}"))
    return wheel.read(path).decode()


def test_it_holds_exactly_what_lies_in_our_packages(wheel):
    expected = {
        str(path.relative_to(folder))
        for package, folder in PACKAGES.items()
        for path in (folder / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == expected


def test_data_and_templates_are_whole(wheel):
    data = PACKAGES["plantfed_lab"] / "plantfed_lab" / "data" / "tep_braatz.npz"
    assert wheel.read("plantfed_lab/data/tep_braatz.npz") == data.read_bytes()
    names = set(wheel.namelist())
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert "plantfed_lab/data/LICENSE-tennessee-eastman.txt" in names
    for package in ("plantfed_lab", "plantfed_broker"):
        assert any(name.startswith(f"{package}/templates/") for name in names)


def test_nothing_but_our_packages_is_at_the_top(wheel):
    tops = {Path(name).parts[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
    assert len(tops) == len(PACKAGES) + 1


def test_every_command_is_there(wheel):
    scripts = ConfigParser(delimiters="=")
    scripts.read_string(metadata(wheel, "entry_points.txt"))
    commands = dict(scripts["console_scripts"])
    assert set(commands) == {
        "plantfed",
        "plantfed-agent",
        "plantfed-broker",
        "plantfed-compile",
        "plantfed-coordinator",
    }
    for target in commands.values():
        module, _, function = target.partition(":")
        text = wheel.read(f"{module.replace('.', '/')}.py").decode()
        assert f"def {function}(" in text, target


def test_a_machine_needs_no_more_than_it_is_told(wheel):
    described = message_from_string(metadata(wheel, "METADATA"))
    assert described["Name"] == "plantfed"
    assert described["License-Expression"] == "Apache-2.0"
    needed = [r for r in described.get_all("Requires-Dist") or [] if "extra ==" not in r]
    names = {"".join(c for c in r.split(";")[0] if c.isalpha() or c == "-") for r in needed}
    assert names == {"click", "msgpack", "numpy", "paho-mqtt", "pydantic"}
