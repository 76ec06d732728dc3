"""`docs/bring-your-model.md` from a PyTorch script to exported ONNX, carried out as it stands."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from tests.compiler.test_against_torch import recorded
from tests.docs.guide import Block, Host, Walk, blocks
from tests.free_ports import free_port

from plantfed_agent.onnx_runtime import run_onnx
from plantfed_compiler.compiling import Options, compile_model
from plantfed_shared.model_manifest import LossOfModel

GUIDE = Path(__file__).parents[2] / "docs" / "bring-your-model.md"
EXPORT = "cnn1d.dynamo.onnx"
"""What torch 2.13 made of the network of the guide."""


def steps() -> list[Block]:
    return [block for block in blocks(GUIDE.read_text(encoding="utf-8")) if block.host]


def test_the_guide_works_from_the_export_on(tmp_path):
    scripts = sysconfig.get_path("scripts")
    env = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    pc = Host(tmp_path / "pc", env, "")
    walk, port = Walk({"pc": pc}), str(free_port())
    try:
        for block in steps():
            if block.language == "python":
                exported = recorded("architectures.zip")[EXPORT]
                (pc.home / "model.onnx").write_bytes(exported)
                continue
            text = block.text.replace("127.0.0.1:1883", f"127.0.0.1:{port}")
            text = text.replace("--host 127.0.0.1", f"--host 127.0.0.1 --port {port}")
            walk.step(Block(block.line, block.language, block.host, block.words, text))
    finally:
        for service in pc.services.values():
            service.dispose()
    with np.load(pc.home / "press-01" / "rows.npz") as file:
        x, state = file["x"], file["state"]
    found = np.array(["ok", "leak", "worn bearing"])[
        run_onnx(pc.home / "press-01.onnx", x).argmax(1)
    ]
    # chance is a third
    assert (found == state).mean() > 0.6


@pytest.mark.soak
def test_torch_exports_what_the_guide_goes_on_with(tmp_path):
    pytest.importorskip("torch")
    (script,) = [block.text for block in steps() if block.language == "python"]
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    options = Options(loss=LossOfModel(kind="cross-entropy"), personal=("7.*",))
    made = compile_model(tmp_path / "model.onnx", options).artefact.manifest
    (tmp_path / "recorded.onnx").write_bytes(recorded("architectures.zip")[EXPORT])
    wanted = compile_model(tmp_path / "recorded.onnx", options).artefact.manifest
    assert made.parameters == wanted.parameters
