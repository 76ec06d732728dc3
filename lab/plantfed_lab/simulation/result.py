"""What a simulation found: the content of its ``result.json``, and what its report is made from.

Nothing in it depends on the computer that ran it or on how long that took: the same scenario and
seed give the same bytes.
"""

from typing import Any, Literal

from plantfed_lab.results import ModelResult, Part, Traffic

NEAR_BEST = 0.97
"""Of the best mean score: a milestone of every run with scores."""

End = Literal[
    "duration",
    "releases",
    "updates",
    "nothing happens any more",
    "every round is in vain",
    "too many points of the curve",
]


class CurvePoint(Part):
    """The federation at one moment.

    Attributes:
        seconds: virtual, since the start.
        k: number of the newest release.
        releases: made so far.
        updates: applied so far.
        bytes_up: MQTT bytes from all machines so far, acknowledgements included.
        bytes_down: to all machines.
        online: machines that are up and have a link.
        scored: machines that have a model and test rows; the next two are about them.
        mean_score: of the models the agents would serve now; None where there are none.
        worst_score: of them.
    """

    seconds: float
    k: int
    releases: int
    updates: int
    bytes_up: int
    bytes_down: int
    online: int
    scored: int
    mean_score: float | None
    worst_score: float | None


class TargetResult(Part):
    """When the mean score that was wanted was reached.

    Attributes:
        score: wanted.
        reached: the first point of the curve at which it was, or None.
    """

    score: float
    reached: CurvePoint | None


class MachineConditions(Part):
    """What was drawn for one machine at the start.

    Attributes:
        compute_s: virtual seconds of a round without slowdown.
        uplink_bits_per_s: None for no limit.
        downlink_bits_per_s: None for no limit.
        latency_s: one way.
        loss: probability that a packet is lost.
        max_rounds_without_new_rows: then it rests; None for no limit.
    """

    compute_s: float
    uplink_bits_per_s: float | None
    downlink_bits_per_s: float | None
    latency_s: float
    loss: float
    max_rounds_without_new_rows: int | None


class Rest(Part):
    """A machine that has trained enough on the rows it has.

    Attributes:
        since_s: virtual second of its last applied update.
        bytes_up: MQTT bytes it had sent by then.
        bytes_down: it had received.
    """

    since_s: float
    bytes_up: int
    bytes_down: int


class MachineResult(Part):
    """One machine over the whole run.

    Attributes:
        id: of its agent.
        conditions: it worked under.
        updates: applied by the coordinator.
        rounds: trained.
        failed_rounds: that ended with an error.
        mean_staleness: over its updates: releases made between base and arrival; None without any.
        staleness_counts: its updates by staleness: 0, 1, 2, ... releases.
        last_update_s: virtual second of its last applied update; None without any.
        rest: at the end; None while it goes on.
        bytes_up: MQTT bytes it sent, acknowledgements included.
        bytes_down: it received.
        bytes_again: sent again after a loss, both ways; in none of the other two.
        messages_up: PUBLISH packets it sent.
        messages_down: it received.
        seconds_offline: virtual, without a link.
        seconds_down: virtual, without a running agent.
        seconds_computing: virtual, in rounds.
        starts: of its agent.
        k: release it serves at the end; None if it never got a model.
        score: of the model it serves at the end, on its own test rows.
    """

    id: str
    conditions: MachineConditions
    updates: int
    rounds: int
    failed_rounds: int
    mean_staleness: float | None
    staleness_counts: tuple[int, ...]
    last_update_s: float | None
    rest: Rest | None
    bytes_up: int
    bytes_down: int
    bytes_again: int
    messages_up: int
    messages_down: int
    seconds_offline: float
    seconds_down: float
    seconds_computing: float
    starts: int
    k: int | None
    score: float | None


class Rates(Part):
    """What a federation does in a day in which no machine rests, by what it did in a run.

    Attributes:
        machines: in it.
        updates: applied, per machine and day.
        bytes_up: MQTT bytes, per machine and day.
        bytes_down: the same.
        release_interval_s: mean virtual seconds between two releases; None without any.
        mean_staleness: of the updates, releases; None without any.
    """

    machines: int
    updates: float
    bytes_up: float
    bytes_down: float
    release_interval_s: float | None
    mean_staleness: float | None


