"""What machines do in a day, and before they rest, by what they did in a run.

A machine that rests does next to nothing: its time at rest counts for no rate.
"""

from plantfed_lab.simulation.result import (
    HeaviestTraffic,
    MachineResult,
    Rates,
    SimulationResult,
    UntilRest,
)

DAY_S = 86_400.0


def rates(result: SimulationResult) -> Rates:
    """What every machine did in a day in which it did not rest, on average."""
    n = len(result.machines)
    daily = [daily_bytes(machine, result) for machine in result.machines]
    stale = sum(releases * count for releases, count in enumerate(result.staleness_counts))
    return Rates(
        machines=n,
        updates=updates_per_s(result) * DAY_S / n,
        bytes_up=sum(up for up, _ in daily) / n,
        bytes_down=sum(down for _, down in daily) / n,
        release_interval_s=_busy_s(result) / result.releases if result.releases else None,
        mean_staleness=stale / result.updates if result.updates else None,
    )


def updates_per_s(result: SimulationResult) -> float:
    """Of all machines together, while none rests."""
    return sum(machine.updates / training_s(machine, result) for machine in result.machines)


def training_s(machine: MachineResult, result: SimulationResult) -> float:
    """Virtual seconds before a machine came to rest."""
    # with its only update at second 0 there is no rate but that of the run
    return (machine.rest.since_s if machine.rest else 0.0) or result.seconds


def daily_bytes(machine: MachineResult, result: SimulationResult) -> tuple[float, float]:
    """MQTT bytes up and down in a day in which a machine does not rest."""
    days = training_s(machine, result) / DAY_S
    by_then = machine.rest or machine
    return by_then.bytes_up / days, by_then.bytes_down / days


def heaviest(result: SimulationResult) -> HeaviestTraffic:
    """The machine with the most bytes a day, both ways; of equal ones the first."""
    daily = {machine.id: daily_bytes(machine, result) for machine in result.machines}
    most = max(daily, key=lambda machine: sum(daily[machine]))
    return HeaviestTraffic(id=most, bytes_up=daily[most][0], bytes_down=daily[most][1])


def until_rest(result: SimulationResult) -> UntilRest | None:
    """What a machine does before it rests; None where some machine never does."""
    shares = {}
    for machine in result.machines:
        limit = machine.conditions.max_rounds_without_new_rows
        if machine.rest is not None:
            shares[machine.id] = 1.0
        elif limit is None:
            return None
        elif machine.rounds:
            # more than one where its rows came anew, as after edited settings
            shares[machine.id] = min(1.0, machine.rounds / limit)
    seen = [machine for machine in result.machines if machine.id in shares]
    if not seen:
        return None
    return UntilRest(
        updates=sum(m.updates / shares[m.id] for m in seen) / len(seen),
        bytes_up=sum(m.bytes_up / shares[m.id] for m in seen) / len(seen),
        bytes_down=sum(m.bytes_down / shares[m.id] for m in seen) / len(seen),
        seconds=max(training_s(m, result) / shares[m.id] for m in seen),
        rested=sum(m.rest is not None for m in seen),
    )


def _busy_s(result: SimulationResult) -> float:
    """Virtual seconds before the last machine came to rest."""
    return max(training_s(machine, result) for machine in result.machines)
