"""``plantfed simulate`` as a reader uses it: its files, its lines, one line for what is wrong."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from tests.compiled_federations import write_federation
from tests.lab.simulation.scenarios import CODED, QUICK, simulated, write

import plantfed_lab.simulation.command as display_of_a_run
from plantfed_lab.cli import commands
from plantfed_lab.plant_files import write_agent_file, write_federation_file, write_plant
from plantfed_lab.tennessee_eastman import federation_definition, plants
from plantfed_shared.command_line import UNREAD
from plantfed_shared.command_line import run as run_command
from plantfed_shared.errors import ConfigError

NOTHING_HAPPENS, DATA, TRAINING, STORAGE, SETTINGS, INTERRUPTED = 1, 65, 70, 74, 78, 130
HEAD = """[agent]
id = "{id}"
federation = "tennessee-eastman"

[broker]
url = "mqtt://127.0.0.1:1883"
"""
ENDLESS = QUICK.replace("updates = 60", "duration_s = 3e8\nevaluate_every_s = 1e4")


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "plantfed_lab", "simulate", *map(str, arguments)]


def run(
    *arguments: object, folder: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        cwd=folder,
        check=False,
        timeout=100,
    )


def run_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> subprocess.CompletedProcess[str]:
    """The same without a process of its own, which takes most of a second to import it all."""
    words = ["plantfed", "simulate", *map(str, arguments)]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as end:
        run_command(commands, "plantfed")
    assert isinstance(end.value.code, int)
    said = capsys.readouterr()
    return subprocess.CompletedProcess(words, end.value.code, said.out, said.err)


def assert_one_line(outcome: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert outcome.returncode == code, outcome
    lines = outcome.stderr.splitlines()
    assert len(lines) == 1, outcome.stderr
    assert lines[0].startswith("plantfed: ")
    for word in words:
        assert word in lines[0], lines[0]


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


def sites(folder: Path) -> str:
    """Three plants as they lie on their machines, and a scenario of them."""
    write_federation_file(folder / "federation.toml", federation_definition())
    for plant in plants(0, 3):
        site = folder / plant.id
        site.mkdir()
        head = HEAD.format(id=plant.id)
        write_agent_file(site / "agent.toml", head, write_plant(site, plant), 2)
    text = QUICK.replace('kind = "none"', 'kind = "files"\nagents = ["*/agent.toml"]')
    text = text.replace('count = 6\nmax_rounds_without_new_rows = "no limit"\n', "").replace(
        "updates = 60", "updates = 6"
    )
    return text + '\n[federation]\nfile = "federation.toml"\n'


def test_ones_own_files_are_simulated_as_the_agents_read_them(tmp_path: Path) -> None:
    path = write(tmp_path, sites(tmp_path))
    outcome = run(path, "--json", tmp_path / "r.json")
    assert outcome.returncode == 0, outcome.stderr
    result = json.loads((tmp_path / "r.json").read_text())
    assert [m["id"] for m in result["machines"]] == ["plant-01", "plant-02", "plant-03"]
    # max_rounds_without_new_rows of each agent.toml
    assert [m["updates"] for m in result["machines"]] == [2, 2, 2]
    assert all(m["score"] > 0 for m in result["machines"])


def test_a_machine_without_rows(tmp_path: Path) -> None:
    path = write(tmp_path, sites(tmp_path))
    (tmp_path / "plant-02" / "train.npz").unlink()
    assert_one_line(run(path), DATA, "plant-02/train.npz")
    empty = np.zeros((0, 52))
    with np.load(tmp_path / "plant-02" / "test.npz") as rows:
        columns = rows["columns"]
    np.savez(
        tmp_path / "plant-02" / "train.npz", x=empty, columns=columns, state=np.array([], "U6")
    )
    assert_one_line(run(path), DATA, "plant-02/train.npz")


def test_two_machines_with_one_id(tmp_path: Path) -> None:
    path = write(tmp_path, sites(tmp_path))
    settings = tmp_path / "plant-02" / "agent.toml"
    settings.write_text(settings.read_text().replace("plant-02", "plant-01"))
    assert_one_line(run(path), SETTINGS, "plant-02/agent.toml", "'plant-01'", "plant-01/agent.toml")


def test_a_machine_of_another_federation(tmp_path: Path) -> None:
    path = write(tmp_path, sites(tmp_path))
    settings = tmp_path / "plant-02" / "agent.toml"
    settings.write_text(settings.read_text().replace("tennessee-eastman", "presses"))
    words = ("agent.federation = 'presses'", "'tennessee-eastman'", f"federation.file in {path}")
    assert_one_line(run(path), SETTINGS, f"plantfed: {settings}: ", *words)


def test_a_missing_federation_file_and_who_names_it(tmp_path: Path) -> None:
    write(tmp_path, QUICK + '[federation]\nfile = "presses.toml"\n')
    outcome = run("scenario.toml", folder=tmp_path)
    words = ("federation.file = 'presses.toml'", f"It would be {tmp_path / 'presses.toml'}")
    assert_one_line(outcome, SETTINGS, str(tmp_path / "scenario.toml"), *words)


@pytest.mark.parametrize(("mode", "shared"), [("fedavg", 6198), ("fedprox", 6198), ("local", 0)])
def test_a_mode_brings_what_is_personal_in_it(mode: str, shared: int, tmp_path: Path) -> None:
    text = QUICK + f'[federation]\nalgorithm = {{ mode = "{mode}" }}\n'
    model = simulated(tmp_path, text).model
    assert (model.shared_parameters, model.personal_parameters) == (shared, 6198 - shared)


def test_a_result_that_cannot_be_written_is_refused_before_the_run(tmp_path: Path) -> None:
    path = write(tmp_path, ENDLESS)
    (tmp_path / "file").touch()
    assert_one_line(
        run(path, "--json", tmp_path / "file" / "r.json"), STORAGE, "file: ", "no folder"
    )
    (tmp_path / "out" / "report.html").mkdir(parents=True)
    assert_one_line(run(path, "--out", tmp_path / "out"), STORAGE, "out/report.html")


def test_what_the_scenario_reads_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, sites(tmp_path))
    out = tmp_path / "out"
    out.mkdir()
    (out / "result.json").symlink_to(path)
    (tmp_path / "link.json").hardlink_to(tmp_path / "plant-02" / "test.npz")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    words = ("would overwrite", "which the simulation reads")
    for read in ("scenario.toml", "federation.toml", "plant-01/agent.toml", "plant-01/train.csv"):
        target = tmp_path / read
        outcome = run_here(monkeypatch, capsys, path, "--json", target)
        assert_one_line(outcome, SETTINGS, f"{target}: ", *words)
    for option, target in (("--json", tmp_path / "link.json"), ("--out", out)):
        outcome = run_here(monkeypatch, capsys, path, option, target)
        assert_one_line(outcome, SETTINGS, str(target), *words)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_the_result_is_not_written_where_the_report_is(tmp_path: Path) -> None:
    path, out = write(tmp_path, ENDLESS), tmp_path / "out"
    outcome = run(path, "--json", out / "report.html", "--out", out)
    assert_one_line(outcome, SETTINGS, "out/report.html", "where --out writes its report")


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


def test_a_reader_that_goes_away_ends_it_in_silence(tmp_path: Path) -> None:
    with started(write(tmp_path, ENDLESS), "--out", tmp_path / "out") as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(timeout=60) == UNREAD
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert not (tmp_path / "out").exists()


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


def started(*arguments: object) -> subprocess.Popen[str]:
    """A run that has shown that it is going on."""
    process = subprocess.Popen(
        command(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("  0%")
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_with_one_line(number: signal.Signals, tmp_path: Path) -> None:
    with started(write(tmp_path, ENDLESS), "--out", tmp_path / "out") as process:
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED
    assert errors.startswith("plantfed: stopped at virtual second")
    assert len(errors.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_stopped_leaves_the_result_of_another(
    number: signal.Signals, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with started(write(tmp_path, ENDLESS), "--out", out) as process:
        assert run(write(tmp_path), "--out", out).returncode == 0
        found = {path: path.read_bytes() for path in out.iterdir()}
        assert {path.name for path in found} == {"report.html", "result.json"}
        process.send_signal(number)
        process.communicate(timeout=60)
    assert {path: path.read_bytes() for path in out.iterdir()} == found


def test_a_run_that_is_killed_leaves_no_empty_result(tmp_path: Path) -> None:
    with started(
        write(tmp_path, ENDLESS), "--out", tmp_path / "out", "--json", tmp_path / "r.json"
    ) as process:
        process.kill()
        process.communicate(timeout=60)
    assert not [path for path in tmp_path.rglob("*.*") if path.stat().st_size == 0]


def test_a_folder_that_another_run_has_tidied_away_is_made_again(tmp_path: Path) -> None:
    text = QUICK.replace("updates = 60", "updates = 200")
    with started(write(tmp_path, text), "--json", tmp_path / "out" / "r.json") as process:
        (tmp_path / "out").rmdir()
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads((tmp_path / "out" / "r.json").read_text())["updates"] == 200


COMPILED = QUICK.replace(
    'kind = "none"',
    """kind = "files"
