"""From a scenario and a seed to a simulation that is ready to run."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

from plantfed_coordinator import federation_file
from plantfed_coordinator.records import EpochStarted
from plantfed_lab.simulation.absences import Absences
from plantfed_lab.simulation.agent_host import NO_LIMIT, AgentHost
from plantfed_lab.simulation.coordinator_host import CoordinatorHost
from plantfed_lab.simulation.draws import Law, stream
from plantfed_lab.simulation.engine import Simulation
from plantfed_lab.simulation.federation import federation_of, kernels_of
from plantfed_lab.simulation.links import Link, LinkQuality, Links
from plantfed_lab.simulation.recording import Recorder, SimulatedMachine
from plantfed_lab.simulation.result import MachineConditions
from plantfed_lab.simulation.scenario import HostSection, LoadedScenario, MachineSection
from plantfed_lab.simulation.sites import Site, sites_of
from plantfed_shared.bus.memory import MemoryBroker
from plantfed_shared.definition import FederationDefinition
from plantfed_shared.errors import ConfigError, PlantfedError
from plantfed_shared.messages import Epoch
from plantfed_shared.topics import COORDINATOR, Topics

SHORTEST_ROUND_S = 0.001
"""Shorter ones would take a processor hour for some seconds of virtual time."""


@dataclass(frozen=True, slots=True)
class Federation:
    """A federation that is ready to be simulated.

    Attributes:
        simulation: its clock, broker and hosts.
        definition: of it.
        coordinator: its host.
        machines: sorted by id.
        recorder: takes down what happens.
    """

    simulation: Simulation
    definition: FederationDefinition
    coordinator: CoordinatorHost
    machines: tuple[SimulatedMachine, ...]
    recorder: Recorder


def build(
    loaded: LoadedScenario,
    seed: int,
    sites: Sequence[Site] | None = None,
    watch: Callable[[int, int], None] = lambda _done, _of: None,
) -> Federation:
    """Read the rows, draw what is drawn, and enter the first events.

    Args:
        loaded: the scenario.
        seed: of everything that is drawn.
        sites: sorted by id; None for those that the scenario names.
        watch: told after every machine how many of how many there are.

    Raises:
        ConfigError: the scenario, or a file that it names, is wrong.
        DataError: a machine has no rows, or they cannot be used.
    """
    settings = federation_of(loaded, seed)
    definition = settings.definition
    _refuse_pointless_target(loaded, definition)
    if sites is None:
        sites = sites_of(loaded, definition, kernels_of(settings), seed)
    topics = Topics(definition.federation)
    links: dict[str, Link] = {}
    broker = MemoryBroker(stream(seed, "", "broker"), transit=Links(links))
    simulation = Simulation(broker)
    coordinator = _coordinator(simulation, topics, settings, seed)
    links[coordinator.client_id] = _link(loaded.scenario.coordinator, seed, COORDINATOR)
    simulation.at(0.0, coordinator.start)
    _plan(simulation, coordinator, loaded.scenario.coordinator, seed, COORDINATOR)
    built: list[SimulatedMachine] = []
    copies: dict[bytes, bytes] = {}
    for site in sites:
        built.append(_machine(simulation, topics, site, loaded, seed, links))
        built[-1].host.copies = copies
        _refuse_no_time(built[-1], loaded, definition, links[coordinator.client_id])
        watch(len(built), len(sites))
    machines = tuple(built)
    recorder = Recorder(simulation, machines)
    coordinator.observe = recorder.take
    coordinator.keeps_journal = loaded.scenario.coordinator.restarts is not None
    return Federation(simulation, definition, coordinator, machines, recorder)


def _refuse_pointless_target(loaded: LoadedScenario, definition: FederationDefinition) -> None:
    is_accuracy = definition.metric == "accuracy"
    wanted, highest = loaded.scenario.scenario.target_score, 1 if is_accuracy else 0
    if wanted is None:
        return
    if wanted > highest:
        trouble = f"is above {highest}, so that it can never be reached"
    elif is_accuracy and wanted < 0:
        trouble = "is below 0, so that it is reached before anything is learnt"
    else:
        return
    what = "an accuracy, 0.75 for 75 %" if is_accuracy else "minus an RMSE, -2.5 for 2.5"
    raise ConfigError(
        f"scenario.target_score = {wanted:g}: {trouble}",
        where=str(loaded.path),
        hint=f"Here a score is {what}",
    )


def _refuse_no_time(
    machine: SimulatedMachine,
    loaded: LoadedScenario,
    definition: FederationDefinition,
    coordinators: Link,
) -> None:
    section, link = loaded.machine(machine.site.id), machine.link.quality
    computing_s = machine.conditions.compute_s * section.slowdown.quantile(0.5)
    latency_s = link.latency_s + coordinators.quality.latency_s
    # a byte a number, as after many rounds, there and back
    bits = 8 * definition.lattice().size
    crossing_s = bits / link.uplink_bits_per_s + bits / link.downlink_bits_per_s
    seconds = max(machine.host.pace().min_interval_s, computing_s + 2 * latency_s + crossing_s)
    if seconds < SHORTEST_ROUND_S:
        raise ConfigError(
            f"machine {machine.site.id}: a round takes {seconds:.1g} s with its links, so that "
            f"virtual time all but stands still; at least {SHORTEST_ROUND_S:g} are simulated",
            where=str(loaded.path),
            hint="Give machines.compute_s, or the links a latency_s",
        )


def _coordinator(
    simulation: Simulation, topics: Topics, settings: federation_file.Federation, seed: int
) -> CoordinatorHost:
    bits = stream(seed, COORDINATOR, "epochs")
    epoch, encoded = Epoch(1, bits.getrandbits(64)), settings.definition.to_bytes()
    founding = EpochStarted(epoch, 0, encoded, "created", settings.initial)
    host = CoordinatorHost(simulation, topics, founding, lambda: bits.getrandbits(64))
    host.artefact = settings.artefact
    return host


def _machine(
    simulation: Simulation,
    topics: Topics,
    site: Site,
    loaded: LoadedScenario,
    seed: int,
    links: dict[str, Link],
) -> SimulatedMachine:
    section = loaded.machine(site.id)
    compute_s = section.compute_s.draw(stream(seed, site.id, "compute"))
    host = AgentHost(
        simulation,
        topics,
        site.id,
        site.train,
        _round_lengths(compute_s, section.slowdown, stream(seed, site.id, "slowdown")),
    )
    host.pace = site.pace(section)
    host.on_stop = lambda error: _fail(site.id, error)
    link = links[site.id] = _link(section, seed, site.id)
    simulation.at(section.start_s.draw(stream(seed, site.id, "start")), host.start)
    absences = _plan(simulation, host, section, seed, site.id)
    conditions = _conditions(compute_s, site.rounds_until_rest(section), section, link)
    return SimulatedMachine(site, host, link, absences, conditions)


def _round_lengths(compute_s: float, slowdown: Law, draws: random.Random) -> Callable[[], float]:
    return lambda: compute_s * slowdown.draw(draws)


def _link(section: HostSection, seed: int, host: str) -> Link:
    def rate(law: Law | None, purpose: str) -> float:
        return inf if law is None else law.draw(stream(seed, host, purpose))

    quality = LinkQuality(
        uplink_bits_per_s=rate(section.uplink_bits_per_s, "uplink"),
        downlink_bits_per_s=rate(section.downlink_bits_per_s, "downlink"),
        latency_s=section.latency_s.draw(stream(seed, host, "latency")),
        loss=section.loss,
    )
    return Link(quality, stream(seed, host, "losses"))


def _plan(
    simulation: Simulation,
    host: AgentHost | CoordinatorHost,
    section: HostSection,
    seed: int,
    name: str,
) -> Absences:
    absences = Absences(simulation, host)
    absences.plan(section, stream(seed, name, "outages"), stream(seed, name, "failures"))
    return absences


def _conditions(
    compute_s: float, rounds: int, section: MachineSection, link: Link
) -> MachineConditions:
    quality = link.quality
    return MachineConditions(
        compute_s=compute_s,
        uplink_bits_per_s=quality.uplink_bits_per_s if section.uplink_bits_per_s else None,
        downlink_bits_per_s=quality.downlink_bits_per_s if section.downlink_bits_per_s else None,
        latency_s=quality.latency_s,
        loss=quality.loss,
        max_rounds_without_new_rows=None if rounds == NO_LIMIT else rounds,
    )


def _fail(machine: str, error: PlantfedError) -> None:
    where = f"machine {machine}, {error.where}" if error.where else f"machine {machine}"
    raise type(error)(error.what, where=where, hint=error.hint)
