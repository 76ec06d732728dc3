"""A command that is installed without its extra says so."""

import subprocess
import sys


def test_the_broker_command_without_its_extra() -> None:
    program = (
        "import sys\n"
        "sys.modules['cryptography'] = None\n"
        "from plantfed_broker.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 78
    assert done.stdout == ""
    assert done.stderr == "plantfed-broker: install it whole: pip install 'plantfed[broker]'\n"
