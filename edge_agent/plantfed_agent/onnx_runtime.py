"""Running exported ONNX files."""

from pathlib import Path

from plantfed_shared.onnx_session import OnnxSession, is_installed
from plantfed_shared.parameters import Floats

__all__ = ["is_installed", "run_onnx"]


def run_onnx(path: Path, x: Floats) -> Floats:
    """The first output of a network for its first input, on one thread.

    Args:
        path: an ONNX file.
        x: float32 (samples, *shape of a sample).

    Returns:
        float32 (samples, outputs).

    Raises:
        ConfigError: onnxruntime is not installed.
        ModelError: it is no ONNX file, or cannot run on these samples.
    """
    session = OnnxSession(path)
    outputs: Floats = session.run({session.inputs[0]: x})[session.outputs[0]]
    return outputs
