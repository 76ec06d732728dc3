"""A made-up simulation, for tests of what is told about one."""

from typing import Literal

from plantfed_lab.results import ModelResult, Traffic
from plantfed_lab.simulation.forecast import milestones, variation
from plantfed_lab.simulation.rates import heaviest, rates, until_rest
from plantfed_lab.simulation.result import (
    CurvePoint,
    Forecast,
    MachineConditions,
    MachineResult,
    Rest,
    SimulationResult,
    TargetResult,
)

Kind = Literal["accuracy", "minus rmse"]
DAY_S = 86_400.0


def made_up_simulation(
    n_machines: int = 5,
    *,
    kind: Kind = "accuracy",
    target: float | None = 0.5,
    scored: bool = True,
    seconds: float = DAY_S / 2,
    rests: bool = False,
) -> SimulationResult:
    """Ten points of a curve whose score rises by 0.1 each, to 0.9 (or to -1 from -10)."""
    machines = tuple(machine(n, n_machines, kind, scored, rests) for n in range(1, n_machines + 1))
    curve = tuple(point(n, n_machines, seconds, kind, scored) for n in range(10))
    reached = (p for p in curve if target is not None and (p.mean_score or -99) >= target)
    result = SimulationResult(
        plantfed="1.2.3",
        scenario="presses",
        description="some <presses>",
        seed=4,
        data="files" if scored else "none",
        federation="f",
        score_kind=kind,
        algorithm={"mode": "fedapm", "max_norm": None},
        schedule={"kind": "async", "arrivals": 2},
        ended_by="duration",
        seconds=seconds,
        epoch=1,
        releases=90,
        updates=sum(m.updates for m in machines),
        model=ModelResult(
            checksum="bb3ed96738ff7d6b", k=90, shared_parameters=5472, personal_parameters=726
        ),
        mean_score=curve[-1].mean_score,
        worst_score=curve[-1].worst_score,
        target=None if target is None else TargetResult(score=target, reached=next(reached, None)),
        bytes=Traffic(
            up=sum(m.bytes_up for m in machines), down=sum(m.bytes_down for m in machines)
        ),
        bytes_again=0,
        messages=Traffic(up=100, down=200),
        staleness_counts=(0, sum(m.updates for m in machines)),
        curve=curve,
        machines=machines,
    )
    return result.model_copy(update={"forecast": made_up_forecast(result)})


def made_up_forecast(result: SimulationResult) -> Forecast:
    base = rates(result)
    rest = until_rest(result)
    half = base.model_copy(update={"updates": base.updates / 2, "bytes_up": base.bytes_up / 2})
    reached = milestones(result)
    return Forecast(
        rates=base,
        until_rest=rest,
        heaviest=heaviest(result),
        milestones=reached,
        compared_s=600.0,
        compared_with=base,
        variations=(variation("computers half as fast", base, rest, base, half, reached),),
        left_out={"four times as many machines": "more than 2,500 machines"},
    )


def point(n: int, n_machines: int, seconds: float, kind: Kind, scored: bool) -> CurvePoint:
    mean = n / 10 if kind == "accuracy" else -10.0 + n
    has_score = scored and n > 0
    return CurvePoint(
        seconds=seconds * n / 9,
        k=10 * n,
        releases=10 * n,
        updates=20 * n,
        bytes_up=1_000_000 * n,
        bytes_down=2_000_000 * n,
        online=n_machines,
        scored=n_machines if has_score else 0,
        mean_score=mean if has_score else None,
        worst_score=mean - 0.1 if has_score else None,
    )


def machine(n: int, n_machines: int, kind: Kind, scored: bool, rests: bool) -> MachineResult:
    """The first has the lowest score, and is the latest."""
    share = n / n_machines
    score = share if kind == "accuracy" else share - 2
    return MachineResult(
        id=f"press-{n:04d}",
        conditions=MachineConditions(
            compute_s=30.0 * n,
            uplink_bits_per_s=64e3 if n % 2 else None,
            downlink_bits_per_s=128e3,
            latency_s=0.3,
            loss=0.02,
            max_rounds_without_new_rows=10 + n if rests else None,
        ),
        updates=10 + n,
        rounds=10 + n,
        failed_rounds=0,
        mean_staleness=5 - 4 * share,
        staleness_counts=(0, 10 + n),
        last_update_s=100.0 + n,
        # half of the bytes came in the first quarter of an hour, then it rested
        rest=Rest(since_s=900.0, bytes_up=500_000 * n, bytes_down=1_000_000 * n) if rests else None,
        bytes_up=1_000_000 * n,
        bytes_down=2_000_000 * n,
        bytes_again=0,
        messages_up=n,
        messages_down=n,
        seconds_offline=0.0,
        seconds_down=0.0,
        seconds_computing=1.0,
        starts=1,
        k=90,
        score=score if scored else None,
    )
