"""The report and the summary of a simulation, made from made-up results."""

import re

import pytest
from tests.lab.pages import Page
from tests.lab.simulation.synthetic import made_up_simulation

from plantfed_lab.plots import MANY_MACHINES
from plantfed_lab.simulation.charts import (
    by_lateness,
    lateness_chart,
    score_by_lateness,
    score_over_time,
)
from plantfed_lab.simulation.report import SHOWN_AT_EACH_END, by_score, render_simulation_report
from plantfed_lab.simulation.result import SimulationResult
from plantfed_lab.simulation.summary import summary
from plantfed_lab.simulation.wording import duration, headline


def text_of(result: SimulationResult) -> str:
    return " ".join(Page(render_simulation_report(result)).text.split())


@pytest.mark.parametrize("n_machines", [1, 5, MANY_MACHINES, MANY_MACHINES + 1, 1000])
@pytest.mark.parametrize("scored", [True, False])
def test_it_is_one_well_formed_page_that_loads_nothing(n_machines: int, scored: bool) -> None:
    result = made_up_simulation(n_machines, scored=scored)
    html = render_simulation_report(result)
    page = Page(html)
    assert html.startswith("<!DOCTYPE html>")
    assert len(page.ids) == len(set(page.ids))
    assert not {"script", "link"} & page.tags
    assert {target.removeprefix("#") for target in page.targets} <= set(page.ids)
    assert not re.findall(r"https?:|url\((?!#)|@import", html)
    text = " ".join(page.text.split())
    assert headline(result) in text
    assert result.model.checksum in text
    assert html.count("<svg") == (5 if scored else 2)
    assert html == render_simulation_report(result)


def test_few_machines_are_all_named_and_many_at_both_ends() -> None:
    few = text_of(made_up_simulation(MANY_MACHINES))
    assert all(f"press-{n:04d}" in few for n in range(1, MANY_MACHINES + 1))
    html = render_simulation_report(made_up_simulation(1000))
    rows = re.findall(r'<th scope="row">(press-\d+)</th>', html)
    worst = [f"press-{n:04d}" for n in range(1, SHOWN_AT_EACH_END + 1)]
    best = [f"press-{n:04d}" for n in range(1001 - SHOWN_AT_EACH_END, 1001)]
    assert rows == worst + best
    assert "980 machines between" in html


def test_what_comes_from_outside_is_escaped() -> None:
    assert "some &lt;presses&gt;" in render_simulation_report(made_up_simulation())


def test_axes_have_names_and_units() -> None:
    html = render_simulation_report(made_up_simulation(seconds=43_200.0))
    for name in (
        "virtual time, h",
        "MQTT bytes of all machines, up and down, MB",
        "accuracy",
        "100 %",
        "updates",
        "releases made meanwhile",
        "mean staleness, releases",
        "target",
        "worst machine",
    ):
        assert f">{name}</text>" in html
    assert not re.findall(r"<svg.*?#[0-9a-f]{6}\b.*?</svg>", html, flags=re.DOTALL)


@pytest.mark.parametrize(
    ("seconds", "unit"), [(300, "s"), (2400, "min"), (90_000, "h"), (259_200, "d")]
)
def test_the_axis_of_time_is_in_a_unit_that_fits(seconds: float, unit: str) -> None:
    assert f">virtual time, {unit}</text>" in score_over_time(made_up_simulation(seconds=seconds))


def test_errors_are_shown_as_errors() -> None:
    result = made_up_simulation(kind="minus rmse", target=-5.0)
    text = text_of(result)
    assert headline(result).startswith("5 machines reach RMSE 5 after")
    assert "root mean square error, target units" in text
    assert "97 % as good as the best, 1.031" in text
    assert "accuracy" not in text
    # the lowest score is the largest error
    assert "1.8 on the worst machine, press-0001" in text


def test_the_latest_come_first_and_those_who_never_came_before_them() -> None:
    result = made_up_simulation(3)
    first, second, third = result.machines
    silent = third.model_copy(update={"mean_staleness": None, "updates": 0})
    assert by_lateness([second, silent, first]) == [silent, first, second]
    told = text_of(result.model_copy(update={"machines": (first, second, silent)}))
    assert "1 machine delivered nothing" in told
    assert "delivered nothing" not in text_of(result)


def test_names_of_machines_are_in_the_plot_while_they_fit() -> None:
    few = lateness_chart(made_up_simulation(MANY_MACHINES).machines)
    assert few.count(">press-") == MANY_MACHINES
    many = lateness_chart(made_up_simulation(1000).machines)
    assert ">press-" not in many
    assert ">machines, the latest first</text>" in many


def test_without_scores_the_fewest_updates_come_first() -> None:
    result = made_up_simulation(3, scored=False)
    assert [m.updates for m in by_score(result.machines)] == [11, 12, 13]
    text = text_of(result)
    assert "training was switched off" in text
    assert "reached" not in text
    assert "97 %" not in text


REACH, MISS = "50.0 % accuracy after 6.7 h", "95.0 % accuracy in 12.0 h: 90.0 % at best."


@pytest.mark.parametrize(
    ("n", "target", "words"),
    [
        (5, 0.5, f"5 machines reach {REACH}, for 3.0 MB each."),
        (5, 0.95, f"5 machines do not reach {MISS}"),
        (1, 0.5, f"1 machine reaches {REACH}, for 15.0 MB each."),
        (1, 0.95, f"1 machine does not reach {MISS}"),
        (5, None, "5 machines reach 90.0 % accuracy in 12.0 h."),
    ],
)
def test_the_headline_says_what_was_found(n: int, target: float | None, words: str) -> None:
    assert headline(made_up_simulation(n, target=target)) == words


