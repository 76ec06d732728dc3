"""Whole simulations: they repeat themselves, and what a scenario asks for happens."""

import random
from pathlib import Path

import numpy as np
import pytest
from tests.lab.simulation.scenarios import CODED, QUICK, simulated, write

from plantfed_agent.settings import TrainingSection
from plantfed_agent.training import TrainingOutcome, TrainingTask
from plantfed_coordinator.records import Applied, EpochStarted, Joined, Record, Released
from plantfed_lab.simulation.build import build
from plantfed_lab.simulation.coordinator_host import replay
from plantfed_lab.simulation.recording import ROUNDS_IN_VAIN
from plantfed_lab.simulation.result import SimulationResult
from plantfed_lab.simulation.run import run, simulate
from plantfed_lab.simulation.scenario import SHIPPED, load_scenario, shipped_scenarios
from plantfed_shared.codec import Coding, encode_integers
from plantfed_shared.errors import TrainingError

NO_LINKS = QUICK.partition("uplink")[0]


@pytest.mark.parametrize("name", shipped_scenarios())
def test_shipped_scenarios_repeat_themselves(name: str, tmp_path: Path) -> None:
    """Shortened: the first updates, with real training and everything that is drawn."""
    text = (SHIPPED / f"{name}.toml").read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("duration_s"))
    short = text.replace(line, "updates = 40")
    first, again = simulated(tmp_path, short), simulated(tmp_path, short)
    assert first.to_json() == again.to_json()
    assert first.updates == 40
    assert first.mean_score is not None
    assert first.mean_score > 0.2
    assert simulated(tmp_path, short, seed=1).to_json() != first.to_json()


@pytest.mark.soak
@pytest.mark.parametrize("name", shipped_scenarios())
def test_whole_shipped_scenarios_repeat_themselves(name: str) -> None:
    loaded = load_scenario(name)
    first, again = (simulate(loaded, 0, lambda _: None) for _ in range(2))
    assert first.to_json() == again.to_json()
    assert first.ended_by == "duration"


def test_another_machine_changes_nothing_of_what_is_drawn_for_the_others(tmp_path: Path) -> None:
    few = simulated(tmp_path, QUICK)
    more = simulated(tmp_path, QUICK.replace("count = 6", "count = 7"))
    before = {m.id: m.conditions for m in few.machines}
    after = {m.id: m.conditions for m in more.machines}
    assert {i: after[i] for i in before} == before
    assert len({c.compute_s for c in after.values()}) == 7


