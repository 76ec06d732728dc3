"""The product's own machines reproduce the reference, number by number, on Tennessee Eastman.

``tests/golden/tep_seed0.npz`` holds accuracies and parameters of the first three synchronous rounds
(see ``tests/golden/README.md``).  Rounds, draws and settings are the reference's; the lattice is
fine, nothing is compressed.  Tolerances are those of a CPU that rounds differently.
"""

import asyncio
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tests.federation_world import Agent, World
from tests.free_ports import free_port

from benchmarks.learning.reference_draws import batches, select
from plantfed_agent.agent_store import AgentStore
from plantfed_agent.budget import LinkLimits
from plantfed_agent.compiled_kernel import CompiledKernel
from plantfed_agent.inprocess import InProcessTrainer, carry_out, initial_head
from plantfed_agent.kernel_source import Kernels
from plantfed_agent.kernels import kernel_for
from plantfed_agent.link_meter import LinkMeter
from plantfed_agent.machine import AgentMachine
from plantfed_agent.pace import Pace
from plantfed_agent.samples import Samples, SampleSets
from plantfed_agent.service import AgentService
from plantfed_agent.training import TrainingOutcome, TrainingTask
from plantfed_agent.whole_model import whole_model
from plantfed_broker.embedded import EmbeddedBroker
from plantfed_broker.folder import add_agent, render_federation
from plantfed_compiler.compiling import Options, compile_model
from plantfed_coordinator.events import Action, Event
from plantfed_coordinator.founding import found_or_continue
from plantfed_coordinator.journal import Journal
from plantfed_coordinator.machine import FederationMachine
from plantfed_coordinator.service import CoordinatorService
from plantfed_coordinator.state import FederationState
from plantfed_lab.tennessee_eastman import Plant, federation_definition, plants
from plantfed_shared.bus.mqtt import MqttBus
from plantfed_shared.bus.port import BrokerAddress, SessionSettings
from plantfed_shared.day_ledger import DayLedger
from plantfed_shared.definition import FederationDefinition, Schedule
from plantfed_shared.initial import initial_parameters
from plantfed_shared.model_manifest import LossOfModel
from plantfed_shared.parameters import Floats
from plantfed_shared.topics import COORDINATOR, Topics

SEED = 0
ROUNDS = 3
GOLDEN = Path(__file__).parents[1] / "golden" / "tep_seed0.npz"
ACCURACY_TOLERANCE = 1e-3
SHARED_TOLERANCE = 1e-4


PERSONAL = {"fedavg": (), "fedprox": (), "local": ("*",)}
"""Where it isn't the last layer."""
ALL_MODES = [
    ("fedapm", "FedAPM"),
    ("fedalt", "FedAlt"),
    ("fedsim", "FedSim"),
    ("fedavg", "FedAvg"),
    ("fedprox", "FedProx"),
    ("local", "local"),
]
RUNTIMES = ["numpy", "onnxruntime"]


def definition(mode: str) -> FederationDefinition:
    schedule = Schedule(kind="sync", participation=0.3, min_members=20, max_releases=ROUNDS)
    base = federation_definition(SEED, schedule).model_dump()
    base["algorithm"]["mode"] = mode
    base["personal"] = PERSONAL.get(mode, base["personal"])
    return FederationDefinition.model_validate({**base, "lattice_bits": 24, "federation": "tep"})


