"""What a roll-out will cost and take, from a simulation of it, and what would change that."""

from collections.abc import Callable, Sequence

from plantfed_lab.simulation.build import build
from plantfed_lab.simulation.result import (
    CurvePoint,
    Forecast,
    HeaviestTraffic,
    MachineResult,
    Milestone,
    Rates,
    SimulationResult,
    Variation,
)
from plantfed_lab.simulation.run import Watch, run
from plantfed_lab.simulation.scenario import LoadedScenario
from plantfed_lab.simulation.variations import (
    CHANGES,
    UNCHANGED,
    Change,
    Machine,
    machines_of,
    run_without_training,
)

DAY_S = 86_400.0
NEAR_BEST = 0.97
COMPARED_UPDATES = 800
"""Of the unchanged scenario: all comparisons together cost about eight times as many, some seconds
of processor time; and rates of twenty machines are known to a few percent then."""
COMPARED_UPDATES_EACH = 2
"""But at least so many per machine, or hardly any would have come back."""
MOST_MACHINES = 2_500
"""More are not tried: starting them alone would take longer than the run that is forecast from."""

WatchForecast = Callable[[str, float], None]
"""Told which change is tried, and which part of the forecast is done, 0 to 1."""


def simulate_and_forecast(
    loaded: LoadedScenario, seed: int, watch: Watch, watch_forecast: WatchForecast
) -> SimulationResult:
    """Run a scenario, then some variations of it without training.

    Args:
        loaded: the scenario.
        seed: of everything that is drawn.
        watch: told now and then how far the run is.
        watch_forecast: told how far the forecast is.

    Raises:
        PlantfedError: see :func:`plantfed_lab.simulation.run.simulate`.
    """
    federation = build(loaded, seed)
    result = run(federation, loaded, seed, watch)
    if not result.updates or result.ended_by == "every round is in vain":
        return result  # nothing to forecast from, and changes would be tried for as long
    machines = machines_of([machine.site for machine in federation.machines], result.machines)
    forecast = _forecast(result, loaded, machines, watch_forecast)
    return result.model_copy(update={"forecast": forecast})


def _forecast(
    result: SimulationResult,
    loaded: LoadedScenario,
    machines: Sequence[Machine],
    watch: WatchForecast,
) -> Forecast:
    seconds = compared_seconds(result)
    left_out = changes_left_out(result)
    changes = [UNCHANGED, *(c for c in CHANGES if c.name not in left_out)]
    done, everything = 0, sum(c.copies for c in changes)
    measured: dict[Change, Rates] = {}
    for change in changes:
        watch(change.name, done / everything)
        run_of_it = run_without_training(loaded, machines, result.seed, change, seconds)
        measured[change] = rates(run_of_it)
        done += change.copies
    base = measured.pop(UNCHANGED)
    found, reached = rates(result), milestones(result)
    return Forecast(
        rates=found,
        heaviest=heaviest(result),
        milestones=reached,
        compared_s=seconds,
        compared_with=base,
        variations=tuple(
            variation(change.name, found, base, changed, reached)
            for change, changed in measured.items()
        ),
        left_out=left_out,
    )


def compared_seconds(result: SimulationResult) -> float:
    """Virtual seconds that are enough to compare by; never beyond the last update.

    After that the machines have seen enough of their rows and rest, whatever their speed.
    """
    last_s = max((m.last_update_s for m in result.machines if m.last_update_s), default=None)
    if last_s is None:
        return result.seconds
    wanted = max(COMPARED_UPDATES, COMPARED_UPDATES_EACH * len(result.machines))
    return last_s * min(1.0, wanted / result.updates)


def changes_left_out(result: SimulationResult) -> dict[str, str]:
    """Changes that are not worth a run, each with the reason."""
    left_out = {}
    conditions = [machine.conditions for machine in result.machines]
    limited = any(c.uplink_bits_per_s or c.downlink_bits_per_s for c in conditions)
    for change in CHANGES:
        if change.rate != 1 and not limited:
            left_out[change.name] = "no machine's link has a limited rate"
        elif change.copies > 1 and change.copies * len(conditions) > MOST_MACHINES:
            left_out[change.name] = f"more than {MOST_MACHINES:,} machines"
    return left_out


def rates(result: SimulationResult) -> Rates:
    """What every machine did in a day, on average."""
    n, seconds = len(result.machines), result.seconds
    machine_days = n * seconds / DAY_S
    stale = sum(releases * count for releases, count in enumerate(result.staleness_counts))
    return Rates(
        machines=n,
        updates=result.updates / machine_days,
        bytes_up=result.bytes.up / machine_days,
        bytes_down=result.bytes.down / machine_days,
        release_interval_s=seconds / result.releases if result.releases else None,
        mean_staleness=stale / result.updates if result.updates else None,
    )


def heaviest(result: SimulationResult) -> HeaviestTraffic:
    """The machine with the most bytes, both ways; of equal ones the first."""
    most = max(result.machines, key=_bytes)
    days = result.seconds / DAY_S
    return HeaviestTraffic(
        id=most.id, bytes_up=most.bytes_up / days, bytes_down=most.bytes_down / days
    )


def _bytes(machine: MachineResult) -> int:
    return machine.bytes_up + machine.bytes_down


def milestones(result: SimulationResult) -> tuple[Milestone, ...]:
    """The target, if one was wanted, and 97 % of the best; none where nothing is scored."""
    scores = [p.mean_score for p in result.curve if p.mean_score is not None]
    if not scores:
        return ()
    best = max(scores)
    near = best * NEAR_BEST if best > 0 else best / NEAR_BEST
    found = [Milestone(kind="near best", score=near, reached=first_with(result.curve, near))]
    if result.target is not None:
        target = result.target
        found.insert(0, Milestone(kind="target", score=target.score, reached=target.reached))
    return tuple(found)


def first_with(curve: Sequence[CurvePoint], score: float) -> CurvePoint | None:
    """The first point with at least this mean score."""
    reached = (p for p in curve if p.mean_score is not None and p.mean_score >= score)
    return next(reached, None)


def variation(
    change: str, found: Rates, base: Rates, changed: Rates, reached: Sequence[Milestone]
) -> Variation:
    """Carry over what a change did without training to the run with it.

    Args:
        change: its name.
        found: in the run with training.
        base: without training.
        changed: without training, with the change.
        reached: milestones of the run with training.
    """
    faster = _ratio(changed.updates, base.updates)
    interval = _ratio(changed.release_interval_s, base.release_interval_s)
    expected = Rates(
        machines=changed.machines,
        updates=_times(found.updates, faster) or 0.0,
        bytes_up=_times(found.bytes_up, _ratio(changed.bytes_up, base.bytes_up)) or 0.0,
        bytes_down=_times(found.bytes_down, _ratio(changed.bytes_down, base.bytes_down)) or 0.0,
        release_interval_s=_times(found.release_interval_s, interval),
        mean_staleness=changed.mean_staleness,
    )
    slower = _ratio(base.updates, changed.updates)
    seconds = tuple(_times(m.reached.seconds if m.reached else None, slower) for m in reached)
    return Variation(change=change, measured=changed, expected=expected, milestone_s=seconds)


def _ratio(a: float | None, b: float | None) -> float | None:
    return None if a is None or not b else a / b


def _times(a: float | None, factor: float | None) -> float | None:
    return None if a is None or factor is None else a * factor
