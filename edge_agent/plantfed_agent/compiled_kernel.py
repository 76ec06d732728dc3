"""Compiled models: their graphs run in onnxruntime, on one thread, with arrays in and out.

Parameters are never bound in place: a step reads one copy and writes another, and what is written
back into the caller's vectors is a copy too.  (A buffer that is input and output at once trains
silently wrong.)
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plantfed_agent.kernels.port import Batches, Part, Pull, Rates, Truth
from plantfed_shared import step_names
from plantfed_shared.artefact import Artefact
from plantfed_shared.model_manifest import GraphName, sampled
from plantfed_shared.onnx_session import Arrays, OnnxSession
from plantfed_shared.parameters import Floats, Parameters, unflatten

ROWS_AT_ONCE = 256
"""Rows that are looked at together outside of training: so much memory, whatever the data."""
LARGE_RATE = 2.0**24
"""With it p - p' is the gradient to the last digit: p itself is far below it."""


class CompiledKernel:
    """A compiled network and its loss; implements :class:`plantfed_agent.kernels.port.Kernel`.

    Args:
        artefact: verified.
        columns_first: whether a sample is transposed before it is given the shape of the input.
        n_inputs: inputs of a row.
    """

    def __init__(self, artefact: Artefact, n_inputs: int, *, columns_first: bool) -> None:
        manifest = artefact.manifest
        self._artefact, self._manifest = artefact, manifest
        self._n_inputs, self._columns_first = n_inputs, columns_first
        self._sessions: dict[GraphName, OnnxSession] = {}
        self._names = [t.name for t in (*manifest.parameters, *manifest.statistics)]
        self._is_personal = {p.name: p.personal for p in manifest.parameters}

    def outputs(self, parameters: Parameters, x: Floats) -> Floats:
        """See :meth:`Kernel.outputs`; of more than one axis they are flat."""
        found = self._by_rows("predict", parameters, x, None, step_names.OUTPUT)
        return found.reshape(len(x), -1)

    def row_losses(self, parameters: Parameters, x: Floats, y: Truth) -> Floats:
        """float32 (rows,): the loss of each; of an autoencoder its anomaly score."""
        return self._by_rows("evaluate", parameters, x, y, step_names.ROW_LOSS)

    def mean_loss(self, parameters: Parameters, x: Floats, y: Truth) -> float:
        """See :meth:`Kernel.mean_loss`."""
        return float(np.mean(self.row_losses(parameters, x, y), dtype=np.float64))

    def loss_and_gradient(
        self, parameters: Parameters, x: Floats, y: Truth, wanted: Collection[str]
    ) -> tuple[float, list[Floats]]:
        """See :meth:`Kernel.loss_and_gradient`; as in training, the whole of x at once."""
        for name in wanted:
            if name not in self._is_personal:
                known = ", ".join(self._is_personal)
                raise ValueError(f"{name!r} is not a parameter; there are: {known}")
        session = self._session("whole_step")
        still = dict.fromkeys((True, False), 0.0)
        fixed = self._fixed(session, Rates(LARGE_RATE, 0.0), still, {}, {})
        order = [n for n in self._is_personal if n in wanted]
        found = session.run(
            {**fixed, **self._named(parameters), **self._batch(x, y)},
            [step_names.LOSS, *map(step_names.after, order)],
        )
        before = self._named(parameters)
        gradients = [(before[n] - found[step_names.after(n)]) / LARGE_RATE for n in order]
        return float(found[step_names.LOSS]), [g.astype(np.float32) for g in gradients]

    def descend(
        self, parameters: Parameters, parts: tuple[Part, ...], rates: Rates, batches: Batches
    ) -> list[float]:
        """See :meth:`Kernel.descend`."""
        graph = self._graph_that_trains({p.name for part in parts for p in part.parameters})
        session = self._session(graph)
        fixed = self._fixed(session, rates, *self._pulls(parts, rates.weight_decay))
        values = self._named(parameters)
        moving = {n: v for n, v in values.items() if step_names.after(n) in session.outputs}
        still = {n: v for n, v in values.items() if n in session.inputs and n not in moving}
        stepper = session.stepper(moving, {**fixed, **still})
        losses = []
        for x, y in batches:
            stepper.step(self._batch(x, y))
            losses.append(stepper.scalar(step_names.LOSS))
        for name, value in stepper.carried().items():
            values[name][...] = value
        return losses

    def _pulls(
        self, parts: tuple[Part, ...], weight_decay: float
    ) -> tuple[dict[bool, float], Arrays, Arrays]:
        """Pulls by part of the head, anchors and duals by parameter.

        mu p + strength (p - towards) = k (p - anchor), k = mu + strength,
        anchor = strength towards / k.
        """
        strengths = {True: weight_decay, False: weight_decay}
        anchors: Arrays = {}
        duals: Arrays = {}
        for part in parts:
            pull = part.pull or Pull(0.0, np.zeros_like(part.trained))
            k = weight_decay + pull.strength
            anchor = (pull.strength / k * pull.towards if k else 0 * pull.towards).astype(
                np.float32
            )
            for p, towards in zip(part.parameters, unflatten(anchor, part.parameters), strict=True):
                strengths[self._is_personal[p.name]] = k
                anchors[p.name] = towards
            if pull.dual is not None:
                split = unflatten(pull.dual.astype(np.float32), part.parameters)
                duals |= {p.name: d for p, d in zip(part.parameters, split, strict=True)}
        return strengths, anchors, duals

    def _fixed(
        self,
        session: OnnxSession,
        rates: Rates,
        strengths: Mapping[bool, float],
        anchors: Arrays,
        duals: Arrays,
    ) -> Arrays:
        """What a step takes besides parameters and batch."""
        numbers = {step_names.LEARNING_RATE: rates.learning_rate}
        numbers |= {step_names.pull(personal=p): k for p, k in strengths.items()}
        fixed: Arrays = {n: np.array(v, np.float32) for n, v in numbers.items()}
        for parameter in self._manifest.parameters:
            zero = np.zeros(parameter.shape, np.float32)
            fixed[step_names.anchor(parameter.name)] = anchors.get(parameter.name, zero)
            fixed[step_names.dual(parameter.name)] = duals.get(parameter.name, zero)
        return {n: v for n, v in fixed.items() if n in session.inputs}

    def _by_rows(
        self, graph: GraphName, parameters: Parameters, x: Floats, y: Truth | None, wanted: str
    ) -> Floats:
        session, values = self._session(graph), self._named(parameters)
        parts = []
        for start in range(0, len(x), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            batch = self._batch(x[rows], None if y is None else y[rows])
            parts.append(session.run({**values, **batch}, [wanted])[wanted])
        found: Floats = np.concatenate(parts)
        return found

    def _batch(self, x: Floats, y: Truth | None) -> Arrays:
        manifest, n = self._manifest, len(x)
        if self._columns_first:
            x = x.reshape(n, -1, self._n_inputs).transpose(0, 2, 1)
        shaped = x.reshape(n, *manifest.input.shape)
        batch: Arrays = {manifest.input.name: _as(shaped, manifest.input.dtype)}
        if y is not None and manifest.target is not None:
            target = y.reshape(n, *manifest.target.shape)
            batch[manifest.target.name] = _as(target, manifest.target.dtype)
        return batch

    def _named(self, parameters: Parameters) -> Arrays:
        return dict(zip(self._names, parameters, strict=True))

    def _graph_that_trains(self, names: set[str]) -> GraphName:
        for name, graph in self._manifest.graphs.items():
            if graph.trains and set(graph.trains) == names:
                return name
        raise ValueError(f"no graph trains just {', '.join(sorted(names))}")

    def _session(self, graph: GraphName) -> OnnxSession:
        known = self._sessions.get(graph)
        if known is None:
            known = self._sessions[graph] = OnnxSession(self._artefact.graph(graph))
        return known


def failures_of_self_test(artefact: Artefact, kernel: CompiledKernel) -> Iterator[str]:
    """What this machine computes otherwise than the self-test says; nothing if all is well.

    Args:
        artefact: with the test.
        kernel: of it, with samples in the shape of the input.
    """
    manifest, test = artefact.manifest, artefact.manifest.self_test
    arrays = artefact.self_test_arrays()
    x = arrays[manifest.input.name]
    y = x if manifest.target is None else arrays[manifest.target.name]
    names = [p.name for p in manifest.parameters]
    loss, gradients = kernel.loss_and_gradient(list(artefact.initial().values()), x, y, names)
    if not abs(loss - test.loss) <= test.tolerance * max(abs(test.loss), 1e-6):
        yield f"a loss of {loss:.6g} where {test.loss:.6g} is right"
    expected = {n: arrays[f"gradient.{n}"] for n in names}
    largest = max(float(np.abs(g).max(initial=0)) for g in expected.values())
    for name, gradient in zip(names, gradients, strict=True):
        difference = float(np.abs(sampled(gradient) - expected[name]).max(initial=0))
        if not difference <= test.tolerance * max(largest, 1e-12):
            yield f"a gradient of {name} that is off by {difference:.2g} of {largest:.2g}"


def _as(array: NDArray[Any], dtype: str) -> NDArray[Any]:
    return np.ascontiguousarray(array, dtype=dtype)