class Recorder:
    """Collects what the golden file holds of each round: shared vector and mean accuracy."""

    def __init__(self, everyone: list[Plant], mode: str) -> None:
        self.everyone = everyone
        self.definition = definition(mode)
        self.shared: list[NDArray[np.float32]] = []
        self.accuracy: list[float] = []

    def record(self, state: FederationState, heads: dict[str, NDArray[np.float32] | None]) -> None:
        shared = state.terms.lattice.to_floats(state.model)
        kernel, specification = (
            kernel_for(self.definition),
            self.definition.parameter_specification(),
        )
        right = []
        for plant in self.everyone:
            head = heads[plant.id]
            head = initial_head(self.definition) if head is None else head
            outputs = kernel.outputs(whole_model(specification, shared, head), plant.x_test)
            right.append(float((outputs.argmax(1) == plant.y_test).mean()))
        self.shared.append(shared)
        self.accuracy.append(float(np.mean(right)))

    def check(self, name: str) -> None:
        assert len(self.shared) == ROUNDS
        with np.load(GOLDEN) as golden:
            wanted_accuracy = golden[f"{name}_pers"]
            if f"{name}_u" in golden:
                difference = np.stack(self.shared) - golden[f"{name}_u"]
                assert np.abs(difference).max() < SHARED_TOLERANCE
            else:
                assert name not in ("FedAPM", "FedAlt")
        assert np.abs(np.array(self.accuracy) - wanted_accuracy).max() < ACCURACY_TOLERANCE


def reference_order(
    client: int, round_: Callable[[], int]
) -> Callable[..., Iterable[NDArray[np.int64]]]:
    def order(
        seed: int, agent: str, seq: int, phase: int, n_rows: int, epochs: int, batch: int
    ) -> Iterable[NDArray[np.int64]]:
        return batches(n_rows, SEED, client, round_(), phase, epochs, batch)

    return order


def samples(plant: Plant) -> SampleSets:
    return SampleSets(Samples(plant.x_train, plant.y_train), None, "rows")


def compiled_kernel(made: FederationDefinition, folder: Path) -> CompiledKernel:
    """The same network in onnxruntime: its graphs, by the compiler, with the same names."""
    values = initial_parameters(made)
    parameters = made.parameter_specification().parameters
    names = [p.name for p in parameters]
    nodes, value = [], "x"
    for layer in range(0, len(names), 2):
        last = layer == len(names) - 2
        nodes.append(helper.make_node("Gemm", [value, *names[layer : layer + 2]], [f"g{layer}"]))
        value = f"g{layer}"
        if not last:
            nodes.append(helper.make_node("Relu", [value], [f"h{layer}"]))
            value = f"h{layer}"
    floats = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "dense",
        [helper.make_tensor_value_info("x", floats, ["batch", made.n_inputs])],
        [helper.make_tensor_value_info(value, floats, ["batch", made.n_outputs])],
        [numpy_helper.from_array(v, n) for n, v in zip(names, values, strict=True)],
    )
    path = folder / "dense.onnx"
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString()
    )
    head = ("layer3.*",)
    options = Options(loss=LossOfModel(kind="cross-entropy"), personal=head)
    artefact = compile_model(path, options).artefact
    return CompiledKernel(artefact, made.n_inputs, columns_first=False)


class Same(Kernels):
    """One kernel, whatever the definition."""

    def __init__(self, kernel: CompiledKernel) -> None:
        super().__init__()
        self._kernel = kernel

    def of(self, definition: FederationDefinition, prior: Floats | None = None) -> CompiledKernel:
        assert prior is None
        return self._kernel


def kernels_of(runtime: str, made: FederationDefinition, folder: Path) -> Kernels:
    return Kernels() if runtime == "numpy" else Same(compiled_kernel(made, folder))


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(("mode", "name"), ALL_MODES)
def test_machines_reproduce_the_reference(
    mode: str, name: str, runtime: str, tmp_path: Path
) -> None:
    everyone = plants(SEED)
    recorder = Recorder(everyone, mode)
    by_id = {plant.id: (number, plant) for number, plant in enumerate(everyone)}
    kernels = kernels_of(runtime, recorder.definition, tmp_path)
    world = World(recorder.definition, agents=0, seed=1)
    world.coordinator.crash()
    world.coordinator.select = select

    def trainer(agent: str) -> Callable[[TrainingTask], TrainingOutcome]:
        number, plant = by_id[agent]
        order = reference_order(number, lambda: world.state().k)
        return lambda task: carry_out(
            task, lambda _: samples(plant), report_score=False, row_order=order, kernels=kernels
        )

    world.agents = {plant.id: Agent(world, plant.id, trainer(plant.id)) for plant in everyone}
    world.coordinator.start()
    for agent in world.agents.values():
        agent.start()
    for k in range(1, ROUNDS + 1):
        assert world.run(600, until=lambda k=k: world.state().k == k)
        heads = {a.name: a.disk.head for a in world.agents.values()}
        recorder.record(world.state(), heads)
    recorder.check(name)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(("mode", "name"), [("fedapm", "FedAPM"), ("fedalt", "FedAlt")])
