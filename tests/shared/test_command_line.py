"""The edge of every command: one line and the documented exit code, never a traceback."""

import os
import subprocess
import sys
from typing import Any

import click
import pytest

from plantfed_shared import errors
from plantfed_shared.command_line import UNREAD, run
from plantfed_shared.entry_point import INTERRUPTED


def outcome(
    action: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str
) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of a command that does this."""

    @click.command()
    @click.option("--strokes", type=int)
    def command(strokes: int | None) -> Any:
        return action()

    monkeypatch.setattr(sys, "argv", ["plantfed-press", *words])
    with pytest.raises(SystemExit) as ended:
        run(command, "plantfed-press")
    captured = capsys.readouterr()
    code = ended.value.code
    assert isinstance(code, int)
    return code, captured.out, captured.err


def raising(error: BaseException) -> Any:
    def action() -> None:
        raise error

    return action


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.ConfigError, 78),
        (errors.DataError, 65),
        (errors.BrokerError, 69),
        (errors.BrokerRefused, 77),
        (errors.StorageError, 74),
        (errors.TrainingError, 70),
    ],
)
def test_our_errors_are_one_line_and_their_code(kind, code, capsys, monkeypatch):
    error = kind("strokes = 0\nis wrong", where="press.toml", hint="Write 1")
    expected = "plantfed-press: press.toml: strokes = 0 is wrong. Write 1\n"
    assert outcome(raising(error), capsys, monkeypatch) == (code, "", expected)


def test_success(capsys, monkeypatch):
    done = outcome(lambda: click.echo("done"), capsys, monkeypatch)
    assert done == (0, "done\n", "")


@pytest.mark.parametrize("words", [["--strokes", "many"], ["--colour", "blue"], ["extra"]])
def test_a_wrong_command_line_exits_2(words, capsys, monkeypatch):
    code, out, err = outcome(raising(AssertionError()), capsys, monkeypatch, *words)
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("plantfed-press: ")
    assert line.endswith("See plantfed-press --help")


def test_help_exits_0(capsys, monkeypatch):
    code, out, err = outcome(raising(AssertionError()), capsys, monkeypatch, "--help")
    assert (code, err) == (0, "")
    assert out.startswith("Usage: plantfed-press")


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), click.Abort()])
def test_an_interruption_exits_130(interruption, capsys, monkeypatch):
    code, out, err = outcome(raising(interruption), capsys, monkeypatch)
    assert (code, out, err.strip()) == (INTERRUPTED, "", "")


@pytest.mark.parametrize("code", [0, 1, 3])
def test_a_command_may_choose_its_code(code, capsys, monkeypatch):
    assert outcome(lambda: code, capsys, monkeypatch) == (code, "", "")
    exiting = raising(click.exceptions.Exit(code))
    assert outcome(exiting, capsys, monkeypatch) == (code, "", "")


def test_a_mistake_of_ours_is_not_hidden(capsys, monkeypatch):
    with pytest.raises(ZeroDivisionError):
        outcome(lambda: 1 // 0, capsys, monkeypatch)


def program(source: str, **streams: Any) -> subprocess.Popen[bytes]:
    preamble = "import click, logging\nfrom plantfed_shared.command_line import *\n"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", preamble + source]
    return subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, **streams)


def test_a_reader_that_goes_away_ends_it_in_silence():
    source = """
@click.command()
def command():
    for line in range(100_000):
        click.echo("line")
run(command, "plantfed-press")
"""
    assert_unread(source)


def test_so_does_one_that_goes_away_before_the_last_line():
    source = """
@click.command()
def command():
    print("line")
run(command, "plantfed-press")
"""
    assert_unread(source)


def assert_unread(source: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with program(source, stdout=writer) as process:
        os.close(writer)
        _, err = process.communicate()
    assert err == b""
    assert process.returncode == UNREAD


@pytest.mark.parametrize(("verbose", "lines"), [(False, 2), (True, 3)])
def test_the_log_is_one_line_for_each_event(verbose, lines):
    source = f"""
from plantfed_shared.log_lines import log_to_stderr
log_to_stderr(verbose={verbose})
for level in (logging.DEBUG, logging.INFO, logging.WARNING):
    logging.getLogger("press").log(level, "stroke %d", level)
"""
    with program(source) as process:
        _, err = process.communicate()
    written = err.decode().splitlines()
    assert len(written) == lines
    assert written[-1].endswith(" WARNING stroke 30")
    assert all(line[:4].isdigit() for line in written)
