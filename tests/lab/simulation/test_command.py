"""``plantfed simulate`` as a reader uses it: its files, its lines, one line for what is wrong."""

import json
from pathlib import Path

import pytest
from rich.console import Console
from tests.lab.simulation.commands import (
    NOTHING_HAPPENS,
    SETTINGS,
    TRAINING,
    assert_one_line,
    run,
    run_here,
)
from tests.lab.simulation.scenarios import CODED, QUICK, write

import plantfed_lab.simulation.command as display_of_a_run


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    scenario = write(tmp_path, CODED.replace("updates = 60", "updates = 12"))
    first = run(scenario, "--json", tmp_path / "a.json", PYTHONHASHSEED="1")
    again = run(
        scenario, "--json", tmp_path / "b.json", "--out", tmp_path / "o", PYTHONHASHSEED="2"
    )
    other = run(scenario, "--json", tmp_path / "c.json", "--seed", 1)
    assert (first.returncode, again.returncode, other.returncode) == (0, 0, 0), first.stderr
    found = (tmp_path / "a.json").read_bytes()
    assert found == (tmp_path / "b.json").read_bytes()
    assert found == (tmp_path / "o" / "result.json").read_bytes()
    assert found != (tmp_path / "c.json").read_bytes()
    result = json.loads(found)
    assert result["updates"] == 12
    assert "12 updates" in first.stdout
    assert result["model"]["checksum"] in first.stdout
    assert result["forecast"]["rates"]["machines"] == 6
    assert "twice as many machines: " in first.stdout
    report = tmp_path / "o" / "report.html"
    assert again.stdout.endswith(f"report: {report}\n")
    assert result["model"]["checksum"] in report.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("count = 6", "colour = 6", ("unknown key 'machines.colour'", "Allowed here", "compute_s")),
        ("updates = 60", "update = 60", ("unknown key 'scenario.update'", "updates")),
        ("updates = 60", "", ("scenario", "would never end", "duration_s")),
        (
            "updates = 60",
            "duration_s = 86_400\nevaluate_every_s = 0.01",
            (": scenario: evaluate_every_s = 0.01", "50,000 points", "make it 2 or more"),
        ),
        (
            'updates = 60\n\n[data]\nkind = "none"',
            "updates = 60\ntarget_score = 75",
            ("scenario.target_score = 75: is above 1", "0.75 for 75 %"),
        ),
        ("latency_s = 0.3", "latency_s = -1", ("machines.latency_s = -1", "must be 0 or more")),
        ("latency_s = 0.3", "latency_s = nan", ("machines.latency_s = nan", "finite")),
        (
            'kind = "none"',
            'kind = "none"\n[federation]\nalgorithm = { relaxation = 1.3333 }',
            ("federation.algorithm.relaxation = 1.3333", "nearest that is: 1.33203125"),
        ),
        ("updates = 60", "duration_s = nan", ("scenario.duration_s = nan", "finite")),
        (
            'updates = 60\n\n[data]\nkind = "none"',
            "updates = 60\ntarget_score = -3",
            ("scenario.target_score = -3: is below 0", "0.75 for 75 %"),
        ),
        (
            "updates = 60",
            "updates = 60\ntarget_score = 0.5",
            ("scenario.target_score", "data.kind = 'none' nothing is scored"),
        ),
        ('"quick"', '"qui\\u001b[31mck"', ("scenario.name = ", "control characters")),
        ("updates = 60", "duration_s = 1e12", ("scenario.duration_s = 1", "315360000")),
        (
            "updates = 60",
            "updates = 60\nevaluate_every_s = 1e-9",
            ("scenario.evaluate_every_s = 1e-09", "0.001"),
        ),
        (
            "uplink_bits_per_s = 64e3",
            "uplink_bits_per_s = -5",
            ("machines.uplink_bits_per_s = -5", "must be above 0"),
        ),
        (
            "uplink_bits_per_s = 64e3",
            "uplink_bits_per_s = 0",
            ("machines.uplink_bits_per_s = 0", "must be above 0"),
        ),
        (
            "sigma = 0.6",
            "spread = 0.6",
            ("unknown key 'machines.compute_s.spread'", "Allowed here", "sigma"),
        ),
        (
            'kind = "none"',
            'kind = "none"\n[federation]\nfile = 5',
            ("federation.file = 5", "a path in quotes"),
        ),
        (
            'kind = "none"\n\n[machines]\ncount = 6',
            'kind = "files"\nagents = ["."]\n\n[machines]',
            ("no file matches '.'", "data.agents"),
        ),
        (
            "latency_s = 0.3",
            "latency_s = '300 ms'",
            ("machines.latency_s = '300 ms'", "a number, or a law like { kind = 'uniform'"),
        ),
        (
            'rows = "no limit"',
            'rows = "none"',
            ("rounds_without_new_rows = 'none'", "a whole number, or 'no limit'"),
        ),
        ("loss = 0.02", "loss = 1.5", ("machines.loss = 1.5", "less than or equal to 0.99")),
        ("count = 6", "count = 100_000_000", ("machines.count = 100000000", "100000")),
        (
            "loss = 0.02",
            "restarts = { mean_every_s = 1e-300 }",
            ("machines.restarts.mean_every_s = 1e-300", "greater than or equal to 1"),
        ),
        (
            'kind = "none"',
            'kind = "none"\n[federation]\nalgorithm = { mode = "fedbuff" }\n'
            'schedule = { kind = "sync" }',
            (": federation: fedbuff has no rounds",),
        ),
        ("loss = 0.02", '[[machine]]\nid = "press"', ("'press'", "none of the 6", "machine-1")),
        ('kind = "none"', 'kind = "cmapss"', ("data.kind = 'cmapss'", "tennessee-eastman")),
        (
            'kind = "none"',
            'kind = "none"\n[federation]\nfile = "federation.toml"',
            ("federation.file = 'federation.toml'", "no such file"),
        ),
        (
            'kind = "none"',
            'kind = "none"\n[federation]\nalgorithm = { colour = 1 }',
            ("unknown key 'federation.algorithm.colour'", "learning_rate"),
        ),
        (
            'kind = "none"',
            'kind = "none"\n[federation]\nalgorithm = { penalty = -1 }',
            ("federation.algorithm.penalty = -1", "greater than 0"),
        ),
        (
            'kind = "none"\n\n[machines]\ncount = 6',
            "\n[machines]\ncount = 401",
            ("machines.count = 401", "400 plants", "'none'"),
        ),
        (
            'kind = "none"\n\n[machines]\ncount = 6',
            'kind = "files"\nagents = ["sites/*/agent.toml"]\n\n[machines]',
            ("no file matches 'sites/*/agent.toml'", "data.agents"),
        ),
    ],
)
def test_what_is_wrong_in_a_scenario(
    old: str,
    new: str,
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert old in QUICK
    path = write(tmp_path, QUICK.replace(old, new))
    assert_one_line(run_here(monkeypatch, capsys, path), SETTINGS, ".toml", *words)


def test_a_process_says_of_a_wrong_scenario_what_is_said_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, QUICK.replace("count = 6", "colour = 6"))
    there, here = run(path), run_here(monkeypatch, capsys, path)
    assert (there.returncode, there.stdout, there.stderr) == (
        here.returncode,
        here.stdout,
        here.stderr,
    )


