"""Running ONNX graphs; the only importer of onnxruntime, and only when it is needed."""

import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from plantfed_shared.errors import ConfigError, ModelError

Arrays = dict[str, NDArray[Any]]


def is_installed() -> bool:
    """Whether onnxruntime can be imported."""
    return find_spec("onnxruntime") is not None


class OnnxSession:
    """A graph that is ready to run on the CPU.

    Args:
        model: an ONNX file, or its bytes.
        threads: within one operator.
        optimize: let onnxruntime rewrite the graph; without, every value is as the graph has it.
        extra: what to install where onnxruntime is missing.

    Raises:
        ConfigError: onnxruntime is not installed.
        ModelError: it refuses the graph.
    """

    def __init__(
        self,
        model: Path | bytes,
        *,
        threads: int = 1,
        optimize: bool = True,
        extra: str = "agent",
    ) -> None:
        try:
            import onnxruntime
            from onnxruntime.capi import onnxruntime_pybind11_state as states
        except ImportError:
            raise ConfigError(
                "running ONNX files is not installed", hint=f"pip install 'plantfed[{extra}]'"
            ) from None
        self._failures = (
            states.EPFail,
            states.EngineError,
            states.Fail,
            states.InvalidArgument,
            states.InvalidGraph,
            states.InvalidProtobuf,
            states.NoModel,
            states.NoSuchFile,
            states.NotImplemented,
            states.RuntimeException,
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # what it refuses is raised; its own log would say it a second time
        options.log_severity_level = 4
        if not optimize:
            level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            options.graph_optimization_level = level
        given = str(model) if isinstance(model, Path) else model
        try:
            self._session = onnxruntime.InferenceSession(
                given, options, providers=["CPUExecutionProvider"]
            )
        except self._failures as error:
            raise ModelError(f"onnxruntime refuses the graph: {_said(error)}") from None
        self.inputs: tuple[str, ...] = tuple(i.name for i in self._session.get_inputs())
        self.outputs: tuple[str, ...] = tuple(o.name for o in self._session.get_outputs())

    def run(self, feeds: Mapping[str, NDArray[Any]], wanted: Sequence[str] | None = None) -> Arrays:
        """Run the graph once.

        Args:
            feeds: one array per input; a scalar is an array without dimensions.
            wanted: names of outputs; all for None.

        Returns:
            New arrays, by the names of the outputs.

        Raises:
            ModelError: the feeds do not fit the graph.
        """
        names = self.outputs if wanted is None else tuple(wanted)
        try:
            found = self._session.run(list(names), dict(feeds))
        except (*self._failures, ValueError) as error:
            raise ModelError(f"onnxruntime cannot run the graph: {_said(error)}") from None
        return dict(zip(names, found, strict=True))


_OF_A_NODE = re.compile(r"Name:'(?P<node>[^']*)' Status Message: (?P<why>.*)", re.DOTALL)
_IN_ITS_SOURCE = re.compile(r"/onnxruntime_src/.*?\)\s+", re.DOTALL)


def _said(error: BaseException) -> str:
    """What onnxruntime says, without the places in its own source."""
    text = str(error)
    if found := _OF_A_NODE.search(text):
        text = f"{found['node']}: {found['why']}"
    said = " ".join(_IN_ITS_SOURCE.sub("", text).split())
    return said if len(said) <= 300 else said[:297] + "..."
