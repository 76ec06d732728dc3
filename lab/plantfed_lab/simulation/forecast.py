"""What a roll-out will cost and take, from a simulation of it, and what would change that."""

from collections.abc import Callable, Sequence
from functools import partial

from plantfed_lab.simulation.build import build
from plantfed_lab.simulation.rates import heaviest, rates, until_rest, updates_per_s
from plantfed_lab.simulation.result import (
    NEAR_BEST,
    Forecast,
    Milestone,
    Rates,
    SimulationResult,
    UntilRest,
    Variation,
)
from plantfed_lab.simulation.run import Watch, first_with, run
from plantfed_lab.simulation.scenario import LoadedScenario
from plantfed_lab.simulation.variations import (
    CHANGES,
    UNCHANGED,
    Change,
    Machine,
    machines_of,
    run_without_training,
)

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
    loaded: LoadedScenario,
    seed: int,
    watch: Watch,
    watch_forecast: WatchForecast,
    watch_build: Callable[[int, int], None] = lambda _done, _of: None,
) -> SimulationResult:
    """Run a scenario, then some variations of it without training.

    Args:
        loaded: the scenario.
        seed: of everything that is drawn.
        watch: told now and then how far the run is.
        watch_forecast: told how far the forecast is.
        watch_build: told how many of how many machines are there.

    Raises:
        PlantfedError: see :func:`plantfed_lab.simulation.run.simulate`.
    """
    federation = build(loaded, seed, watch=watch_build)
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
        show = partial(_show, watch, change, done, everything)
        show(0.0)
        run_of_it = run_without_training(loaded, machines, result.seed, change, seconds, show)
        measured[change] = rates(run_of_it)
        done += change.copies
    base = measured.pop(UNCHANGED)
    found, rest, reached = rates(result), until_rest(result), milestones(result)
    return Forecast(
        rates=found,
        until_rest=rest,
        heaviest=heaviest(result),
        milestones=reached,
        compared_s=seconds,
        compared_with=base,
        variations=tuple(
            variation(change.name, found, rest, base, changed, reached)
            for change, changed in measured.items()
        ),
        left_out=left_out,
    )


def _show(watch: WatchForecast, change: Change, done: int, everything: int, part: float) -> None:
    watch(change.name, (done + change.copies * part) / everything)


def compared_seconds(result: SimulationResult) -> float:
    """Virtual seconds that are enough to compare by; never more than those of the run."""
    wanted = max(COMPARED_UPDATES, COMPARED_UPDATES_EACH * len(result.machines))
    return min(result.seconds, wanted / updates_per_s(result))


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


def variation(
    change: str,
    found: Rates,
    rest: UntilRest | None,
    base: Rates,
    changed: Rates,
    reached: Sequence[Milestone],
) -> Variation:
    """Carry over what a change did without training to the run with it.

    Args:
        change: its name.
        found: in the run with training.
        rest: of the run with training.
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
    return Variation(
        change=change,
        measured=changed,
        expected=expected,
        milestone_s=seconds,
        until_rest=_changed_rest(rest, found, expected),
    )


def _changed_rest(rest: UntilRest | None, found: Rates, expected: Rates) -> UntilRest | None:
    """As many updates as before, each with the bytes and the time that are to be expected."""
    slower = _ratio(found.updates, expected.updates)
    if rest is None or slower is None:
        return None
    return UntilRest(
        updates=rest.updates,
        bytes_up=rest.bytes_up * slower * (_ratio(expected.bytes_up, found.bytes_up) or 0.0),
        bytes_down=rest.bytes_down
        * slower
        * (_ratio(expected.bytes_down, found.bytes_down) or 0.0),
        seconds=rest.seconds * slower,
        rested=0,
    )


def _ratio(a: float | None, b: float | None) -> float | None:
    return None if a is None or not b else a / b


def _times(a: float | None, factor: float | None) -> float | None:
    return None if a is None or factor is None else a * factor
