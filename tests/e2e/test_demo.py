"""A whole demo as a reader runs it: separate processes, a real broker, and what it leaves."""

import json
import signal
from pathlib import Path

import pytest
from tests.e2e.demos import Demo, command_line

from plantfed_lab.tennessee_eastman import CNN1D


def test_four_agents_reach_the_last_release_and_a_report(demo: Demo, tmp_path: Path) -> None:
    arguments = ("--agents", "4", "--releases", "12", "--json", str(tmp_path / "copy.json"))
    with demo.start(*arguments) as process:
        demo.wait_for("plantfed_agent run", 4)
        demo.wait_for("plantfed_coordinator run", 1)
        demo.wait_for("plantfed_broker serve", 1)
        output, _ = process.communicate(timeout=100)
    assert process.returncode == 0, output

    result = json.loads((demo.out / "result.json").read_text())
    assert json.loads((tmp_path / "copy.json").read_text()) == result
    assert result["releases"] == 12
    assert (result["algorithm"]["mode"], result["other_mode"]) == ("auto", "fedapm")
    assert result["model"]["personal_parameters"] == 0
    assert result["broker"]["kind"] in ("mosquitto", "nats")
    assert result["updates"] == sum(a["updates"] for a in result["agents"])
    assert sum(result["staleness_counts"]) == result["updates"]
    assert [a["id"] for a in result["agents"]] == [f"plant-{n:02d}" for n in range(1, 5)]
    for agent in result["agents"]:
        assert agent["bytes_up"] > 0
        assert agent["bytes_down"] > 0
        assert all(0 < value <= 1 for value in agent["accuracy"].values())
    assert result["model"]["checksum"] in (demo.out / "report.html").read_text()
    assert "fedapm (simulated)" in output
    demo.assert_nothing_is_left()


def test_rounds_with_drawn_participants(demo: Demo) -> None:
    with demo.start("--agents", "4", "--releases", "3", "--sync") as process:
        output, _ = process.communicate(timeout=100)
    assert process.returncode == 0, output
    result = json.loads((demo.out / "result.json").read_text())
    # three tenths of four machines is one machine a round
    assert (result["schedule"], result["releases"], result["updates"]) == ("sync", 3, 3)


@pytest.mark.parametrize("schedule", [(), ("--sync",)])
def test_short_messages_for_thin_links(demo: Demo, schedule: tuple[str, ...]) -> None:
    with demo.start("--agents", "3", "--releases", "6", "--thin", *schedule) as process:
        output, _ = process.communicate(timeout=100)
    assert process.returncode == 0, output
    assert "short messages" in output
    result = json.loads((demo.out / "result.json").read_text())
    assert (result["thin"], result["releases"]) == (True, 6)
    assert result["compression"]["kind"] == "low-rank"
    # with joining and pings: a dense change alone is several times as long
    float32_bytes = 4 * result["model"]["shared_parameters"]
    assert result["bytes"]["up"] < 0.1 * float32_bytes * result["updates"]
    assert "--thin" in (demo.out / "report.html").read_text()


def test_a_compiled_cnn_on_windows(demo: Demo) -> None:
    arguments = ("--agents", "2", "--releases", "12", "--model", "cnn1d", "--mode", "fedapm")
    with demo.start(*arguments) as process:
        output, _ = process.communicate(timeout=100)
    assert process.returncode == 0, output
    assert "test windows" in output
    result = json.loads((demo.out / "result.json").read_text())
    assert (result["network"], result["releases"]) == ("cnn1d", 12)
    assert result["model"]["personal_parameters"] == 22 * 32 + 22
    # each agent has fetched the artefact, and learns: six classes, by chance a sixth
    for agent in result["agents"]:
        (cached,) = (demo.out / "agents" / agent["id"] / "state" / "models").glob("*.pfm")
        assert cached.read_bytes() == CNN1D.read_bytes()
    assert result["accuracy"]["personal"] > 0.4
    assert result["accuracy"]["local"] > 0.4
    assert "windows to train" in (demo.out / "report.html").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_every_process(demo: Demo, number: signal.Signals) -> None:
    with demo.start("--agents", "3", "--releases", "100000") as process:
        demo.wait_for("plantfed_agent run", 3)
        process.send_signal(number)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    demo.assert_nothing_is_left()


def test_a_killed_demo_leaves_no_orphans(demo: Demo) -> None:
    with demo.start("--agents", "3", "--releases", "100000") as process:
        demo.wait_for("plantfed_agent run", 3)
        process.kill()
        process.wait()
    demo.assert_nothing_is_left()


def test_an_agent_that_dies_early_is_named(demo: Demo) -> None:
    with demo.start("--agents", "3", "--releases", "100000") as process:
        demo.wait_for("plantfed_agent run", 3)
        next(p for p in demo.processes() if "plantfed_agent" in command_line(p)).kill()
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 1, output
    last = output.splitlines()[-1]
    assert last.startswith("plantfed: plant-0")
    assert "killed by signal 9" in last
    demo.assert_nothing_is_left()