@pytest.mark.parametrize("updates", [2, 10**6])
@pytest.mark.parametrize("takes", ["compute_s = 0", "compute_s = 0\nlatency_s = 1e-5"])
def test_a_scenario_in_which_no_time_passes(updates: int, takes: str, tmp_path: Path) -> None:
    machines = f"updates = {updates}\n[data]\nkind = 'none'\n[machines]\n{takes}\n"
    path = write(tmp_path, f"[scenario]\nname = 'instant'\n{machines}")
    result = tmp_path / "r.json"
    assert_one_line(run(path, "--json", result), SETTINGS, "stands still", "0.001", "compute_s")
    assert not result.exists()


def test_rounds_that_never_finish_end_with_one_line_and_the_result(tmp_path: Path) -> None:
    text = QUICK.replace("updates = 60", "releases = 5\nevaluate_every_s = 86400")
    text += "start_s = 1e9\n[federation]\nschedule = { kind = 'sync' }\n"
    assert_one_line(
        run(write(tmp_path, text), "--out", tmp_path / "o"),
        NOTHING_HAPPENS,
        "week",
        "scenario.toml: ",
    )
    result = json.loads((tmp_path / "o" / "result.json").read_text())
    assert (result["updates"], result["forecast"]) == (0, None)
    assert (tmp_path / "o" / "report.html").stat().st_size > 0


