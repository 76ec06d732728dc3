"""With real child processes; what the tests wait for is an event, never the clock."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest
from tests.edge_agent.federations import agent_settings, classifier, first_task, write_csv

from plantfed_agent.frames import encode
from plantfed_agent.inprocess import InProcessTrainer
from plantfed_agent.process_trainer import COMMAND, ProcessTrainer
from plantfed_agent.worker_messages import settings_frame, task_frame
from plantfed_shared.errors import DataError, TrainingError

ENDLESS = {"epochs": 1000, "batch": 1}


@pytest.fixture
def settings(tmp_path):
    return agent_settings(write_csv(tmp_path / "rows.csv", 300), nice=0)


def with_trainer(settings, scenario):
    async def play():
        trainer = ProcessTrainer(settings)
        try:
            return await scenario(trainer)
        finally:
            await trainer.stop()

    return asyncio.run(play())


async def until_running(trainer):
    """A round that doesn't end by itself, under way in a child."""
    endless = asyncio.create_task(trainer.run(first_task(classifier(algorithm=ENDLESS))))
    while trainer.child_pid is None:
        await asyncio.sleep(0)
    return endless


def test_a_round_equals_one_in_process_bit_for_bit(settings):
    definition = classifier()
    expected = asyncio.run(InProcessTrainer(settings).run(first_task(definition)))

    async def scenario(trainer):
        assert not trainer.running
        outcome = await trainer.run(first_task(definition))
        assert not trainer.running
        return outcome

    outcome = with_trainer(settings, scenario)
    assert outcome.shared.tobytes() == expected.shared.tobytes()
    assert outcome.head.tobytes() == expected.head.tobytes()
    assert (outcome.loss, outcome.score) == (expected.loss, expected.score)
    assert outcome.n_samples == expected.n_samples == 240
    assert outcome.data_fingerprint == expected.data_fingerprint


def test_rounds_share_a_child(settings):
    async def scenario(trainer):
        await trainer.run(first_task(classifier()))
        first = trainer.child_pid
        await trainer.run(first_task(classifier(), seq=2))
        return first, trainer.child_pid

    first, second = with_trainer(settings, scenario)
    assert first == second is not None


def test_a_killed_child_costs_one_round(settings):
    async def scenario(trainer):
        endless = await until_running(trainer)
        assert trainer.running
        os.kill(trainer.child_pid, signal.SIGKILL)
        with pytest.raises(TrainingError, match="training process ended by SIGKILL"):
            await endless
        assert not trainer.running
        return await trainer.run(first_task(classifier()))

    assert with_trainer(settings, scenario).n_samples == 240


def test_errors_keep_their_words_and_the_child_lives_on(settings, tmp_path):
    rows = tmp_path / "rows.csv"
    good = rows.read_text()

    async def scenario(trainer):
        rows.write_text(good + "1,2,oops,good\n")
        with pytest.raises(DataError) as caught:
            await trainer.run(first_task(classifier()))
        child = trainer.child_pid
        rows.write_text(good)
        outcome = await trainer.run(first_task(classifier()))
        assert trainer.child_pid == child
        return str(caught.value), outcome

    words, outcome = with_trainer(settings, scenario)
    assert words.startswith(f"{rows}, line 302, column 'c': 'oops' is not a number")
    assert outcome.n_samples == 240


def test_changed_files_are_read_again(settings, tmp_path):
    async def scenario(trainer):
        before = await trainer.run(first_task(classifier()))
        write_csv(tmp_path / "rows.csv", 400)
        return before, await trainer.run(first_task(classifier()))

    before, after = with_trainer(settings, scenario)
    assert (before.n_samples, after.n_samples) == (240, 320)
    assert before.data_fingerprint != after.data_fingerprint


def test_cancelling_kills_the_child(settings):
    async def scenario(trainer):
        endless = await until_running(trainer)
        pid = trainer.child_pid
        endless.cancel()
        with pytest.raises(asyncio.CancelledError):
            await endless
        assert trainer.child_pid is None
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        return await trainer.run(first_task(classifier()))

    assert with_trainer(settings, scenario).n_samples == 240


