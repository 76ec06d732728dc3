"""From a model file to an artefact."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import onnx
from onnx import ModelProto

from plantfed_compiler import steps
from plantfed_compiler.emitting import Known
from plantfed_compiler.losses import target_of
from plantfed_compiler.network import Network, network_of
from plantfed_compiler.numeric_check import probe, refuse_wrong_gradients
from plantfed_compiler.reading import not_whole, read_model
from plantfed_compiler.tracing import trace
from plantfed_shared import step_names
from plantfed_shared.artefact import (
    INITIAL,
    SELF_TEST,
    Artefact,
    member_of,
    packed,
)
from plantfed_shared.errors import ModelError
from plantfed_shared.model_manifest import (
    Array,
    Graph,
    GraphName,
    LossOfModel,
    MadeWith,
    Manifest,
    SelfTest,
    Trained,
    sampled,
)
from plantfed_shared.onnx_session import OnnxSession
from plantfed_shared.version import software_version

SELF_TEST_TOLERANCE = 1e-3
"""Other processors sum in another order; a wrong kernel is off by far more."""

ENDS = {"cross-entropy": {"Softmax", "LogSoftmax"}, "bce": {"Sigmoid"}}
"""What a network may end with although the loss takes what comes before."""


@dataclass(frozen=True)
class Options:
    """How to compile.

    Attributes:
        loss: what is minimised.
        personal: shell patterns of parameters that never leave a machine.
        shared_statistics: shell patterns of batch-norm statistics that do leave it.
        frozen: shell patterns of parameters that are not trained.
        batch_norm: "batch" trains with the statistics of each batch; "frozen" with those of the
            file, which then never change.
        momentum: whether the steps have velocities.
        sizes: of dynamic dimensions other than the batch, by name.
        output: name of the output the loss is taken of; the first for None.
    """

    loss: LossOfModel
    personal: tuple[str, ...] = ()
    shared_statistics: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    batch_norm: Literal["batch", "frozen"] = "batch"
    momentum: bool = False
    sizes: dict[str, int] = field(default_factory=dict)
    output: str | None = None


@dataclass(frozen=True)
class Compiled:
    """What came of it.

    Attributes:
        artefact: to be written.
        notes: what was decided, for the reader.
        difference: largest relative one between slopes and finite differences.
    """

    artefact: Artefact
    notes: tuple[str, ...]
    difference: float


def compile_model(path: Path, options: Options) -> Compiled:
    """Compile an ONNX file.

    Raises:
        ModelError: it cannot be trained; the message says why and what to do.
        ConfigError: onnxruntime is not installed.
    """
    try:
        return _compiled(path, options)
    except UnicodeDecodeError:
        # protobuf notices only when a name is looked at
        raise not_whole(str(path)) from None


def _compiled(path: Path, options: Options) -> Compiled:
    model, source_sha256 = read_model(path)
    where = str(path)
    network = network_of(
        model,
        where,
        sizes=options.sizes,
        frozen=options.frozen,
        output=options.output,
        frozen_statistics=options.batch_norm == "frozen",
    )
    known = trace(network)
    _take_off_end(network, options.loss)
    personal = _matching("--personal", options.personal, list(network.parameters), where)
    if len(personal) == len(network.parameters):
        raise ModelError(
            "would be personal as a whole: nothing is left to share",
            where=where,
            hint='Match fewer with --personal; with mode = "local" machines share nothing anyhow',
        )
    source = Array(name=network.input, dtype=_dtype(network), shape=network.input_shape)
    target = _target(options.loss, network, known[network.output], source)
    plan = steps.Plan(network, known, options.loss, target, personal, options.momentum)
    built = _graphs(plan)
    statistics = _matching(
        "--share-statistics", options.shared_statistics, list(network.statistics), where
    )
    return _assembled(plan, built, source, statistics, source_sha256)


def _dtype(network: Network) -> Literal["float32", "int64"]:
    return "int64" if network.input_dtype == "int64" else "float32"


def _matching(
    option: str, patterns: Sequence[str], names: Sequence[str], where: str
) -> frozenset[str]:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            there = ", ".join(names) or "none"
            raise ModelError(
                f"has nothing that {option} {pattern!r} matches; there are: {there}", where=where
            )
    return frozenset(n for n in names if any(fnmatchcase(n, p) for p in patterns))


def _take_off_end(network: Network, loss: LossOfModel) -> None:
    """The loss takes logits: what makes probabilities of them is left out."""
    producers = {o: node for node in network.nodes for o in node.output if o}
    last = producers.get(network.output)
    if last is not None and last.op_type in ENDS.get(loss.kind, set()):
        network.nodes.remove(last)
        network.output = last.input[0]
        network.notes.append(
            f"{last.op_type} at the end is left out: the loss has it; outputs are logits"
        )


def _target(loss: LossOfModel, network: Network, outputs: Known, source: Array) -> Array | None:
    try:
        return target_of(loss, outputs, source, step_names.TARGET)
    except ModelError as error:
        raise ModelError(error.what, where=network.where, hint=error.hint) from None


Graphs = dict[GraphName, tuple[ModelProto, Graph]]


def _graphs(plan: steps.Plan) -> Graphs:
    names = list(plan.network.parameters)
    built: Graphs = {}
    built["whole_step"] = steps.step(plan, names)
    built["body_step"] = steps.step(plan, [n for n in names if n not in plan.personal])
    if plan.personal:
        built["head_step"] = steps.step(plan, [n for n in names if n in plan.personal])
    built["evaluate"] = steps.evaluate(plan)
    built["predict"] = steps.predict(plan)
    return built


def _assembled(
    plan: steps.Plan,
    built: Graphs,
    source: Array,
    shared_statistics: frozenset[str],
    source_sha256: str,
) -> Compiled:
    network = plan.network
    encoded = {
        name: model.SerializeToString(deterministic=True) for name, (model, _) in built.items()
    }
    sessions = {name: OnnxSession(graph, extra="compiler") for name, graph in encoded.items()}
    outputs = plan.known[network.output]
    classes = int((outputs.shape or (0, 2))[1])
    at = probe(sessions["whole_step"], network, plan.loss, plan.target, classes)
    gradients = at.gradients()
    difference = refuse_wrong_gradients(at, gradients, network.where)
    batch = {network.input: at.feeds[network.input]}
    if plan.target is not None:
        batch[plan.target.name] = at.feeds[plan.target.name]
    kept = {f"gradient.{name}": sampled(gradient) for name, gradient in gradients.items()}
    tests = {**batch, **kept}
    initial = [*network.parameters.values(), *network.statistics.values()]
    members = {f"{name}.onnx": graph for name, graph in encoded.items()}
    members |= {INITIAL: packed(initial), SELF_TEST: packed(list(tests.values()))}
    manifest = Manifest(
        opset=network.opset,
        loss=plan.loss,
        momentum=plan.momentum,
        input=source,
        target=plan.target,
        output=Array(
            name=step_names.OUTPUT, shape=tuple(int(d) for d in (outputs.shape or ())[1:])
        ),
        parameters=tuple(
            Trained(name=n, shape=p.shape, personal=n in plan.personal)
            for n, p in network.parameters.items()
        ),
        statistics=tuple(
            Trained(name=n, shape=s.shape, personal=n not in shared_statistics)
            for n, s in network.statistics.items()
        ),
        graphs={name: graph for name, (_, graph) in built.items()},
        members={name: member_of(content) for name, content in members.items()},
        self_test=SelfTest(
            loss=at.loss(at.parameters),
            tolerance=SELF_TEST_TOLERANCE,
            arrays=tuple(
                Array(name=n, dtype=a.dtype.name, shape=a.shape) for n, a in tests.items()
            ),
        ),
        made_with=_versions(source_sha256),
    )
    return Compiled(Artefact(manifest, members), tuple(network.notes), difference)


def _versions(source_sha256: str) -> MadeWith:
    return MadeWith(
        plantfed=software_version(),
        onnx=onnx.__version__,
        onnxruntime=version("onnxruntime"),
        source_sha256=source_sha256,
    )