class UntilRest(Part):
    """What a machine does before it rests until there are new rows; means over machines.

    Of a machine that did not come to rest in the run it is what its rounds there make of all it
    would do; machines without a round are left out.

    Attributes:
        updates: applied.
        bytes_up: MQTT bytes, those at rest included where there were any.
        bytes_down: the same.
        seconds: virtual, until the last machine rests.
        rested: machines that came to rest in the run.
    """

    updates: float
    bytes_up: float
    bytes_down: float
    seconds: float
    rested: int


class HeaviestTraffic(Part):
    """The machine with the most bytes.

    Attributes:
        id: of its agent.
        bytes_up: MQTT bytes per day in which it does not rest.
        bytes_down: the same.
    """

    id: str
    bytes_up: float
    bytes_down: float


class Milestone(Part):
    """When a mean score was reached.

    Attributes:
        kind: "target" is what the scenario wants, "near best" 97 % of the best there was (an
            error that is larger than the least by 1 / 0.97).
        score: of this milestone.
        reached: the first point of the curve at which it was, or None.
    """

    kind: Literal["target", "near best"]
    score: float
    reached: CurvePoint | None


class Variation(Part):
    """The scenario with something changed.

    Attributes:
        change: what.
        measured: without training, to be compared with :attr:`Forecast.compared_with`.
        expected: the main run's rates, changed as those without training were; the staleness is
            the measured one.
        milestone_s: virtual seconds to each of :attr:`Forecast.milestones`, estimated: as many
            updates per machine as in the main run, at the rate that is expected.  None where it
            was not reached there, or there are no updates.
        until_rest: the main run's, changed in the same way; None where it has none.
    """

    change: str
    measured: Rates
    expected: Rates
    until_rest: UntilRest | None
    milestone_s: tuple[float | None, ...]


class Forecast(Part):
    """What a roll-out will cost and take, and what would change that.

    Attributes:
        rates: of the main run.
        until_rest: of the main run; None where some machine never rests.
        heaviest: machine of the main run.
        milestones: of the main run; none where nothing is scored.
        compared_s: virtual seconds of each run without training.
        compared_with: the scenario as it is, without training.
        variations: of it.
        left_out: changes that were not tried, each with the reason.
    """

    rates: Rates
    until_rest: UntilRest | None
    heaviest: HeaviestTraffic
    milestones: tuple[Milestone, ...]
    compared_s: float
    compared_with: Rates
    variations: tuple[Variation, ...]
    left_out: dict[str, str]


class SimulationResult(Part):
    """A whole simulation.

    Attributes:
        plantfed: version of the software.
        scenario: its name.
        description: of it.
        seed: of everything that was drawn.
        data: kind of the rows.
        federation: id.
        score_kind: "accuracy", or "minus rmse" in target units; more is better in both.
        algorithm: settings of the optimisation.
        schedule: settings of the releases.
        ended_by: what ended it.
        seconds: virtual.
        epoch: counter of the federation's epoch at the end.
        releases: made.
        updates: applied.
        model: at the end.
        mean_score: of the machines at the end; None where nothing is scored.
        worst_score: of them.
        target: when the wanted score was reached; None if none was wanted.
        bytes: sums over machines, MQTT bytes.
        bytes_again: sent again after a loss.
        messages: sums over machines.
        staleness_counts: updates by staleness: 0, 1, 2, ... releases.
        curve: from the start to the end.
        machines: sorted by id.
        trouble: of one machine, where every round was in vain.
        forecast: what a roll-out will cost; None where none was asked for, or without any update,
            or where the end was that every round is in vain.
    """

    plantfed: str
    scenario: str
    description: str
    seed: int
    data: str
    federation: str
    score_kind: Literal["accuracy", "minus rmse"]
    algorithm: dict[str, Any]
    schedule: dict[str, Any]
    ended_by: End
    seconds: float
    epoch: int
    releases: int
    updates: int
    model: ModelResult
    mean_score: float | None
    worst_score: float | None
    target: TargetResult | None
    bytes: Traffic
    bytes_again: int
    messages: Traffic
    staleness_counts: tuple[int, ...]
    curve: tuple[CurvePoint, ...]
    machines: tuple[MachineResult, ...]
    trouble: str | None = None
    forecast: Forecast | None = None

    def to_json(self) -> str:
        """Readable JSON with a newline at its end; equal results give equal bytes."""
        return self.model_dump_json(indent=2) + "\n"
