"""The graphs of an artefact: a forward pass, a loss, a backward pass, and the step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onnx import ModelProto, NodeProto, ValueInfoProto, checker, helper, numpy_helper

from plantfed_compiler.backpropagation import backpropagate
from plantfed_compiler.batch_norm import in_training, running_statistics, written_out
from plantfed_compiler.emitting import BATCH, FLOAT, INT64, Emitter, Known
from plantfed_compiler.losses import Place, mean_and_gradient, rows_and_mean
from plantfed_compiler.network import Network, training_batch_norms
from plantfed_compiler.tracing import model_of
from plantfed_shared import step_names
from plantfed_shared.errors import ModelError
from plantfed_shared.model_manifest import (
    Array,
    Graph,
    LossOfModel,
)

DTYPES = {"float32": FLOAT, "int64": INT64}


@dataclass(frozen=True)
class Plan:
    """What all graphs of an artefact have in common.

    Attributes:
        network: the forward graph.
        known: its values.
        loss: what is minimised.
        target: the right answers; None where the input is the answer.
        personal: names of the parameters of the head.
        momentum: whether steps have velocities.
    """

    network: Network
    known: Mapping[str, Known]
    loss: LossOfModel
    target: Array | None
    personal: frozenset[str]
    momentum: bool


Built = tuple[ModelProto, Graph]


def step(plan: Plan, trains: Sequence[str]) -> Built:
    """One SGD step of some parameters: see :mod:`plantfed_shared.step_names`.

    Args:
        plan: what to train.
        trains: names of the parameters, in order.

    Raises:
        ModelError: nodes without a gradient are between them and the loss, or the loss does not
            depend on one of them.
    """
    draft = _Draft(plan, training=True)
    draft.scalar(step_names.LEARNING_RATE)
    # scaled where it begins, on the few outputs, the gradient needs no scaling where it ends;
    # a velocity takes it as it is
    down = draft.graph.op("Neg", step_names.LEARNING_RATE)
    factor = draft.graph.number(1) if plan.momentum else down
    loss, seed = mean_and_gradient(draft.place(), factor)
    draft.graph.op("Identity", loss, into=step_names.LOSS)
    draft.output(step_names.LOSS, ())
    network = plan.network
    gradients = backpropagate(
        draft.graph, draft.nodes, {network.output: seed}, trains, network.where
    )
    _refuse_without_gradient(trains, gradients, network.where)
    for personal in (True, False):
        if any((name in plan.personal) == personal for name in trains):
            draft.scalar(step_names.pull(personal=personal))
    if plan.momentum:
        draft.scalar(step_names.MOMENTUM)
    for name in trains:
        _descend(draft, name, gradients[name], down)
    _follow_statistics(draft)
    return draft.finished("step", trains)


def evaluate(plan: Plan) -> Built:
    """Outputs, the loss of each row and their mean, as the network is used: nothing changes."""
    draft = _Draft(plan, training=False)
    rows_and_mean(draft.place(), step_names.ROW_LOSS, step_names.LOSS)
    draft.give_outputs()
    draft.output(step_names.ROW_LOSS, (BATCH,))
    draft.output(step_names.LOSS, ())
    return draft.finished("evaluate", ())


def predict(plan: Plan) -> Built:
    """Outputs, as the network is used."""
    draft = _Draft(plan, training=False, with_target=False)
    draft.give_outputs()
    return draft.finished("predict", ())


class _Draft:
    """A graph in the making: the forward pass and what is added to it."""

    def __init__(self, plan: Plan, *, training: bool, with_target: bool = True) -> None:
        network = plan.network
        self.plan = plan
        self.graph = Emitter(plan.known)
        self.nodes = [NodeProto.FromString(n.SerializeToString()) for n in network.nodes]
        self.inputs: list[ValueInfoProto] = []
        self.outputs: list[ValueInfoProto] = []
        self._take(network.input, network.input_dtype, (BATCH, *network.input_shape))
        if plan.target is not None and with_target:
            self._take(plan.target.name, plan.target.dtype, (BATCH, *plan.target.shape))
        for name, tensor in (*network.parameters.items(), *network.statistics.items()):
            self._take(name, "float32", tensor.shape)
        self._norms = self._batch_norms(training=training)

    def _batch_norms(self, *, training: bool) -> list[NodeProto]:
        """Those that follow their own batch, in the form a graph needs."""
        own = {n.name for n in training_batch_norms(self.plan.network)}
        found = []
        for node in self.nodes:
            if node.op_type != "BatchNormalization":
                continue
            kept = [a for a in node.attribute if a.name != "training_mode"]
            del node.attribute[:], node.output[1:]
            node.attribute.extend(kept)
            if training and node.name in own:
                in_training(self.graph, node)
                found.append(node)
        return found

    @property
    def norms(self) -> list[NodeProto]:
        """Batch norms with the statistics of their batch."""
        return self._norms

    def place(self) -> Place:
        """Where the loss is taken."""
        network, target = self.plan.network, self.plan.target
        return Place(
            self.graph,
            network.output,
            network.input if target is None else target.name,
            len(self.plan.known[network.output].shape or ()),
            self.plan.loss,
        )

    def _take(self, name: str, dtype: str, shape: Sequence[Any]) -> None:
        self.inputs.append(helper.make_tensor_value_info(name, DTYPES[dtype], list(shape)))

    def scalar(self, name: str) -> None:
        """Take a number."""
        self._take(name, "float32", ())

    def take_like(self, name: str, parameter: str) -> None:
        """Take an array of a parameter's shape."""
        self._take(name, "float32", self.plan.network.parameters[parameter].shape)

    def output(self, name: str, shape: Sequence[Any]) -> None:
        """Give a float32 value."""
        self.outputs.append(helper.make_tensor_value_info(name, FLOAT, list(shape)))

    def give_outputs(self) -> None:
        """Give those of the network."""
        name = self.plan.network.output
        self.graph.op("Identity", name, into=step_names.OUTPUT)
        self.output(step_names.OUTPUT, self.plan.known[name].shape or ())

    def finished(self, name: str, trains: Sequence[str]) -> Built:
        """The checked graph."""
        nodes = [part for node in self.nodes for part in self._written_out(node)]
        nodes += self.graph.nodes
        used = _used(nodes)
        tensors = [
            numpy_helper.from_array(array, tensor)
            for tensor, array in self.plan.network.constants.items()
            if tensor in used
        ]
        tensors += [t for tensor, t in self.graph.constants.items() if tensor in used]
        made = helper.make_graph(nodes, name, self.inputs, self.outputs, tensors)
        model = model_of(made, self.plan.network.opset)
        checker.check_model(model)
        inputs = tuple(i.name for i in self.inputs)
        outputs = tuple(o.name for o in self.outputs)
        return model, Graph(inputs=inputs, outputs=outputs, trains=tuple(trains))

    def _written_out(self, node: NodeProto) -> list[NodeProto]:
        marked = any(node is norm for norm in self._norms)
        return written_out(self.graph, node) if marked else [node]