DIVERGES = QUICK.replace('kind = "none"', 'kind = "tennessee-eastman"')


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("algorithm = { learning_rate = 1e6 }", ("learning_rate = 1e+06", "diverged", "Lower")),
        # two of the machines are never drawn
        (
            "algorithm = { learning_rate = 1e6 }\n"
            "schedule = { kind = 'sync', participation = 0.6, min_members = 6 }",
            ("learning_rate = 1e+06", "diverged", "Lower"),
        ),
        # after some good updates
        ("algorithm = { learning_rate = 2 }", ("too large for the lattice", "learning rate")),
        ("algorithm = { max_norm = 1e-9 }", ("not applied (rejected)", "longer than 1e-09")),
    ],
)
def test_training_that_fails_everywhere_ends_the_run(
    section: str, words: tuple[str, ...], tmp_path: Path
) -> None:
    text = DIVERGES.replace("updates = 60", "duration_s = 3e8\nevaluate_every_s = 1e4")
    path = write(tmp_path, f"{text}\n[federation]\n{section}\n")
    outcome = run(path, "--out", tmp_path / "o")
    assert_one_line(
        outcome, TRAINING, "scenario.toml: every round is in vain; machine plant-0", *words
    )
    result = json.loads((tmp_path / "o" / "result.json").read_text())
    assert (result["ended_by"], result["forecast"]) == ("every round is in vain", None)
    assert result["trouble"] in outcome.stderr
    assert result["seconds"] < 86_400
    assert (tmp_path / "o" / "report.html").stat().st_size > 0


def test_a_curve_of_unknown_length_ends_a_run_that_makes_it_too_long(tmp_path: Path) -> None:
    text = QUICK.replace("updates = 60", "updates = 6000\nevaluate_every_s = 0.001")
    path = write(tmp_path, text)
    words = ("scenario.toml: ended after 50 s", "50,000 points", "evaluate_every_s", "duration_s")
    assert_one_line(run(path, "--json", tmp_path / "r.json"), SETTINGS, *words)
    result = json.loads((tmp_path / "r.json").read_text())
    assert (result["ended_by"], len(result["curve"])) == ("too many points of the curve", 50_001)


def test_an_unknown_scenario_names_those_there_are() -> None:
    words = ("'tep'", "flaky, skewed-speeds, tep-20, thin-link")
    assert_one_line(run("tep"), SETTINGS, *words)
    assert_one_line(run("sites/tep.toml"), SETTINGS, "sites/tep.toml", "no such file")
    assert_one_line(run("x" * 5000), SETTINGS, "there is no scenario")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--seed", "-1"), "--seed"),
        (("--json", "/tmp"), "/tmp"),
        (("--json=",), "names no file"),
        (("--json", "-"), "names no file"),
        (("--out=",), "names no directory"),
        (("--out", __file__), "--out"),
    ],
)
def test_a_wrong_command_line_is_one_line(words: tuple[str, ...], told: str) -> None:
    assert_one_line(run("tep-20", *words), 2, told, "See plantfed simulate --help")


def test_what_takes_long_to_build_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(display_of_a_run, "monotonic", lambda: now[0])
    display = display_of_a_run.Display(Console(), "quick")
    for now[0], done in ((0.5, 10), (2.0, 40), (3.0, 60), (60.0, 99)):
        display.building(done, 100)
    told = capsys.readouterr().out.splitlines()
    assert told == ["  0%  building: 40 of 100 machines", "  0%  building: 99 of 100 machines"]
