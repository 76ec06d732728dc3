"""Runs a simulation from its scenario to its result."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

from plantfed_coordinator.state import FederationState
from plantfed_lab.results import ModelResult, Traffic
from plantfed_lab.simulation.build import Federation, build
from plantfed_lab.simulation.coordinator_host import replay
from plantfed_lab.simulation.engine import SpinningError
from plantfed_lab.simulation.recording import Recorder, counts
from plantfed_lab.simulation.result import (
    CurvePoint,
    End,
    MachineResult,
    SimulationResult,
    TargetResult,
)
from plantfed_lab.simulation.scenario import MAX_POINTS, LoadedScenario, ScenarioSection
from plantfed_shared.errors import ConfigError
from plantfed_shared.lattice import checksum
from plantfed_shared.version import software_version

STEPS_PER_POINT = 10
"""How often progress is told at least between two points of the curve."""
EVENTS_PER_MOMENT = 500
"""So often it is told besides: events may take long on the wall's clock and no virtual time."""
PATIENCE_S = 7 * 86_400.0
"""Without a virtual end, a federation that has applied no update for a week will not go on."""


@dataclass(frozen=True, slots=True)
class Moment:
    """How far a simulation is.

    Attributes:
        seconds: virtual.
        part: of the whole, 0 to 1.
        latest: point of the curve.
        releases: made.
        updates: applied.
    """

    seconds: float
    part: float
    latest: CurvePoint
    releases: int
    updates: int


Watch = Callable[[Moment], None]


def simulate(loaded: LoadedScenario, seed: int, watch: Watch) -> SimulationResult:
    """Run a scenario; the same scenario and seed give the same result.

    Args:
        loaded: the scenario.
        seed: of everything that is drawn.
        watch: told now and then how far it is.

    Raises:
        ConfigError: the scenario, or a file that it names, is wrong, or no time passes in it.
        DataError: a machine has no rows, or they cannot be used.
    """
    return run(build(loaded, seed), loaded, seed, watch)


def run(
    federation: Federation, loaded: LoadedScenario, seed: int, watch: Watch
) -> SimulationResult:
    """Run a federation that was just built; see :func:`simulate`."""
    try:
        ended_by = _run(federation, loaded.scenario.scenario, watch)
    except SpinningError:
        raise _no_time_passes(loaded) from None
    if federation.simulation.now == 0:
        raise _no_time_passes(loaded)
    return _result(federation, loaded, seed, ended_by)


def _no_time_passes(loaded: LoadedScenario) -> ConfigError:
    return ConfigError(
        "rounds and links take no time, so that virtual time stands still",
        where=str(loaded.path),
        hint="Give machines.compute_s, or the links a latency_s",
    )


def _run(federation: Federation, section: ScenarioSection, watch: Watch) -> End:
    simulation, recorder = federation.simulation, federation.recorder
    events = count(1)

    def show() -> None:
        part = _part(section, recorder, simulation.now)
        watch(Moment(simulation.now, part, latest, recorder.releases, recorder.updates))

    def show_sometimes() -> None:
        if next(events) % EVENTS_PER_MOMENT == 0:
            show()

    def finished() -> bool:
        return _end(section, recorder, simulation.now) is not None

    points = 0
    latest = recorder.add_point()
    simulation.on_event = show_sometimes
    while True:
        latest = recorder.add_point()
        end = _end(section, recorder, simulation.now)
        if end is not None:
            return end
        if points == MAX_POINTS:
            return "too many points of the curve"
        points += 1
        for step in range(1, STEPS_PER_POINT + 1):
            stop_s = section.evaluate_every_s * (points - 1 + step / STEPS_PER_POINT)
            if section.duration_s is not None:
                stop_s = min(stop_s, section.duration_s)
            simulation.run(max(0.0, stop_s - simulation.now), until=finished)
            show()
            if finished():
                break


def _end(section: ScenarioSection, recorder: Recorder, now: float) -> End | None:
    if section.updates is not None and recorder.updates >= section.updates:
        return "updates"
    if section.releases is not None and recorder.releases >= section.releases:
        return "releases"
    if recorder.trouble is not None:
        return "every round is in vain"
    if section.duration_s is None:
        stalled = now > recorder.last_update_s + PATIENCE_S
        return "nothing happens any more" if stalled else None
    return "duration" if now >= section.duration_s else None


def _part(section: ScenarioSection, recorder: Recorder, now: float) -> float:
    parts = (
        now / section.duration_s if section.duration_s else 0.0,
        recorder.releases / section.releases if section.releases else 0.0,
        recorder.updates / section.updates if section.updates else 0.0,
    )
    return min(1.0, max(parts))


def _result(
    federation: Federation, loaded: LoadedScenario, seed: int, ended_by: End
) -> SimulationResult:
    recorder, definition = federation.recorder, federation.definition
    section = loaded.scenario.scenario
    state = _state(federation)
    machines = tuple(
        m.result(federation.simulation.now, final=state.final) for m in federation.machines
    )
    last = recorder.curve[-1]
    return SimulationResult(
        plantfed=software_version(),
        scenario=section.name,
        description=section.description,
        seed=seed,
        data=loaded.scenario.data.kind,
        federation=definition.federation,
        score_kind="accuracy" if definition.metric == "accuracy" else "minus rmse",
        algorithm=definition.algorithm.model_dump(mode="json"),
        schedule=definition.schedule.model_dump(mode="json"),
        ended_by=ended_by,
        seconds=federation.simulation.now,
        epoch=state.epoch.counter,
        releases=recorder.releases,
        updates=recorder.updates,
        model=_model(state),
        mean_score=last.mean_score,
        worst_score=last.worst_score,
        target=_target(section.target_score, recorder.curve),
        bytes=Traffic(up=last.bytes_up, down=last.bytes_down),
        bytes_again=sum(m.bytes_again for m in machines),
        messages=Traffic(
            up=sum(m.messages_up for m in machines), down=sum(m.messages_down for m in machines)
        ),
        staleness_counts=_staleness(machines),
        curve=tuple(recorder.curve),
        machines=machines,
        trouble=recorder.trouble,
    )


def _state(federation: Federation) -> FederationState:
    """As the coordinator has it, or would have it if it came up now."""
    machine = federation.coordinator.machine
    return replay(federation.coordinator.journal) if machine is None else machine.state


def _model(state: FederationState) -> ModelResult:
    specification = state.terms.definition.parameter_specification()
    return ModelResult(
        checksum=f"{checksum(state.model):016x}",
        k=state.k,
        shared_parameters=sum(p.size for p in specification.shared),
        personal_parameters=sum(p.size for p in specification.personal),
    )


def _staleness(machines: tuple[MachineResult, ...]) -> tuple[int, ...]:
    total: Counter[int] = Counter()
    for machine in machines:
        total.update(dict(enumerate(machine.staleness_counts)))
    return counts(total)


def _target(wanted: float | None, curve: Sequence[CurvePoint]) -> TargetResult | None:
    return None if wanted is None else TargetResult(score=wanted, reached=first_with(curve, wanted))


def first_with(curve: Sequence[CurvePoint], score: float) -> CurvePoint | None:
    """The first point with at least this mean score."""
    reached = (p for p in curve if p.mean_score is not None and p.mean_score >= score)
    return next(reached, None)