def _used(nodes: Sequence[NodeProto]) -> set[str]:
    """Names of values that nodes take, those in graphs within them too."""
    used: set[str] = set()
    for node in nodes:
        used.update(node.input)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                used |= _used(attribute.g.node)
    return used


def _descend(draft: _Draft, name: str, gradient: str, down: str) -> None:
    """To p - lr (g + dual + k (p - anchor)), and with momentum by a velocity.

    Args:
        draft: of the step.
        name: of the parameter p.
        gradient: g, or without momentum -lr g.
        down: -lr.
    """
    op, plan = draft.graph.op, draft.plan
    anchor, dual = step_names.anchor(name), step_names.dual(name)
    draft.take_like(anchor, name)
    draft.take_like(dual, name)
    after, shape = step_names.after(name), plan.network.parameters[name].shape
    pulled = op("Mul", step_names.pull(personal=name in plan.personal), op("Sub", name, anchor))
    drift = op("Add", pulled, dual)
    if plan.momentum:
        velocity = step_names.velocity(name)
        draft.take_like(velocity, name)
        kept = op("Mul", step_names.MOMENTUM, velocity)
        velocity_after = op("Sum", gradient, drift, kept, into=step_names.after(velocity))
        draft.output(velocity_after, shape)
        op("Add", name, op("Mul", velocity_after, down), into=after)
    elif product := draft.graph.taken_back_product(gradient):
        base = op("Add", name, op("Mul", drift, down))
        draft.graph.added_to(product, base, into=after)
    else:
        op("Sum", gradient, op("Mul", drift, down), name, into=after)
    draft.output(after, shape)


def _follow_statistics(draft: _Draft) -> None:
    """Running mean and variance of every batch norm that follows its batch."""
    for node in draft.norms:
        found = running_statistics(draft.graph, node)
        for name, value in zip(node.input[3:5], found, strict=True):
            draft.graph.op("Identity", value, into=step_names.after(name))
            draft.output(step_names.after(name), draft.plan.network.statistics[name].shape)


def _refuse_without_gradient(
    trains: Sequence[str], gradients: Mapping[str, str], where: str
) -> None:
    missing = [name for name in trains if name not in gradients]
    if missing:
        raise ModelError(
            f"has parameters the loss does not depend on: {', '.join(missing)}",
            where=where,
            hint=f"Freeze them: --frozen {missing[0]!r}",
        )