def test_the_headline_of_a_run_without_scores_is_about_traffic() -> None:
    words = "5 machines exchange 9.0 MB each in 12.0 h, for 65 updates."
    assert headline(made_up_simulation(5, scored=False)) == words


def test_the_forecast_is_in_the_report() -> None:
    html = render_simulation_report(made_up_simulation(5, target=0.95))
    rows = [re.sub("<[^>]*>", "|", row) for row in re.findall(r"<tr>.*?</tr>", html, re.DOTALL)]
    cells = {
        row.strip("|").partition("|")[0]: [c for c in row.split("|") if c.strip()] for row in rows
    }
    assert cells["in a day"][1:] == ["6,000", "12,000", "26"]
    assert cells["most bytes: press-0005"][1:] == ["10,000", "20,000", "30"]
    assert cells["target, 95.0 %"][1:2] == ["not reached"]
    assert cells["97 % of the best, 87.3 % (still rising)"][1:] == ["12.0 h", "9.0", "18.0", "36.0"]
    assert cells["computers half as fast"][1:3] == ["not reached", "24.0 h"]
    text = " ".join(Page(html).text.split())
    assert "The times to a score are estimates" in text
    assert "Not tried: four times as many machines (more than 2,500 machines)" in text


def test_a_forecast_says_until_when_machines_that_rest_go_on() -> None:
    result = made_up_simulation(5, target=0.95, rests=True)
    text = text_of(result)
    assert "has trained 11 to 15 rounds on the rows it has" in text
    assert "in this run all machines came to that" in text
    assert "until it rests, 15 min at most3,0006,00013" in text
    told = summary(result).splitlines()
    rest = "13 updates, 3,000 KB up, 6,000 KB down, then it rests until new rows"
    assert f"per machine: {rest}; all do after 15 min" in told
    assert "until it rests" not in text_of(made_up_simulation(5))
    half = "computers half as fast: 3,000 KB up, 12,000 KB down, all rest after about 30 min"
    assert any(line.startswith(half) for line in told)


def test_a_best_at_the_very_end_is_no_convergence() -> None:
    rising = made_up_simulation(5)
    assert "97 % of the best, 87.3 % (still rising)" in text_of(rising)
    assert "still rising" in summary(rising)
    flat = [p.model_copy(update={"mean_score": min(p.mean_score or 0, 0.7)}) for p in rising.curve]
    level = rising.model_copy(update={"curve": tuple(flat)})
    assert "still rising" not in text_of(level)
    assert "still rising" not in summary(level)


def test_a_dot_without_lateness_is_whole() -> None:
    result = made_up_simulation(3)
    fresh = [m.model_copy(update={"mean_staleness": 0.0}) for m in result.machines[:1]]
    chart = score_by_lateness(
        result.model_copy(update={"machines": (*fresh, *result.machines[1:])})
    )
    dots = re.findall(r'id="price-PathCollection_1".*?</g>\s*</g>', chart, re.DOTALL)[0]
    left = min(float(x) for x in re.findall(r' x="([\d.]+)"', dots))
    spine = float(re.findall(r'id="price-patch_3".*?d="M ([\d.]+)', chart, re.DOTALL)[0])
    assert left > spine + 2


def test_the_name_of_the_worst_machine_keeps_its_full_stop() -> None:
    html = render_simulation_report(made_up_simulation(3))
    assert '<span class="id">press-0001.</span>' in html


def test_times_to_a_score_come_first_among_the_changes() -> None:
    heads = re.findall(
        r"<thead>.*?</thead>", render_simulation_report(made_up_simulation()), re.DOTALL
    )
    (head,) = [h for h in heads if "a release every" in h]
    columns = re.findall(r"<th[^>]*>([^<]*)</th>", head)
    assert columns[1:3] == ["to target", "to 97 % of the best"]


def test_a_result_without_a_forecast_is_told_too() -> None:
    result = made_up_simulation().model_copy(update={"forecast": None})
    assert "What would change" not in text_of(result)
    assert "per machine and day" not in summary(result)


def test_the_summary_has_the_forecast_in_short() -> None:
    told = summary(made_up_simulation(5, target=0.95)).splitlines()
    assert "accuracy 90.0 % on average, 20.0 % on press-0001" in told
    assert "per machine and day: 6,000 KB up, 12,000 KB down, 26 updates" in told
    assert "target, 95.0 %: not reached" in told
    assert (
        "97 % of the best, 87.3 %: after 12.0 h and 27.0 MB of all machines, still rising" in told
    )
    assert any(line.startswith("computers half as fast: 3,000 KB up") for line in told)
    assert "four times as many machines: not tried, more than 2,500 machines" in told
    unscored = summary(made_up_simulation(scored=False))
    assert "average" in unscored
    assert "accuracy" not in unscored
    assert "reached" not in unscored


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(90, "90 s"), (660, "11 min"), (7200, "2.0 h"), (61_200, "17.0 h"), (259_200, "3.0 d")],
)
def test_durations_are_in_a_unit_that_fits(seconds: float, words: str) -> None:
    assert duration(seconds) == words