def test_order_of_arrivals_within_a_release_does_not_change_the_model(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(
        QUICK
        + "\n[coordinator.restarts]\nmean_every_s = 1e9\n[federation.schedule]\narrivals = 3\n"
    )
    federation = build(load_scenario(str(tmp_path / "s.toml")), 0)
    federation.simulation.run(3000.0)
    journal = federation.coordinator.journal
    assert sum(isinstance(r, Released) for r in journal) > 10
    shuffled = [record for group in _releases(journal) for record in _shuffled(group)]
    assert shuffled != journal
    assert replay(shuffled).model.tobytes() == replay(journal).model.tobytes()


def _releases(journal: list[Record]) -> list[list[Record]]:
    groups: list[list[Record]] = [[]]
    for record in journal:
        if isinstance(record, Released | EpochStarted | Joined):
            groups += [[record], []]
        else:
            groups[-1].append(record)
    return groups


def _shuffled(records: list[Record]) -> list[Record]:
    """Arrivals in another order; what one agent did stays in its order."""
    by_agent: dict[str, list[Record]] = {}
    for record in records:
        agent = record.agent if isinstance(record, Applied) else str(getattr(record, "agent", ""))
        by_agent.setdefault(agent, []).append(record)
    agents = list(by_agent)
    random.Random(4).shuffle(agents)
    return [record for agent in reversed(agents) for record in by_agent[agent]]


def test_books_are_balanced(tmp_path: Path) -> None:
    result = simulated(tmp_path, CODED)
    assert result.updates == sum(m.updates for m in result.machines) == 60
    assert result.updates == sum(result.staleness_counts)
    assert result.bytes.up == sum(m.bytes_up for m in result.machines)
    assert result.bytes_again == sum(m.bytes_again for m in result.machines) > 0
    assert result.curve[0].seconds == 0
    assert result.curve[-1].seconds == result.seconds
    assert result.ended_by == "updates"
    sent = result.bytes.up / 60 / result.model.shared_parameters
    assert 8 / 8 < sent < 12 / 8  # bytes a number
    for machine in result.machines:
        assert 0 < machine.seconds_computing <= result.seconds
        assert machine.rounds >= machine.updates


@pytest.mark.parametrize(
    ("count", "seconds"), [(4, 800), pytest.param(8, 1200, marks=pytest.mark.soak)]
)
def test_without_training_messages_are_as_long_as_with_it(
    count: int, seconds: int, tmp_path: Path
) -> None:
    """Of the whole run, and of its second half, when changes have long become smaller."""
    text = (SHIPPED / "thin-link.toml").read_text(encoding="utf-8")
    text = text.replace("count = 20", f"count = {count}")
    text = text.replace("duration_s = 2400", f"duration_s = {seconds}")
    trained = simulated(tmp_path, text)
    text = text.replace("tennessee-eastman", "none").replace("target_score = 0.75", "")
    pseudo = simulated(tmp_path, text)
    for begin_s in (0, seconds / 2):
        expected = _bytes_per_update(trained, begin_s)
        assert _bytes_per_update(pseudo, begin_s) == pytest.approx(expected, rel=0.15)


def _bytes_per_update(result: SimulationResult, begin_s: float) -> tuple[float, float]:
    begin = next(p for p in result.curve if p.seconds >= begin_s)
    end = result.curve[-1]
    updates = end.updates - begin.updates
    up, down = end.bytes_up - begin.bytes_up, end.bytes_down - begin.bytes_down
    return up / updates, down / updates


def test_a_model_without_training_is_as_long_as_one_with_it(tmp_path: Path) -> None:
    """Its largest number decides: 15 bits each."""
    federation = build(load_scenario(str(write(tmp_path, NO_LINKS))), 0)
    federation.simulation.run(1500.0)
    machine = federation.coordinator.machine
    assert machine is not None
    model, lattice = machine.state.model, machine.state.terms.lattice
    assert np.abs(model).max() < 2 * 2**16
    assert 1.75 < len(encode_integers(model, lattice, Coding.ENTROPY)) / model.size < 1.9


def test_a_thinner_link_makes_a_slower_federation(tmp_path: Path) -> None:
    fast = simulated(tmp_path, NO_LINKS)
    slow = simulated(tmp_path, NO_LINKS + "uplink_bits_per_s = 1000\n")
    assert slow.seconds > fast.seconds + 8 * slow.bytes.up / 6 / 1000 / 2


def test_a_machine_may_differ_from_the_others(tmp_path: Path) -> None:
    slow = '\n[[machine]]\nid = "machine-3"\ncompute_s = 400\nslowdown = 1\n'
    result = simulated(tmp_path, NO_LINKS + slow)
    by_id = {m.id: m for m in result.machines}
    assert by_id["machine-3"].conditions.compute_s == 400
    assert by_id["machine-3"].updates < min(m.updates for i, m in by_id.items() if i[-1] != "3")


def test_offline_windows_really_happen_and_the_federation_goes_on(tmp_path: Path) -> None:
    window = (
        '\n[[machine]]\nid = "machine-2"\n'
        "offline_windows = [{ start_s = 100, duration_s = 400 }, { start_s = 300, "
        "duration_s = 300 }]\n"
    )
    timed = NO_LINKS.replace("updates = 60", "duration_s = 1200\nevaluate_every_s = 50")
    result = simulated(tmp_path, timed + window)
    away = next(m for m in result.machines if m.id == "machine-2")
    assert away.seconds_offline == pytest.approx(500.0)
    assert away.starts == 1
    online = {point.seconds: point.online for point in result.curve}
    assert (online[50], online[450], online[550], online[650]) == (6, 5, 5, 6)
    assert away.last_update_s is not None
    assert away.last_update_s > 600
    during = [p.releases for p in result.curve if 100 < p.seconds < 600]
    assert during[-1] > during[0] + 5


def test_restarts_really_happen_and_the_federation_goes_on(tmp_path: Path) -> None:
    text = (
        NO_LINKS.replace("updates = 60", "duration_s = 3600")
        + "restarts = { mean_every_s = 300, downtime_s = 20 }\n"
        + "offline = { mean_every_s = 600, mean_duration_s = 60 }\n"
        + "\n[coordinator]\nrestarts = { mean_every_s = 600, downtime_s = 10 }\n"
    )
    result = simulated(tmp_path, text)
    assert result.to_json() == simulated(tmp_path, text).to_json()
    assert sum(m.starts - 1 for m in result.machines) > 30
    assert all(m.seconds_down > 0 for m in result.machines)
    assert sum(m.seconds_offline for m in result.machines) > 0
    assert all(m.last_update_s is not None and m.last_update_s > 1800 for m in result.machines)
    assert result.epoch == 1


def test_a_federation_that_rests_ends_by_itself(tmp_path: Path) -> None:
    rested = simulated(
        tmp_path,
        NO_LINKS.replace("updates = 60", "updates = 999\nevaluate_every_s = 86400").replace(
            '"no limit"', "5"
        ),
    )
    assert rested.ended_by == "nothing happens any more"
    assert rested.updates == 6 * 5
    assert [m.rest.since_s if m.rest else None for m in rested.machines] == [
        m.last_update_s for m in rested.machines
    ]


@pytest.mark.parametrize("kind", ["none", "tennessee-eastman"])
def test_machines_rest_when_those_of_the_product_do(kind: str, tmp_path: Path) -> None:
    text = NO_LINKS.replace('max_rounds_without_new_rows = "no limit"\n', "")
    loaded = load_scenario(str(write(tmp_path, text.replace('"none"', f'"{kind}"'))))
    by_default = TrainingSection().max_rounds_without_new_rows
    machines = build(loaded, 0).machines
    assert {m.host.pace().max_rounds_without_new_rows for m in machines} == {by_default}
    assert {m.conditions.max_rounds_without_new_rows for m in machines} == {by_default}
    # and do not where new rows keep coming
    endless = build(load_scenario(str(write(tmp_path, NO_LINKS))), 0).machines
    assert {m.conditions.max_rounds_without_new_rows for m in endless} == {None}


@pytest.mark.parametrize("name", shipped_scenarios())
def test_a_shipped_scenario_says_whether_its_machines_rest(name: str) -> None:
    machines = load_scenario(name).scenario.machines
    assert "max_rounds_without_new_rows" in machines.model_fields_set


def test_few_machines_that_average_learn_from_each_other(tmp_path: Path) -> None:
    """By default, asynchronously: no release is one machine's own model."""
    text = NO_LINKS.replace("count = 6", "count = 3") + (
        "[federation]\nalgorithm = { mode = 'fedavg' }\n"
        "[coordinator]\nrestarts = { mean_every_s = 1e9 }\n"
    )
    federation = build(load_scenario(str(write(tmp_path, text))), 0)
    federation.simulation.run(600.0)
    groups = [g for g in _releases(federation.coordinator.journal) if g]
    arrived = [{r.agent for r in g if isinstance(r, Applied)} for g in groups]
    assert sum(len(agents) >= 2 for agents in arrived) > 5
    assert not any(len(agents) == 1 for agents in arrived[:-1])


def test_one_machine_whose_training_fails_ends_nothing(tmp_path: Path) -> None:
    loaded = load_scenario(str(write(tmp_path, QUICK.replace("updates = 60", "updates = 600"))))
    federation = build(loaded, 0)
    failing = federation.machines[0].host

    def fail(_: TrainingTask) -> TrainingOutcome:
        raise TrainingError("the training diverged")

    failing.train = fail
    result = run(federation, loaded, 0, lambda _: None)
    assert failing.failed_rounds > ROUNDS_IN_VAIN
    assert (result.ended_by, result.trouble) == ("updates", None)


def test_progress_is_told_while_no_virtual_time_passes(tmp_path: Path) -> None:
    text = NO_LINKS.replace("count = 6", "count = 200").replace("updates = 60", "updates = 1")
    loaded = load_scenario(str(write(tmp_path, text)))
    built: list[tuple[int, int]] = []
    federation = build(loaded, 0, watch=lambda done, of: built.append((done, of)))
    assert built == [(n, 200) for n in range(1, 201)]
    moments: list[float] = []
    run(federation, loaded, 0, lambda moment: moments.append(moment.seconds))
    assert moments.count(0.0) > 1


def test_a_thousand_machines(tmp_path: Path) -> None:
    text = NO_LINKS.replace("count = 6", "count = 1000").replace("updates = 60", "updates = 1500")
    result = simulated(tmp_path, text)
    assert len(result.machines) == 1000
    assert result.updates >= 1500
    assert result.releases >= 1500 // 125
