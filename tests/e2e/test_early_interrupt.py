"""Ctrl-C while a command is still importing: silence and exit code 130."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import pytest

F_SETPIPE_SZ = 1031
IMPORT = b"import time:"
HEEDS = b"plantfed_shared.entry_point"
COMMANDS = {
    "plantfed_agent": ["run"],
    "plantfed_broker": ["serve"],
    "plantfed_coordinator": ["run"],
    "plantfed_lab": ["demo"],
}


def read_imports(stream: BinaryIO, count: int) -> None:
    """Read until so many modules have been imported after the one that heeds Ctrl-C."""
    for line in stream:
        if (
            line.startswith(IMPORT)
            and line.split(b"|")[-1].strip() == b"plantfed_shared.entry_point"
        ):
            break
    for _ in range(count):
        assert stream.readline().startswith(IMPORT)


@pytest.mark.parametrize("imports", [1, 20, 60, 120, 240])
@pytest.mark.parametrize("package", COMMANDS)
def test_an_interrupt_while_modules_are_imported(
    package: str, imports: int, tmp_path: Path
) -> None:
    reader, writer = os.pipe()
    # once it holds a page of lines nobody reads, the process waits: it cannot get ahead of us
    fcntl.fcntl(writer, F_SETPIPE_SZ, 4096)
    command = [sys.executable, "-P", "-X", "importtime", "-m", package, *COMMANDS[package]]
    with (
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=writer, cwd=tmp_path, bufsize=0
        ) as process,
        os.fdopen(reader, "rb", buffering=0) as unbuffered,
    ):
        os.close(writer)
        read_imports(unbuffered, imports)
        process.send_signal(signal.SIGINT)
        said = [line for line in unbuffered if not line.startswith(IMPORT)]
        assert process.stdout is not None
        assert process.stdout.read() == b""
    assert process.returncode == 130, said
    assert said == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("package", COMMANDS)
def test_a_command_in_the_background_of_a_script_goes_on(package: str, tmp_path: Path) -> None:
    """Shells without job control start it with Ctrl-C ignored, and it is not for us to change."""
    program = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        f"from {package}.__main__ import main\n"
        "sys.argv = ['plantfed', '--version']\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, cwd=tmp_path, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