def test_real_broker_reproduces_the_reference(
    mode: str, name: str, runtime: str, tmp_path: Path
) -> None:
    everyone = plants(SEED)
    recorder = Recorder(everyone, mode)
    kernels = kernels_of(runtime, recorder.definition, tmp_path)
    folder = tmp_path / "broker"
    render_federation(folder, "tep", port=free_port(), host="localhost")
    settings = {p.id: add_agent(folder, p.id, tmp_path / p.id) for p in everyone}
    secret = (folder / "coordinator.password").read_text().strip()
    with EmbeddedBroker(folder) as broker:
        url = urlsplit(broker.address)
        asyncio.run(
            asyncio.wait_for(
                over_broker(
                    recorder,
                    kernels,
                    settings,
                    (url.hostname or "", url.port or 0),
                    secret,
                    tmp_path,
                ),
                60,
            )
        )
    recorder.check(name)


async def over_broker(
    recorder: Recorder,
    kernels: Kernels,
    settings: dict[str, Path],
    where: tuple[str, int],
    secret: str,
    tmp_path: Path,
) -> None:
    """The shells of 20 agents and of the coordinator in one loop, each with its own connection."""
    topics = Topics("tep")

    def bus(user: str, password: str, subscriptions: tuple[str, ...]) -> MqttBus:
        address = BrokerAddress(*where, username=user, password=password)
        session = SessionSettings(f"tep-{user}", subscriptions)
        return MqttBus(address, session, rng=random.Random(user))

    journal = Journal(tmp_path / "coordinator", lambda: 0.0)
    machine = found_or_continue(journal, recorder.definition, topics, lambda: 7, monotonic(), "")
    machine = FederationMachine(machine.state, topics, lambda: 7, monotonic(), select)
    coordinator = bus(COORDINATOR, secret, topics.coordinator_subscriptions())
    stopped = asyncio.Event()
    services = [CoordinatorService(machine, coordinator, journal, topics).run(stopped)]
    stores: dict[str, AgentStore] = {}
    agents: dict[str, AgentMachine] = {}
    for number, plant in enumerate(recorder.everyone):
        store = stores[plant.id] = AgentStore(tmp_path / plant.id / "state")
        agent = AgentMachine(plant.id, topics, store.load(), Pace(), "test")
        agents[plant.id] = agent
        order = reference_order(number, lambda: machine.state.k)
        trainer = InProcessTrainer(samples(plant), order, kernels)
        password = (settings[plant.id].parent / "password").read_text().strip()
        link = bus(plant.id, password, topics.agent_subscriptions(plant.id))
        meter = LinkMeter(LinkLimits(), topics, DayLedger({}))
        service = AgentService(agent, link, trainer, store, lambda: "rows", meter)
        services.append(service.run(stopped))
    running = [asyncio.create_task(service) for service in services]
    watching = asyncio.create_task(watch(recorder, machine, agents, stopped))
    await asyncio.gather(watching, *running)
    for store in (journal, *stores.values()):
        store.close()


async def watch(
    recorder: Recorder,
    machine: FederationMachine,
    agents: dict[str, AgentMachine],
    stopped: asyncio.Event,
) -> None:
    """Record each release before any agent can have answered it."""
    original, before = machine.handle, machine.state.k

    def handle(event: Event, now: float) -> list[Action]:
        nonlocal before
        actions = original(event, now)
        if machine.state.k != before:
            before = machine.state.k
            recorder.record(machine.state, {a: m.state.head for a, m in agents.items()})
            if before == ROUNDS:
                stopped.set()
        return actions

    machine.handle = handle  # type: ignore[method-assign]
    await stopped.wait()
