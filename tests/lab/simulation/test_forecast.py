"""The forecast: its arithmetic, and that what it tries really happens."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.lab.simulation.scenarios import CODED, QUICK, write
from tests.lab.simulation.synthetic import made_up_simulation

import plantfed_lab.simulation.forecast as forecast_module
from plantfed_lab.plant_files import write_federation_file
from plantfed_lab.simulation.build import build
from plantfed_lab.simulation.forecast import (
    COMPARED_UPDATES,
    COMPARED_UPDATES_EACH,
    changes_left_out,
    compared_seconds,
    milestones,
    simulate_and_forecast,
    variation,
)
from plantfed_lab.simulation.rates import heaviest, rates, until_rest
from plantfed_lab.simulation.result import Rates, SimulationResult
from plantfed_lab.simulation.run import run, simulate
from plantfed_lab.simulation.scenario import SHIPPED, load_scenario
from plantfed_lab.simulation.variations import (
    CHANGES,
    UNCHANGED,
    Change,
    machines_of,
    run_without_training,
)
from plantfed_lab.tennessee_eastman import federation_definition
from plantfed_shared.definition import FederationDefinition

SLOW_LINKS, SLOW_COMPUTERS, TWICE, FOUR_TIMES = CHANGES


def forecast(folder: Path, text: str = QUICK) -> SimulationResult:
    return simulate_and_forecast(
        load_scenario(str(write(folder, text))), 0, lambda _: None, lambda _name, _part: None
    )


def test_rates_are_per_machine_and_day() -> None:
    found = rates(made_up_simulation(5, seconds=43_200.0))
    assert found.machines == 5
    # 11 + 12 + 13 + 14 + 15 updates and 15 MB up in half a day
    assert found.updates == pytest.approx(2 * 65 / 5)
    assert found.bytes_up == pytest.approx(2 * 15e6 / 5)
    assert found.bytes_down == pytest.approx(2 * 30e6 / 5)
    assert found.release_interval_s == pytest.approx(43_200 / 90)
    assert found.mean_staleness == 1.0


def test_a_federation_that_did_nothing_has_no_interval_and_no_staleness() -> None:
    result = made_up_simulation()
    idle = tuple(m.model_copy(update={"updates": 0}) for m in result.machines)
    nothing = {"updates": 0, "releases": 0, "staleness_counts": (), "machines": idle}
    found = rates(result.model_copy(update=nothing))
    assert (found.updates, found.release_interval_s, found.mean_staleness) == (0.0, None, None)


def test_the_machine_with_the_most_bytes() -> None:
    most = heaviest(made_up_simulation(5, seconds=43_200.0))
    assert most.id == "press-0005"
    assert (most.bytes_up, most.bytes_down) == (10e6, 20e6)


def test_milestones_are_the_target_and_almost_the_best() -> None:
    target, near = milestones(made_up_simulation(target=0.5))
    assert (target.kind, target.score) == ("target", 0.5)
    assert (near.kind, near.score) == ("near best", pytest.approx(0.97 * 0.9))
    assert target.reached is not None
    assert near.reached is not None
    assert (target.reached.releases, near.reached.releases) == (50, 90)


def test_a_target_may_be_missed_or_not_be_wanted() -> None:
    missed, near = milestones(made_up_simulation(target=0.95))
    assert missed.reached is None
    assert near.reached is not None
    assert [m.kind for m in milestones(made_up_simulation(target=None))] == ["near best"]
    assert milestones(made_up_simulation(scored=False)) == ()


def test_almost_the_best_error_is_a_little_larger() -> None:
    (near,) = milestones(made_up_simulation(kind="minus rmse", target=None))
    assert near.score == pytest.approx(-1 / 0.97)
    assert near.reached is not None


def test_a_variation_changes_the_run_as_it_changed_the_one_without_training() -> None:
    result = made_up_simulation(5)
    found, reached = rates(result), milestones(result)
    base = Rates(
        machines=5,
        updates=100,
        bytes_up=1000,
        bytes_down=2000,
        release_interval_s=10,
        mean_staleness=3,
    )
    changed = Rates(
        machines=10,
        updates=50,
        bytes_up=500,
        bytes_down=3000,
        release_interval_s=15,
        mean_staleness=4,
    )
    expected = variation("c", found, None, base, changed, reached)
    assert expected.measured == changed
    assert expected.expected.machines == 10
    assert expected.expected.updates == pytest.approx(found.updates / 2)
    assert expected.expected.bytes_up == pytest.approx(found.bytes_up / 2)
    assert expected.expected.bytes_down == pytest.approx(found.bytes_down * 1.5)
    assert expected.expected.release_interval_s == pytest.approx(43_200 / 90 * 1.5)
    assert expected.expected.mean_staleness == 4
    # as many updates take twice as long
    found_s = [m.reached.seconds for m in reached if m.reached]
    assert expected.milestone_s == pytest.approx([2 * s for s in found_s])


def test_without_updates_no_time_is_estimated() -> None:
    result = made_up_simulation(target=0.95)
    found, reached = rates(result), milestones(result)
    silent = found.model_copy(update={"updates": 0.0, "release_interval_s": None})
    assert variation("c", found, None, found, silent, reached).milestone_s == (None, None)
    assert variation("c", found, None, silent, found, reached).expected.updates == 0.0
    # what was not reached is not estimated
    assert variation("c", found, None, found, found, reached).milestone_s[0] is None


def test_long_runs_are_compared_by_a_part() -> None:
    result = made_up_simulation(5, seconds=1000.0)
    assert compared_seconds(result) == 1000.0
    machines = [m.model_copy(update={"updates": COMPARED_UPDATES}) for m in result.machines]
    busy = result.model_copy(update={"machines": tuple(machines)})
    assert compared_seconds(busy) == pytest.approx(1000.0 / 5)
    many = made_up_simulation(2 * COMPARED_UPDATES, seconds=1000.0)
    wanted = COMPARED_UPDATES_EACH * len(many.machines)
    assert compared_seconds(many) == pytest.approx(1000.0 * min(1.0, wanted / many.updates))


def test_what_a_machine_does_at_rest_counts_for_no_day() -> None:
    result = made_up_simulation(5, rests=True)
    assert rates(result).updates == pytest.approx(13 * 96)
    assert rates(result).bytes_up == pytest.approx(1.5e6 * 96)
    assert rates(result).bytes_down == pytest.approx(3e6 * 96)
    assert rates(result).release_interval_s == pytest.approx(900 / 90)
    most = heaviest(result)
    assert (most.id, most.bytes_up) == ("press-0005", pytest.approx(2.5e6 * 96))


def test_what_a_machine_does_until_it_rests() -> None:
    result = made_up_simulation(5, rests=True)
    whole = until_rest(result)
    assert whole is not None
    assert (whole.updates, whole.bytes_up, whole.bytes_down) == (13, 3e6, 6e6)
    assert (whole.seconds, whole.rested) == (900.0, 5)
    assert until_rest(made_up_simulation(5)) is None
    # one that has done a third of its rounds when the run ends
    slow = result.machines[0].model_copy(update={"rest": None, "rounds": 4})
    conditions = slow.conditions.model_copy(update={"max_rounds_without_new_rows": 12})
    slow = slow.model_copy(update={"conditions": conditions})
    found = until_rest(result.model_copy(update={"machines": (slow, *result.machines[1:])}))
    assert found is not None
    assert found.rested == 4
    assert found.seconds == pytest.approx(3 * result.seconds)
    assert found.updates == pytest.approx((3 * 11 + 12 + 13 + 14 + 15) / 5)
    # one without a round says nothing
    idle = slow.model_copy(update={"rounds": 0, "updates": 0})
    found = until_rest(result.model_copy(update={"machines": (idle, *result.machines[1:])}))
    assert found is not None
    assert found.updates == pytest.approx((12 + 13 + 14 + 15) / 4)


RESTING = QUICK.replace('"no limit"', "8").replace("updates = 60", "duration_s = 14400")


@pytest.fixture
def compared_by_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forecasts compare by a quarter of the updates: enough for six machines."""
    monkeypatch.setattr(forecast_module, "COMPARED_UPDATES", COMPARED_UPDATES // 4)


@pytest.mark.usefixtures("compared_by_few")
def test_machines_that_rest_are_forecast_by_what_they_do_before(tmp_path: Path) -> None:
    """The same machines need twice as long on slower computers, and as many bytes."""
    result = forecast(tmp_path, RESTING)
    assert result.forecast is not None
    rest = result.forecast.until_rest
    assert rest is not None
    assert (rest.updates, rest.rested) == (8, 6)
    assert rest.bytes_up == pytest.approx(result.bytes.up / 6)
    by_name = {v.change: v.until_rest for v in result.forecast.variations}
    expected = by_name[SLOW_COMPUTERS.name]
    assert expected is not None
    slow = RESTING.replace("median = 30", "median = 60")
    really = until_rest(run_of(tmp_path, slow))
    assert really is not None
    assert expected.updates == really.updates
    assert expected.seconds == pytest.approx(really.seconds, rel=0.25)
    assert expected.bytes_up == pytest.approx(really.bytes_up, rel=0.1)
    assert expected.bytes_down == pytest.approx(really.bytes_down, rel=0.25)


def test_a_run_that_ends_before_the_machines_rest_says_what_they_would_do(tmp_path: Path) -> None:
    whole = until_rest(run_of(tmp_path, RESTING))
    part = until_rest(run_of(tmp_path, RESTING.replace("14400", "300")))
    assert whole is not None
    assert part is not None
    assert part.rested < whole.rested == 6
    assert part.updates == pytest.approx(whole.updates, rel=0.2)
    assert part.bytes_up == pytest.approx(whole.bytes_up, rel=0.2)


@pytest.mark.usefixtures("compared_by_few")
def test_a_federation_with_a_last_release_is_compared_without_it(tmp_path: Path) -> None:
    text = QUICK.replace("updates = 60", "duration_s = 14400")
    text += "[federation]\nschedule = { max_releases = 30 }\n"
    result = forecast(tmp_path, text)
    assert result.forecast is not None
    assert result.forecast.until_rest is not None
    assert (result.releases, result.forecast.until_rest.rested) == (30, 6)
    by_name = {v.change: v.measured for v in result.forecast.variations}
    assert by_name[TWICE.name].updates > 0.7 * result.forecast.compared_with.updates
    compared = tried(tmp_path, TWICE, text, seconds=2 * compared_seconds(result))
    assert compared.releases > 30
    assert {m.rest for m in compared.machines} == {None}


def run_of(folder: Path, text: str) -> SimulationResult:
    return simulate(load_scenario(str(write(folder, text))), 0, lambda _: None)


def test_changes_that_change_nothing_or_take_too_long_are_left_out() -> None:
    assert changes_left_out(made_up_simulation(5)) == {}
    assert set(changes_left_out(made_up_simulation(1000))) == {FOUR_TIMES.name}
    assert set(changes_left_out(made_up_simulation(2000))) == {TWICE.name, FOUR_TIMES.name}
    result = made_up_simulation(2)
    unlimited = {"uplink_bits_per_s": None, "downlink_bits_per_s": None}
    machines = tuple(
        m.model_copy(update={"conditions": m.conditions.model_copy(update=unlimited)})
        for m in result.machines
    )
    left_out = changes_left_out(result.model_copy(update={"machines": machines}))
    assert set(left_out) == {SLOW_LINKS.name}


def tried(
    folder: Path, change: Change, text: str = QUICK, seconds: float = 400.0
) -> SimulationResult:
    loaded = load_scenario(str(write(folder, text)))
    federation = build(loaded, 0)
    main = run(federation, loaded, 0, lambda _: None)
    machines = machines_of([m.site for m in federation.machines], main.machines)
    return run_without_training(loaded, machines, 0, change, seconds)


def test_nothing_changed_is_the_same_run(tmp_path: Path) -> None:
    main = forecast(tmp_path)
    same = tried(tmp_path, UNCHANGED, seconds=main.seconds)
    conditions = {m.id: m.conditions for m in main.machines}
    assert {m.id: m.conditions for m in same.machines} == conditions
    assert same.updates == pytest.approx(main.updates, rel=0.1)


def test_slower_links_and_computers_are_really_slower(tmp_path: Path) -> None:
    base = tried(tmp_path, UNCHANGED)
    for before, after in zip(base.machines, tried(tmp_path, SLOW_LINKS).machines, strict=True):
        assert after.conditions.uplink_bits_per_s == 16e3
        assert after.conditions.downlink_bits_per_s == 16e3
        assert after.conditions.compute_s == before.conditions.compute_s
    slow = tried(tmp_path, SLOW_COMPUTERS)
    for before, after in zip(base.machines, slow.machines, strict=True):
        assert after.conditions.compute_s == 2 * before.conditions.compute_s
        assert after.conditions.uplink_bits_per_s == 64e3
    assert slow.updates < 0.75 * base.updates


def test_a_change_of_pace_changes_no_updates_length(tmp_path: Path) -> None:
    base, slow = (tried(tmp_path, change, CODED) for change in (UNCHANGED, SLOW_COMPUTERS))
    length = base.bytes.up / base.updates
    assert slow.bytes.up / slow.updates == pytest.approx(length, rel=0.03)


def test_copies_have_the_conditions_of_their_machine(tmp_path: Path) -> None:
    slow = '\n[[machine]]\nid = "machine-3"\ncompute_s = 400\nloss = 0.5\n'
    base = tried(tmp_path, UNCHANGED, QUICK + slow)
    more = tried(tmp_path, FOUR_TIMES, QUICK + slow)
    assert len(more.machines) == 24
    drawn = sorted(str(m.conditions) for m in base.machines)
    assert sorted(str(m.conditions) for m in more.machines) == sorted(4 * drawn)
    assert sum(m.conditions.compute_s == 400 for m in more.machines) == 4
    # its own losses and slow rounds
    assert len({m.bytes_again for m in more.machines if m.conditions.loss == 0.5}) > 1


def test_a_copy_takes_no_machines_id(tmp_path: Path) -> None:
    loaded = load_scenario(str(write(tmp_path)))
    federation = build(loaded, 0)
    main = run(federation, loaded, 0, lambda _: None)
    machines = machines_of([m.site for m in federation.machines], main.machines)
    clumsy = ("copy-1-of-0", "copy-1-of-0-", "copy-1-of-0--", "copy-2-of-5", "copy-3-of-5-", "m")
    renamed = [
        replace(machine, site=replace(machine.site, id=name))
        for machine, name in zip(machines, clumsy, strict=True)
    ]
    result = run_without_training(loaded, renamed, 0, FOUR_TIMES, 600.0)
    assert len({m.id for m in result.machines}) == 24
    assert {m.id for m in result.machines} > set(clumsy)
    assert sum(m.updates for m in result.machines) == result.updates


def test_a_forecast_repeats_itself_and_leaves_the_run_alone(tmp_path: Path) -> None:
    first, again = forecast(tmp_path), forecast(tmp_path)
    assert first.to_json() == again.to_json()
    assert first.forecast is not None
    assert [v.change for v in first.forecast.variations] == [c.name for c in CHANGES]
    assert first.forecast.left_out == {}
    assert first.forecast.milestones == ()
    assert first.updates == 60
    assert SimulationResult.model_validate_json(first.to_json()) == first


def test_a_federation_that_shares_nothing_is_forecast_too(tmp_path: Path) -> None:
    definition = federation_definition().model_dump()
    definition |= {"personal": ["*"], "algorithm": {"mode": "local"}}
    path = tmp_path / "federation.toml"
    write_federation_file(path, FederationDefinition.model_validate(definition))
    text = QUICK + '\n[federation]\nfile = "federation.toml"\n'
    result = forecast(tmp_path, text)
    assert result.updates == 60
    assert result.forecast is not None


def test_a_run_with_training_is_forecast_too(tmp_path: Path) -> None:
    text = (SHIPPED / "flaky.toml").read_text(encoding="utf-8")
    result = forecast(tmp_path, text.replace("duration_s = 259_200", "updates = 25"))
    found = result.forecast
    assert found is not None
    assert [m.kind for m in found.milestones] == ["target", "near best"]
    by_name = {v.change: v for v in found.variations}
    assert by_name[TWICE.name].measured.machines == 40
