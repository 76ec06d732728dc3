"""A whole agent whose link is limited, under a virtual clock: rate, budget, quiet hours, jumps."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from tests.federation_world import PullToTarget, World
from tests.limited_agents import Crossing, LimitedAgent, limited_world
from tests.machines.invariants import everybody_agrees

from plantfed_agent.budget import LinkLimits, QuietHours
from plantfed_agent.local_update import model_wanted
from plantfed_agent.pace import Pace
from plantfed_agent.training import TrainingOutcome, TrainingTask
from plantfed_shared.bus.faults import Faults
from plantfed_shared.bus.port import MAX_MESSAGE_BYTES
from plantfed_shared.local_time import DAY_S
from plantfed_shared.topics import Kind

H = 3600
BULK = {Kind.UPDATE, Kind.OFFER, Kind.CHUNK}


def most_in_ten_seconds(crossings: list[Crossing]) -> int:
    most = first = total = 0
    for at, _, n_bytes in crossings:
        total += n_bytes
        while crossings[first][0] < at - 10.0:
            total -= crossings[first][2]
            first += 1
        most = max(most, total)
    return most


def applied(world: World) -> int:
    return len(world.applied())


def bulk(crossings: list[Crossing], begin: float, end: float) -> list[Crossing]:
    return [c for c in crossings if begin <= c[0] < end and c[1] in BULK]


@pytest.mark.parametrize("bits_per_s", [8_000, 32_000, 256_000])
def test_a_whole_agent_keeps_to_its_rate_both_ways(bits_per_s: int) -> None:
    rate = bits_per_s / 8
    world, agents = limited_world(LinkLimits(bytes_per_s=rate), 2)
    assert world.run(1000, until=lambda: applied(world) >= 6)
    for agent in agents:
        assert agent.starts == 1
        for way in (agent.ups, agent.downs):
            assert most_in_ten_seconds(way) <= 1.05 * rate * 10
    up = sum(c[2] for c in agents[0].ups)
    down = sum(c[2] for c in agents[0].downs)
    # neither is it wasted: of the time nothing but a round of 1 s and answers is between
    assert (up + down) / world.now > 0.5 * rate or bits_per_s > 100_000
    assert {c[1] for c in agents[0].ups} >= {Kind.OFFER, Kind.CHUNK}


def test_it_keeps_to_its_rate_where_links_break_and_messages_are_lost() -> None:
    faults = Faults(drop=0.02, duplicate=0.0, delay_s=(0.01, 2.0))
    world, (agent,) = limited_world(LinkLimits(bytes_per_s=4000), faults=faults)
    for _ in range(6):
        world.run(97)
        world.broker.cut(agent.client_id, world.now)
        world.run(5)
        world.broker.mend(agent.client_id, world.now)
    assert most_in_ten_seconds(agent.ups) <= 1.05 * 40_000
    assert most_in_ten_seconds(agent.downs) <= 1.05 * 40_000
    world.broker.faults = Faults()
    before = applied(world)
    assert world.run(600, until=lambda: applied(world) > before)


def test_with_the_budget_spent_only_the_head_is_trained_and_the_next_day_goes_on() -> None:
    limits = LinkLimits(day_up=100_000)
    world, (agent,) = limited_world(limits)
    world.run(11.9 * H)
    today = applied(world)
    assert today >= 2
    full = [task for _, task in agent.tasks if not task.head_only]
    assert len(full) == today
    # one head round on the model that came last, then rest
    assert agent.tasks[-1][1].head_only
    assert len(agent.tasks) == today + 1
    assert agent.disk.rounds == today + 1
    assert agent.disk.outstanding is None
    assert 0.5 * limits.day_up < sum(c[2] for c in agent.ups) <= limits.day_up
    # midnight comes
    assert world.run(0.2 * H, until=lambda: applied(world) > today)
    world.run(DAY_S)
    assert applied(world) >= 2 * today
    everybody_agrees(world)


class WithLastLayer(PullToTarget):
    """Of a machine whose labels mean something else."""

    def __call__(self, task: TrainingTask) -> TrainingOutcome:
        return replace(super().__call__(task), own_head=np.full(9, task.seq, dtype=np.float32))


@pytest.mark.parametrize(("trainer", "head_rounds"), [(PullToTarget, 0), (WithLastLayer, 1)])
def test_in_auto_a_spent_budget_leaves_a_last_layer_of_its_own_to_train(
    trainer: type[PullToTarget], head_rounds: int
) -> None:
    world, (agent,) = limited_world(
        LinkLimits(day_up=100_000),
        definition={"algorithm": {"mode": "auto", "learning_rate": 0.1}, "personal": ()},
        train=lambda name: trainer(0, name),
    )
    world.run(11.9 * H)
    today = applied(world)
    assert today >= 2
    assert len(agent.tasks) == today + head_rounds
    assert agent.tasks[-1][1].head_only == bool(head_rounds)
    assert agent.disk.outstanding is None


SPARSE = {"compression": {"kind": "top-k", "keep": 0.05}}


def test_updates_get_smaller_as_the_budget_gets_short_and_go_on_all_day() -> None:
    limits = LinkLimits(day_up=100_000)
    world, (agent,) = limited_world(limits, hidden=12_000, definition=SPARSE)
    agent.crash()
    agent.pace = lambda: Pace(min_interval_s=600.0, max_rounds_without_new_rows=10**9)
    agent.start()
    world.run(11.9 * H)
    lengths = [len(r.change) for r in world.applied()]
    assert sum(c[2] for c in agent.ups) <= limits.day_up
    # more of them than there is room for in full, the first ones largest
    assert len(lengths) > 1.4 * limits.day_up / lengths[0]
    assert min(lengths) < lengths[0] / 8
    full = [at for at, task in agent.tasks if not task.head_only]
    assert full[-1] > 6 * H
    today = len(lengths)
    world.run(0.6 * H)
    assert abs(len(world.applied()[today + 1].change) - lengths[0]) < 0.1 * lengths[0]


def test_where_nothing_is_personal_a_spent_budget_leaves_nothing_to_train() -> None:
    nothing_personal = {"personal": (), "algorithm": {"mode": "fedavg", "learning_rate": 0.1}}
    world, (agent,) = limited_world(LinkLimits(day_up=100_000), definition=nothing_personal)
    world.run(11.9 * H)
    today = applied(world)
    assert today >= 2
    assert len(agent.tasks) == today
    assert world.run(0.2 * H, until=lambda: applied(world) > today)


def test_budgets_of_all_agents_are_spent_and_all_go_on() -> None:
    world, agents = limited_world(LinkLimits(day_up=100_000), 3)
    world.run(11 * H)
    today = applied(world)
    assert world.run(3 * H, until=lambda: applied(world) >= today + 3)
    assert {r.agent for r in world.applied()[today:]} == {a.name for a in agents}


def test_with_the_downward_budget_spent_nothing_is_fetched_until_tomorrow() -> None:
    limits = LinkLimits(day_down=100_000)
    world, (agent,) = limited_world(limits)
    world.run(11.9 * H)
    today = applied(world)
    assert today >= 1
    assert sum(c[2] for c in agent.downs) <= limits.day_down
    assert [c for c in agent.downs if c[0] > 2 * H and c[1] is Kind.CHUNK] == []
    assert world.run(0.2 * H, until=lambda: applied(world) > today)


@pytest.mark.parametrize("crash", [False, True])
def test_a_restart_does_not_forget_what_is_spent(crash: bool) -> None:
    limits = LinkLimits(day_up=200_000, day_down=400_000)
    world, (agent,) = limited_world(limits)
    for hour in range(11):
        world.run(H if hour else 20)
        if crash:
            agent.crash()
        else:
            agent.meter.read(agent.local, agent.traffic)
            agent.written |= agent.meter.counters()
            agent.crash()
        agent.start()
    assert applied(world) >= 2
    slack = 11 * (0.01 * 200_000) if crash else 0
    assert sum(c[2] for c in agent.ups) <= limits.day_up + slack
    assert sum(c[2] for c in agent.downs) <= limits.day_down + slack


def test_no_bulk_in_quiet_hours_but_one_update_may_be_trained() -> None:
    # 13:00 to 14:00, and the night
    quiet = (QuietHours(13 * H, 14 * H), QuietHours(22 * H, 6 * H))
    world, (agent,) = limited_world(LinkLimits(quiet=quiet), training_s=7 * 60.0)
    world.run(20 * H)
    assert bulk(agent.ups, 0, H)
    for begin, end in ((H, 2 * H), (10 * H, 18 * H)):
        assert bulk(agent.ups, begin, end) == []
        assert bulk(agent.downs, begin, end) == []
        assert bulk(agent.ups, end, end + 1)
        # what was in training when they began
        assert len([t for t, _ in agent.tasks if begin <= t < end]) == 1
    everybody_agrees(world)


def test_what_is_half_sent_when_quiet_hours_begin_goes_on_afterwards() -> None:
    quiet = (QuietHours(12 * H + 60, 13 * H),)
    world, (agent,) = limited_world(LinkLimits(bytes_per_s=1000, quiet=quiet))
    world.run(59)
    assert {c[1] for c in agent.ups} & BULK or {c[1] for c in agent.downs} & BULK
    world.run(H - 59 - 0.5)
    assert bulk(agent.ups, 60.0, H) == []
    # what was asked for before may still come
    assert len(bulk(agent.downs, 60.0, H)) <= 1
    assert world.run(200, until=lambda: applied(world) > 0)


def test_nothing_is_fetched_in_quiet_hours() -> None:
    """An agent that is started within them joins, and has not even the definition yet."""
    world, (agent,) = limited_world(LinkLimits(quiet=(QuietHours(11 * H, 13 * H),)))
    world.run(H - 1)
    assert [c for c in agent.downs if c[1] is Kind.CHUNK] == []
    assert [c for c in agent.ups if c[1] is Kind.NEED] == []
    assert agent.machine is not None
    assert agent.machine.budget.standing(1, 1) == "quiet until 13:00"
    assert world.run(30, until=lambda: applied(world) > 0)


def test_an_update_longer_than_a_days_budget_goes_on_the_next_day() -> None:
    unlimited, (free,) = limited_world(LinkLimits(), hidden=12_000)
    assert unlimited.run(100, until=lambda: free.disk.outstanding is not None)
    assert free.disk.outstanding is not None
    day_up = int(0.75 * len(free.disk.outstanding))
    world, (agent,) = limited_world(LinkLimits(bytes_per_s=4000.0, day_up=day_up), hidden=12_000)
    world.run(2 * H)
    sent = sum(c[2] for c in agent.ups)
    assert 0.7 * day_up < sent <= day_up
    assert applied(world) == 0
    agent.crash()
    agent.start()
    # nothing was written at the round's end: the chunks came after it
    assert agent.meter.ledger.of(agent.local.day).up > sent - 0.02 * day_up
    world.run(7 * H)
    assert sum(c[2] for c in agent.ups) <= 1.05 * day_up
    assert applied(world) == 0
    assert world.run(2 * DAY_S, until=lambda: applied(world) > 0)
    assert sum(c[2] for c in agent.ups) <= 3.05 * day_up


def test_so_it_does_without_a_rate_limit_although_one_message_could_hold_it() -> None:
    limits = LinkLimits(day_up=20_000)
    world, (agent,) = limited_world(limits, hidden=1600)
    world.run(11.9 * H)
    sent = [sum(c[2] for c in agent.ups)]
    assert agent.disk.outstanding is not None
    assert limits.day_up < len(agent.disk.outstanding) < MAX_MESSAGE_BYTES
    assert applied(world) == 0
    for _ in range(2):
        world.run(DAY_S)
        sent.append(sum(c[2] for c in agent.ups) - sum(sent))
    assert applied(world) == 1
    assert max(sent) <= limits.day_up
    assert sent[0] > 0.9 * limits.day_up


def test_of_a_model_that_is_longer_than_was_thought_no_more_comes_than_there_is_budget_for() -> (
    None
):
    limits = LinkLimits(day_down=60_000)
    world, (agent,) = limited_world(limits, definition=SPARSE)
    assert world.run(100, until=lambda: agent.disk.outstanding is not None)
    assert agent.disk.outstanding is not None
    wanted = model_wanted(agent.disk.outstanding)
    assert wanted is not None
    assert 0 < wanted.window <= limits.day_down - sum(c[2] for c in agent.downs)


@pytest.mark.parametrize("days", [-365.0, -1.0, 1.0, 365.0])
def test_a_clock_that_jumps_locks_nothing_for_longer_than_ten_minutes(days: float) -> None:
    world, (agent,) = limited_world(LinkLimits(day_up=100_000))
    world.run(3 * H)
    today = applied(world)
    agent.clock_s += days * DAY_S
    assert world.run(601, until=lambda: applied(world) > today)


def test_a_clock_that_jumps_to_and_fro_gives_no_endless_budget() -> None:
    limits = LinkLimits(day_up=100_000)
    world, (agent,) = limited_world(limits)
    for jump in range(40):
        world.run(900)
        agent.clock_s += DAY_S * (-365 if jump % 2 else 365)
    # noon and 40 times 15 minutes: two dates, their midnights not reached
    assert sum(c[2] for c in agent.ups) <= 2 * limits.day_up


def test_a_pause_between_rounds_is_kept_whatever_the_budget() -> None:
    world, (agent,) = limited_world(LinkLimits(day_up=100_000))
    agent.crash()
    agent.pace = lambda: Pace(min_interval_s=600.0, max_rounds_without_new_rows=10**9)
    agent.start()
    world.run(6 * H)
    begun = [at for at, _ in agent.tasks]
    assert len(begun) > 2
    assert min(b - a for a, b in pairwise(begun)) >= 600.0


def test_an_agent_without_limits_says_what_it_said_before() -> None:
    world, (agent,) = limited_world(LinkLimits(), hidden=4)
    world.run(60)
    assert isinstance(agent, LimitedAgent)
    assert applied(world) > 20