agents = ["*/agent.toml"]
[federation]
file = "federation.toml"
algorithm = { learning_rate = 0.2, epochs = 5 }""",
).replace("count = 6\n", "")


def write_machines(folder: Path, n: int) -> None:
    """Machines that have rows of the compiled federation in :func:`write_federation`."""
    for number in range(1, n + 1):
        machine = folder / f"m{number}"
        machine.mkdir()
        rng = np.random.default_rng(number)
        kind = rng.integers(3, size=60)
        x = rng.normal(size=(60, 3, 16))
        x[np.arange(60), kind] *= 4
        names = np.array(["red", "green", "blue"])[kind]
        np.savez(machine / "rows.npz", x=x.astype(np.float32), colour=names)
        head = HEAD.format(id=f"m{number}").replace("tennessee-eastman", "toy")
        (machine / "agent.toml").write_text(
            head + '[data]\ntrain = ["rows.npz"]\nlabel = "colour"\n'
        )


def test_a_compiled_model_is_simulated_with_its_artefact_on_the_links(tmp_path: Path) -> None:
    write_federation(tmp_path)
    write_machines(tmp_path, 4)
    path = write(tmp_path, COMPILED)
    refused = run(path, "--json", tmp_path / "model.pfm")
    assert_one_line(refused, SETTINGS, "would overwrite", "model.pfm")
    done = run(path, "--json", tmp_path / "a.json")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "a.json").read_text())
    assert result["updates"] == 60
    # chance is a third
    assert result["mean_score"] > 0.6
    size = (tmp_path / "model.pfm").stat().st_size
    assert all(machine["bytes_down"] > size for machine in result["machines"])
    assert "twice as many machines: " in done.stdout


def test_windows_that_the_shipped_process_has_not_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "federation.toml"
    write_federation_file(path, federation_definition())
    path.write_text(path.read_text().replace("rows = 1\n", "rows = 4\n"))
    text = '[scenario]\nname = "x"\nupdates = 1\n[federation]\nfile = "federation.toml"\n'
    with pytest.raises(ConfigError, match=r"window\.rows = 4, step = 1: .* or windows of 16"):
        simulated(tmp_path, text)


def test_another_mode_of_a_compiled_model_has_what_that_shares(tmp_path: Path) -> None:
    write_federation(tmp_path, mode="fedavg")
    kind = 'kind = "none"'
    more = f'{kind}\n[federation]\nfile = "federation.toml"\nalgorithm = {{ mode = "MODE" }}'
    text = QUICK.replace(kind, more)
    sizes = {
        mode: simulated(tmp_path, text.replace("MODE", mode)).model.shared_parameters
        for mode in ("fedavg", "fedapm", "local")
    }
    assert sizes["fedavg"] > sizes["fedapm"] > sizes["local"] == 0
