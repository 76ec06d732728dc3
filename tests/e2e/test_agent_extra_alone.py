"""A machine with nothing but the agent's extra trains a compiled model: no onnx, no torch."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.compiled_federations import write_federation
from tests.e2e.plant import Plant
from tests.e2e.processes import Running, until

from plantfed_agent.onnx_runtime import run_onnx

ROOT = Path(__file__).parents[2]


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_eight_agents_with_the_agents_extra_alone(tmp_path):
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    pip = [str(venv / "bin" / "pip"), "install", "--quiet", f"{ROOT}[agent]"]
    subprocess.run(pip, check=True)
    python = str(venv / "bin" / "python")
    for missing in ("onnx", "torch", "plantfed_nothing"):
        looked = subprocess.run([python, "-c", f"import {missing}"], capture_output=True)
        assert looked.returncode == 1
    folder = tmp_path / "plant"
    folder.mkdir()
    with Plant(folder, agents=8, n_rows=200) as plant:
        write_federation(folder, more="[schedule]\nrelease_after_s = 0.5")
        plant.start_broker()
        plant.start_coordinator()
        program = [python, "-P", "-m", "plantfed_agent"]
        for agent in plant.agents:
            command = [*program, "run", "--config", str(agent.config)]
            agent.service = Running(command, agent.folder / "agent.log", str(folder))
        until(lambda: all(a.rounds() >= 2 for a in plant.agents), "two rounds each", 120)
        for agent in plant.agents:
            assert agent.process.stop() == 0
            path = agent.folder / "own.onnx"
            words = ["export", "--config", str(agent.config), "--out", str(path)]
            subprocess.run([*program, *words], check=True, capture_output=True)
            assert np.isfinite(run_onnx(path, np.zeros((1, 3, 16), np.float32))).all()
