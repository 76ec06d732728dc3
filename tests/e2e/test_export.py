"""What a machine may take home: its own model as npz and ONNX, and predictions."""

import csv
from pathlib import Path

import numpy as np
from tests.e2e.plant import CLASSES, INPUTS, Plant, as_json, rows, write_csv
from tests.e2e.processes import run, until

from plantfed_agent.onnx_runtime import run_onnx
from plantfed_agent.personal_model import load_npz


def test_exports_and_predictions_are_the_machines_own_model(tmp_path: Path) -> None:
    with Plant(tmp_path, agents=2, n_rows=200) as plant:
        # scaled and clipped inputs: the ONNX file takes raw values
        plant.define(algorithm={"learning_rate": 0.2, "epochs": 10})
        text = plant.federation_file.read_text()
        scaled = '{ name = "b", unit = "bar", centre = 0.1, scale = 1.5, clip = 2.0 }'
        plant.federation_file.write_text(text.replace('{ name = "b" }', scaled))
        assert scaled in plant.federation_file.read_text()
        plant.start()
        agent, other = plant.agents
        until(lambda: min(agent.rounds(), other.rounds()) >= 8, "both have learnt")
        assert agent.process.stop() == 0
        assert other.process.stop() == 0

        npz, onnx = tmp_path / "model.npz", tmp_path / "model.onnx"
        for out in (npz, onnx):
            done = run("agent", "export", "--config", agent.config, "--out", out)
            assert done.code == 0, done.err
            assert "as this machine uses it" in done.out
        x, labels = rows(300, seed=99)
        fresh = tmp_path / "fresh.csv"
        write_csv(fresh, (x, labels))
        x = np.array([[float(row[name]) for name in INPUTS] for row in read(fresh)])

        # equal outputs: the file with the numbers, in numpy, and the ONNX file, in onnxruntime
        model = load_npz(npz)
        centre, scale = np.array([0.0, 0.1, 0.0]), np.array([1.0, 1.5, 1.0])
        features = (x - centre) / scale
        features[:, 1] = np.clip(features[:, 1], -2, 2)
        from_npz = model.predict(features.astype(np.float32))
        from_onnx = run_onnx(onnx, x.astype(np.float32))
        np.testing.assert_allclose(from_onnx, from_npz, atol=1e-5)

        # and what the command says is the same again
        command = ("agent", "predict", "--config", agent.config)
        said = as_json(run(*command, "--json", fresh))["rows"]
        assert [row["row"] for row in said] == list(range(1, 301))
        assert [row["label"] for row in said] == [CLASSES[best] for best in from_onnx.argmax(1)]
        np.testing.assert_allclose([r["probability"] for r in said], from_onnx.max(1), atol=1e-5)
        assert np.mean([row["label"] for row in said] == labels) > 0.8
        lines = run(*command, fresh).out.splitlines()
        assert lines[0].split() == ["1", said[0]["label"], f"{said[0]['probability']:.3f}"]
        assert len(lines) == 300

        # the head is this machine's, the rest what the federation agreed on
        out = tmp_path / "shared.npz"
        assert run("coordinator", "export", "--config", plant.config, "--out", out).code == 0
        with np.load(out) as shared, np.load(npz) as own:
            assert sorted(set(own) - set(shared)) == [
                "layer2.bias",
                "layer2.weight",
                "manifest.json",
            ]
            assert shared["layer1.weight"].shape == own["layer1.weight"].shape == (3, 8)


def read(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))
