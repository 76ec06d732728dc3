"""Changed scenarios, with training switched off: how traffic and timing would change.

Every machine has the computer and the link that were drawn for it in the run with training, and so
have its copies: what differs between two runs comes from the change, not from other luck.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from plantfed_lab.simulation.agent_host import NO_LIMIT
from plantfed_lab.simulation.build import build
from plantfed_lab.simulation.draws import Law, constant
from plantfed_lab.simulation.federation import federation_of, kernels_of
from plantfed_lab.simulation.result import MachineConditions, MachineResult, SimulationResult
from plantfed_lab.simulation.run import run
from plantfed_lab.simulation.scenario import LoadedScenario, MachineOverride
from plantfed_lab.simulation.sites import PseudoRounds, Site


@dataclass(frozen=True, slots=True)
class Change:
    """What is different.

    Attributes:
        name: for the reader.
        rate: of every machine's link, both directions, times this.
        compute: time of every round, times this.
        copies: of every machine; each has its own slow rounds, losses and absences.
    """

    name: str
    rate: float = 1.0
    compute: float = 1.0
    copies: int = 1


UNCHANGED = Change("as it is")
CHANGES = (
    Change("links with a quarter of the rate", rate=0.25),
    Change("computers half as fast", compute=2.0),
    Change("twice as many machines", copies=2),
    Change("four times as many machines", copies=4),
)


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine of the run with training.

    Attributes:
        site: its rows, which are not used, and its habits.
        conditions: that were drawn for it.
    """

    site: Site
    conditions: MachineConditions


def machines_of(sites: Sequence[Site], results: Sequence[MachineResult]) -> list[Machine]:
    """Sites with what was drawn for them; both are sorted by id."""
    return [Machine(s, r.conditions) for s, r in zip(sites, results, strict=True)]


def run_without_training(
    loaded: LoadedScenario,
    machines: Sequence[Machine],
    seed: int,
    change: Change,
    seconds: float,
    watch: Callable[[float], None] = lambda _: None,
) -> SimulationResult:
    """Run a scenario with a change, without training and without rest, from its start.

    Args:
        loaded: the scenario as it is.
        machines: of it.
        seed: of everything that is drawn.
        change: made to it.
        seconds: virtual.
        watch: told now and then which part is done, 0 to 1.
    """
    federation = federation_of(loaded, seed)
    kernels = kernels_of(federation)
    pseudo_round = PseudoRounds(federation.definition, kernels, seed, steady=True)
    sites, overrides = [], []
    taken = {machine.site.id for machine in machines}
    for number, machine in enumerate(machines):
        for name in (machine.site.id, *_copies(number, change, taken)):
            sites.append(Site(name, pseudo_round, kernels, training=machine.site.training))
            overrides.append(_override(loaded, machine, name, change))
    sites.sort(key=lambda site: site.id)
    varied = _varied(loaded, overrides, seconds)
    return run(build(varied, seed, sites), varied, seed, lambda moment: watch(moment.part))


def _copies(number: int, change: Change, taken: Collection[str]) -> list[str]:
    # a machine's id may be as long as ids can be, so that a copy's cannot contain it
    names = [f"copy-{n}-of-{number}" for n in range(1, change.copies)]
    return [next(x for x in _lengthened(name) if x not in taken) for name in names]


def _lengthened(name: str) -> Iterator[str]:
    # a copy's own name ends with a digit: no two copies can become the same
    return (name + "-" * n for n in count())


def _override(
    loaded: LoadedScenario, machine: Machine, name: str, change: Change
) -> MachineOverride:
    section, drawn = loaded.machine(machine.site.id), machine.conditions
    common = {key: getattr(section, key) for key in MachineOverride.model_fields if key != "id"}
    own = {
        "compute_s": constant(change.compute * drawn.compute_s),
        "uplink_bits_per_s": _rate(drawn.uplink_bits_per_s, change),
        "downlink_bits_per_s": _rate(drawn.downlink_bits_per_s, change),
        "latency_s": constant(drawn.latency_s),
        # what happens in a day is compared, not how long the rows last
        "max_rounds_without_new_rows": NO_LIMIT,
    }
    return MachineOverride(**(common | own | {"id": name}))


def _rate(bits_per_s: float | None, change: Change) -> Law | None:
    return None if bits_per_s is None else constant(change.rate * bits_per_s)


def _varied(
    loaded: LoadedScenario, overrides: Sequence[MachineOverride], seconds: float
) -> LoadedScenario:
    scenario = loaded.scenario
    timing = {
        "duration_s": seconds,
        "releases": None,
        "updates": None,
        "evaluate_every_s": seconds,
        "target_score": None,
    }
    section = scenario.scenario.model_copy(update=timing)
    endless = {**scenario.federation.schedule, "max_releases": None}
    changed = scenario.model_copy(
        update={
            "scenario": section,
            "federation": scenario.federation.model_copy(update={"schedule": endless}),
            "machine": tuple(overrides),
        }
    )
    return LoadedScenario(changed, loaded.path)
