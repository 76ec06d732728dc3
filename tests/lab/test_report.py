import re

import pytest
from rich.console import Console
from tests.lab.pages import Page
from tests.lab.synthetic import made_up_agent, made_up_result

from plantfed_lab.charts import LONG_TAIL, accuracy_chart
from plantfed_lab.plots import MANY_MACHINES, MANY_NAMES
from plantfed_lab.report import render_report
from plantfed_lab.results import DemoResult, Package
from plantfed_lab.summary import summary
from plantfed_lab.verdict import ENOUGH_UPDATES, headline, too_short, verdict


@pytest.mark.parametrize("n_agents", [1, 5, MANY_MACHINES + 1])
@pytest.mark.parametrize("schedule", ["async", "sync"])
def test_the_report_is_one_well_formed_page_with_every_agent(n_agents: int, schedule: str) -> None:
    result = made_up_result(n_agents, schedule=schedule)
    html = render_report(result)
    page = Page(html)
    assert html.startswith("<!DOCTYPE html>")
    assert len(page.ids) == len(set(page.ids))
    for agent in result.agents:
        assert agent.id in page.text
    assert result.model.checksum in page.text
    assert headline(result) in " ".join(page.text.split())


def test_the_report_loads_nothing_from_anywhere() -> None:
    html = render_report(made_up_result())
    page = Page(html)
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert all(target.startswith("#") for target in page.targets)
    assert {target.removeprefix("#") for target in page.targets} <= set(page.ids)
    assert not re.findall(r"https?:|url\((?!#)|@import", html)


def test_what_comes_from_outside_is_escaped() -> None:
    assert "&lt;IDV(1)&gt;" in render_report(made_up_result())


def test_plots_take_their_colours_from_the_page() -> None:
    html = render_report(made_up_result())
    plots = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL))
    assert plots.count("<svg") == 3
    assert "var(--personal)" in plots
    assert not re.findall(r"#[0-9a-f]{6}\b", plots)


def test_equal_results_give_equal_reports() -> None:
    assert render_report(made_up_result()) == render_report(made_up_result())


@pytest.mark.parametrize(("n_agents", "rotated"), [(MANY_NAMES, 0), (MANY_NAMES + 1, 11)])
def test_names_of_machines_are_upright_where_they_fit(n_agents: int, rotated: int) -> None:
    plot = accuracy_chart(made_up_result(n_agents).agents)
    assert plot.count("rotate(-45") == rotated


def test_figures_have_units_and_separators() -> None:
    agent = made_up_agent(1, gain=0.1)
    heavy = agent.model_copy(update={"bytes_down": 1_374_000, "messages_up": 2_345})
    small = Package(name="annotated-types", version="0.8.0", megabytes=0.04)
    changes = {"agents": (heavy,), "packages": (small,)}
    html = render_report(made_up_result(1).model_copy(update=changes))
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", html)
    assert {"1,374", "2,345", "below 0.1"} <= set(cells)
    assert html.count(">accuracy</text>") == 2
    assert "100 %</text>" in html


def test_a_thin_run_is_called_so_and_can_be_repeated() -> None:
    for thin in (True, False):
        result = made_up_result(thin=thin)
        text = " ".join(Page(render_report(result)).text.split())
        assert ("--seed 4 --mode fedapm --model mlp --thin" in text) == thin
        assert ("Messages were made short" in text) == thin
        assert ("short messages (--thin)" in printed(result)) == thin
        assert f"kind {result.compression['kind']}" in text


@pytest.mark.parametrize(
    ("mode", "other", "stayed"),
    [("auto", "fedapm", "no machine's own class prior"), ("fedapm", "auto", "no personal head")],
)
def test_a_run_says_its_mode_and_network_and_what_the_other_mode_reaches(
    mode: str, other: str, stayed: str
) -> None:
    changes = {"algorithm": {"mode": mode}, "other_mode": other, "network": "cnn1d"}
    result = made_up_result().model_copy(update=changes)
    html = render_report(result)
    text = " ".join(Page(html).text.split())
    assert f"--releases 12 --seed 4 --mode {mode} --model cnn1d" in text
    assert f"No row of sensor data and {stayed} left a machine." in text
    # once in the table of ways, mean and worst, and once for each machine
    cells = [cell.strip() for cell in re.findall(r"<td[^>]*>([^<]*)", html)]
    assert cells.count("45.0 %") == 2 + len(result.agents)
    assert f"mode {other}" in text


def test_rare_late_updates_share_a_bar() -> None:
    assert f"{LONG_TAIL} or more" in render_report(made_up_result())


@pytest.mark.parametrize(
    ("gain", "words"),
    [(0.1, "10.0 points more"), (-0.1, "has not paid off"), (0.001, "no difference")],
)
def test_the_verdict_says_how_it_is(gain: float, words: str) -> None:
    said = verdict(made_up_result(gain=gain, updates=ENOUGH_UPDATES))
    assert words in said
    assert "too short" not in said


@pytest.mark.parametrize("gain", [-0.1, 0.001])
def test_a_run_that_was_too_short_is_called_so_with_figures(gain: float) -> None:
    result = made_up_result(gain=gain)
    said = verdict(result)
    assert "too short to judge by: 12 releases gave each machine 3.0 updates on average" in said
    assert "about 20. Try --releases 80 or more." in said
    assert "has not paid off" not in said
    assert said in " ".join(printed(result).split())
    text = " ".join(Page(render_report(result)).text.split())
    assert headline(result) in text
    assert too_short(result) in text


def test_one_machine_has_nobody_to_learn_from_however_long_it_runs() -> None:
    assert "too short" not in verdict(made_up_result(1, gain=0.0))


def test_one_of_anything_is_said_in_the_singular() -> None:
    result = made_up_result(1).model_copy(update={"releases": 1, "updates": 1})
    text = " ".join(Page(render_report(result)).text.split())
    assert "1 release from 1 update " in text
    assert "1 of 1 machine gained" in text
    assert "1 release, 1 update in 34 s" in printed(result)


def printed(result: DemoResult) -> str:
    console = Console(width=80, record=True, file=None, quiet=True)
    with console.capture() as captured:
        console.quiet = False
        console.print(summary(result))
    return captured.get()


def test_the_summary_fits_a_terminal() -> None:
    lines = printed(made_up_result()).splitlines()
    assert max(map(len, lines)) <= 80
    assert any("personal" in line and "0.600" in line for line in lines)
