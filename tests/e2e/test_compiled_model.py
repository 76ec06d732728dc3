"""Eight agents train a compiled CNN over a real broker, and export what they predict with."""

import json

import numpy as np
from tests.compiled_federations import write_federation
from tests.e2e.outcomes import DATA, assert_ends_with_one_line
from tests.e2e.plant import Plant
from tests.e2e.processes import run, until

from plantfed_agent.onnx_runtime import run_onnx
from plantfed_agent.settings import load_agent_settings
from plantfed_agent.views import served_model

SCHEDULE = "[schedule]\nrelease_after_s = 0.5"


def test_eight_agents_train_a_compiled_model_and_export_it(tmp_path):
    with Plant(tmp_path, agents=8, n_rows=200) as plant:
        write_federation(tmp_path, more=SCHEDULE)
        plant.start_broker()
        plant.start_coordinator()
        for agent in plant.agents:
            agent.start()
        until(lambda: all(a.rounds() >= 2 for a in plant.agents), "two rounds each", 90)
        for agent in plant.agents:
            assert agent.process.stop() == 0
        for agent in plant.agents[:2]:
            check_export(agent, tmp_path)
        out = run("agent", "status", "--config", plant.agents[0].config, "--json").out
        assert json.loads(out)["metric"] == "accuracy"


def test_an_agent_without_onnxruntime_says_so_in_one_line(tmp_path, monkeypatch):
    without = tmp_path / "without"
    without.mkdir()
    (without / "sitecustomize.py").write_text('import sys\nsys.modules["onnxruntime"] = None\n')
    with Plant(tmp_path) as plant:
        write_federation(tmp_path, more=SCHEDULE)
        plant.start_broker()
        plant.start_coordinator()
        monkeypatch.setenv("PYTHONPATH", str(without))
        words = "needs onnxruntime", "pip install 'plantfed[agent]'"
        assert_ends_with_one_line(plant.agents[0].start(), DATA, *words)


def check_export(agent, tmp_path):
    settings = load_agent_settings(agent.config)
    (model_file,) = (agent.state_dir / "models").glob("*.pfm")
    assert model_file.read_bytes() == (tmp_path / "model.pfm").read_bytes()
    path = tmp_path / f"{agent.id}.onnx"
    done = run("agent", "export", "--config", agent.config, "--out", path)
    assert done.code == 0, done.err
    predicted = run("agent", "predict", "--config", agent.config, "--json", agent.rows_file)
    said = json.loads(predicted.out)["rows"]
    table = np.loadtxt(agent.rows_file, delimiter=",", skiprows=1, usecols=(0, 1, 2))
    windows = np.stack([table[row["row"] - 16 : row["row"]].T for row in said])
    found = run_onnx(path, windows.astype(np.float32))
    np.testing.assert_allclose(found.max(1), [row["probability"] for row in said], atol=1e-5)
    classes = served_model(settings).definition.classes
    assert [classes[n] for n in found.argmax(1)] == [row["label"] for row in said]