def test_stop_ends_a_round(settings):
    async def scenario(trainer):
        endless = await until_running(trainer)
        await trainer.stop()
        with pytest.raises(TrainingError, match="ended by SIGKILL"):
            await endless
        assert trainer.child_pid is None

    with_trainer(settings, scenario)


def test_a_second_round_at_once_is_refused(settings):
    async def scenario(trainer):
        endless = await until_running(trainer)
        with pytest.raises(RuntimeError, match="already"):
            await trainer.run(first_task(classifier()))
        await trainer.stop()
        with pytest.raises(TrainingError):
            await endless

    with_trainer(settings, scenario)


def test_the_child_rests_and_comes_back(settings, tmp_path):
    hasty = agent_settings(tmp_path / "rows.csv", nice=0, rest_after_s=0.001)

    async def scenario(trainer):
        await trainer.run(first_task(classifier()))
        pid = trainer.child_pid
        while trainer.child_pid is not None:
            await asyncio.sleep(0)
        outcome = await trainer.run(first_task(classifier()))
        assert trainer.child_pid != pid
        return outcome

    assert with_trainer(hasty, scenario).n_samples == 240


def test_a_crash_names_the_exit_code(settings, monkeypatch):
    module = sys.modules[ProcessTrainer.__module__]
    monkeypatch.setattr(module, "COMMAND", (sys.executable, "-c", "raise SystemExit(3)"))

    async def scenario(trainer):
        with pytest.raises(TrainingError, match="ended with exit code 3"):
            await trainer.run(first_task(classifier()))

    with_trainer(settings, scenario)


def test_a_child_that_cannot_be_started_is_an_error(settings, monkeypatch):
    module = sys.modules[ProcessTrainer.__module__]
    monkeypatch.setattr(module, "COMMAND", ("/nowhere/python",))

    async def scenario(trainer):
        with pytest.raises(TrainingError, match="cannot be started"):
            await trainer.run(first_task(classifier()))

    with_trainer(settings, scenario)


def test_the_child_ends_at_once_when_its_parent_is_gone(settings):
    """Also in the middle of a round."""
    child = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    child.stdin.write(encode(settings_frame(settings)))
    child.stdin.write(encode(task_frame(first_task(classifier(algorithm=ENDLESS)))))
    child.stdin.close()
    assert child.wait(timeout=60) == 0
    assert child.stdout is not None
    assert child.stdout.read() == b""
    child.stdout.close()


def test_ctrl_c_does_not_end_the_child(settings):
    async def scenario(trainer):
        await trainer.run(first_task(classifier()))
        pid = trainer.child_pid
        os.kill(pid, signal.SIGINT)
        await trainer.run(first_task(classifier(), seq=2))
        return pid == trainer.child_pid

    assert with_trainer(settings, scenario)


def test_the_agent_itself_loads_no_kernel_and_no_reader():
    listing = (
        "import sys, plantfed_agent.process_trainer; "
        "print(*[m for m in sys.modules if m.startswith('plantfed_agent.')])"
    )
    found = subprocess.run([sys.executable, "-c", listing], capture_output=True, check=True)
    loaded = found.stdout.decode().split()
    assert "plantfed_agent.training" in loaded
    for name in ("kernels", "sources", "samples", "csv_source", "local_round", "inprocess"):
        assert f"plantfed_agent.{name}" not in loaded


def test_a_child_whose_answer_nobody_reads_any_more_ends_without_a_word(settings):
    """As when its agent was killed in the very moment; the other pipe may be closed later."""
    process = subprocess.Popen(
        COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        process.stdin.write(encode(settings_frame(settings)))
        process.stdin.write(encode(task_frame(first_task(classifier()))))
        process.stdin.flush()
        assert (process.stderr.read(), process.wait()) == (b"", 0)
