"""Running ONNX files; the only importer of onnxruntime, and only when it is needed."""

from importlib.util import find_spec
from pathlib import Path

from plantfed_shared.errors import ConfigError
from plantfed_shared.parameters import Floats


def is_installed() -> bool:
    """Whether onnxruntime can be imported."""
    return find_spec("onnxruntime") is not None


def run_onnx(path: Path, x: Floats) -> Floats:
    """The first output of a network for its input ``x``, on one thread.

    Args:
        path: an ONNX file.
        x: float32 (samples, features).

    Returns:
        float32 (samples, outputs).

    Raises:
        ConfigError: onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError:
        raise ConfigError(
            "running ONNX files is not installed", hint="pip install 'plantfed[agent]'"
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    outputs: Floats = session.run(None, {"x": x})[0]
    return outputs
