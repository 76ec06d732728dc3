"""Running ONNX graphs; the only importer of onnxruntime, and only when it is needed."""

import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plantfed_shared import step_names
from plantfed_shared.errors import ConfigError, ModelError

Arrays = dict[str, NDArray[Any]]
Values = dict[str, Any]


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
            # what bound values cause has no class of its own
            RuntimeError,
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # laid out after a first run, it takes the memory a second time, and saves no time
        options.enable_mem_pattern = False
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
            raise self._cannot_run(error) from None
        return dict(zip(names, found, strict=True))

    def stepper(
        self, carried: Mapping[str, NDArray[Any]], held: Mapping[str, NDArray[Any]]
    ) -> "Stepper":
        """For running a step graph again and again; see :class:`Stepper`.

        Args:
            carried: first values of what every step changes, by input; the output is
                ``step_names.after(input)``.
            held: what is the same in every step, by input.

        Raises:
            ModelError: the arrays do not fit the graph.
        """
        try:
            return Stepper(self, carried, held)
        except (*self._failures, ValueError) as error:
            raise self._cannot_run(error) from None

    def _cannot_run(self, error: BaseException) -> ModelError:
        return ModelError(f"onnxruntime cannot run the graph: {_said(error)}")


class Stepper:
    """Steps of a graph that takes what it gave the last time; made by ``OnnxSession.stepper``.

    The same numbers as with :meth:`OnnxSession.run`, without handing every parameter to Python and
    back: a sixth less processor time for a small network.  What is carried goes to and fro between
    two copies.  It is never written where it is read: onnxruntime would train silently wrong.

    All arrays are copied, but for the feeds of a step, which are done with when it ends.
    """

    def __init__(
        self,
        session: OnnxSession,
        carried: Mapping[str, NDArray[Any]],
        held: Mapping[str, NDArray[Any]],
    ) -> None:
        if unknown := (carried.keys() | held.keys()).difference(session.inputs):
            raise ModelError(f"has no inputs {sorted(unknown)}")
        self._session, self._failures = session._session, session._failures
        self._cannot_run = session._cannot_run
        self._copies = [{n: _value_like(a) for n, a in carried.items()} for _ in range(2)]
        self._scalars = {
            o.name: _value_like(np.zeros(o.shape, np.float32))
            for o in self._session.get_outputs()
            if not o.shape
        }
        fixed = {name: _value_like(array) for name, array in held.items()}
        self._fed = set(session.inputs).difference(carried, held)
        self._bindings = [
            self._bound(fixed, *self._copies),
            self._bound(fixed, *self._copies[::-1]),
        ]

    def _bound(self, fixed: Values, before: Values, after: Values) -> Any:
        binding = self._session.io_binding()
        for name, value in (*fixed.items(), *before.items()):
            binding.bind_ortvalue_input(name, value)
        for name, value in after.items():
            binding.bind_ortvalue_output(step_names.after(name), value)
        for name, value in self._scalars.items():
            binding.bind_ortvalue_output(name, value)
        return binding

    def step(self, feeds: Mapping[str, NDArray[Any]]) -> None:
        """Run once.

        Args:
            feeds: one array for every input that is neither carried nor held.

        Raises:
            ModelError: the feeds do not fit the graph; what is carried is as before.
        """
        if feeds.keys() != self._fed:
            raise ModelError(f"takes {sorted(self._fed)} in every step, not {sorted(feeds)}")
        binding = self._bindings[0]
        try:
            for name, array in feeds.items():
                binding.bind_cpu_input(name, array)
            self._session.run_with_iobinding(binding)
        except (*self._failures, ValueError) as error:
            raise self._cannot_run(error) from None
        self._bindings.reverse()
        self._copies.reverse()

    def scalar(self, output: str) -> float:
        """What the last step gave for an output without dimensions."""
        return float(self._scalars[output].numpy())

    def carried(self) -> Arrays:
        """What the next step begins with; new arrays, by input."""
        # what numpy() gives may be a view of what later steps write
        return {name: value.numpy().copy() for name, value in self._copies[0].items()}


def _value_like(array: NDArray[Any]) -> Any:
    """A copy in onnxruntime's own memory, which begins where vector instructions like it."""
    from onnxruntime import OrtValue

    value = OrtValue.ortvalue_from_shape_and_type(array.shape, array.dtype.type)
    value.update_inplace(np.asarray(array, order="C"))
    return value


_OF_A_NODE = re.compile(r"Name:'(?P<node>[^']*)' Status Message: (?P<why>.*)", re.DOTALL)
_IN_ITS_SOURCE = re.compile(r"/onnxruntime_src/.*?\)\s+", re.DOTALL)


def _said(error: BaseException) -> str:
    """What onnxruntime says, without the places in its own source."""
    text = str(error)
    if found := _OF_A_NODE.search(text):
        text = f"{found['node']}: {found['why']}"
    said = " ".join(_IN_ITS_SOURCE.sub("", text).split())
    return said if len(said) <= 300 else said[:297] + "..."
