"""The audit log: chained, bounded, kept through a restart, and no change of it goes unseen."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from plantfed_coordinator.audit_chain import (
    FIRST_HASH,
    Entry,
    Line,
    chained,
    line_of,
    line_of_record,
    verify,
)
from plantfed_coordinator.audit_log import (
    FILE_NAME,
    AuditLog,
    read_entries,
    read_quarantined,
)
from plantfed_coordinator.cli import commands
from plantfed_coordinator.events import Audit, Deed, Note, Persist, Quarantine
from plantfed_coordinator.records import (
    Admitted,
    EpochStarted,
    IncarnationRaised,
    Joined,
    Left,
    Released,
)
from plantfed_shared.errors import StorageError
from plantfed_shared.messages import Epoch
from plantfed_shared.store import amending


def chain(length: int) -> list[Entry]:
    entries: list[Entry] = []
    for number in range(1, length + 1):
        before = entries[-1].hash if entries else FIRST_HASH
        entries.append(chained(before, number, number / 10, Line("refused", "a", f"no {number}")))
    return entries


def changed(entry: Entry, **line: object) -> Entry:
    return entry._replace(line=entry.line._replace(**line))  # type: ignore[arg-type]


def test_a_whole_chain_is_in_order() -> None:
    entries = chain(5)
    assert verify(entries) == (5, f"5:{entries[-1].hash}", None, "")
    assert verify([]) == (0, "", None, "")


SPOIL: dict[str, tuple[Callable[[list[Entry]], list[Entry]], int]] = {
    "text": (lambda e: [*e[:2], changed(e[2], text="else"), *e[3:]], 3),
    "agent": (lambda e: [*e[:2], changed(e[2], agent="b"), *e[3:]], 3),
    "kind": (lambda e: [*e[:2], changed(e[2], kind="joined"), *e[3:]], 3),
    "times": (lambda e: [*e[:2], changed(e[2], times=2), *e[3:]], 3),
    "time": (lambda e: [*e[:2], e[2]._replace(unix_time=9.0), *e[3:]], 3),
    "hash": (lambda e: [*e[:2], e[2]._replace(hash="0" * 64), *e[3:]], 3),
    "one gone": (lambda e: [*e[:2], *e[3:]], 3),
    "first gone": (lambda e: e[1:], 1),
    "swapped": (lambda e: [*e[:2], e[3], e[2], e[4]], 3),
    "inserted": (lambda e: [*e[:2], chained("", 3, 1.0, Line("x", None, "")), *e[2:]], 3),
}


@pytest.mark.parametrize("case", SPOIL)
def test_the_first_entry_that_was_changed_is_named(case: str) -> None:
    spoil, broken = SPOIL[case]
    assert verify(spoil(chain(5))).broken == broken


def test_a_head_that_was_noted_shows_what_was_cut_off_or_rewritten() -> None:
    entries = chain(5)
    head = f"5:{entries[-1].hash}"
    assert verify(entries, head).broken is None
    assert verify(entries[:4]).broken is None
    assert verify(entries[:4], head).broken == 5
    assert verify([], head).broken is not None
    rewritten = [chained(FIRST_HASH, 1, 0.0, Line("x", None, ""))]
    for number in range(2, 6):
        line = Line("x", None, "")
        rewritten.append(chained(rewritten[-1].hash, number, 0.0, line))
    assert verify(rewritten).broken is None
    assert verify(rewritten, head).broken == 5


def test_what_is_audited_of_the_journal() -> None:
    epoch = EpochStarted(Epoch(3, 9), 7, b"", "settings were edited")
    lines = [
        line_of_record(record)
        for record in (
            Joined("a", 1),
            IncarnationRaised("a", 2),
            Left("a", barred=True),
            Left("a", barred=False),
            Admitted("a"),
            epoch,
            Released(1, 1),
        )
    ]
    assert [line and (line.kind, line.agent, line.text) for line in lines] == [
        ("joined", "a", "as incarnation 1"),
        ("incarnation", "a", "2"),
        ("left", "a", "removed by the operator"),
        ("left", "a", "by itself"),
        ("admitted", "a", "by the operator"),
        ("epoch", None, "3 begins with release 7: settings were edited"),
        None,
    ]


def test_nothing_a_sender_writes_controls_a_terminal() -> None:
    line = line_of(Audit(Deed.OFFENCE, "a", "x\x1b[2J\n\r\u202e" + "y" * 1000, 3))
    assert line.text == ("x?[2J???" + "y" * 1000)[:300]
    assert line.times == 3


# ---------------------------------------------------------------------- on disk


def log_in(folder: Path, most: int = 100) -> AuditLog:
    times = itertools.count(1)
    return AuditLog(folder, lambda: float(next(times)), most)


def test_entries_and_quarantines_are_there_after_a_restart(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    log.take([Persist(Joined("a", 1)), Note("text"), Audit(Deed.OFFENCE, "a", "bad", 2)])
    log.take([Quarantine("a", "why"), Quarantine("b", "so"), Audit(Deed.QUARANTINED, "a", "why")])
    log.close()
    log = log_in(tmp_path)
    assert log.quarantined() == read_quarantined(tmp_path) == {"a": "why", "b": "so"}
    log.take([Quarantine("a", None), Audit(Deed.RELEASED, "a", "by the operator")])
    assert log.quarantined() == {"b": "so"}
    head = log.head
    log.close()
    entries = read_entries(tmp_path)
    assert [e.line.kind for e in entries] == ["joined", "offence", "quarantined", "released"]
    assert verify(entries) == (4, head, None, "")
    assert read_entries(tmp_path, 1) == entries[-1:]


def test_what_has_nothing_for_it_writes_nothing(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    log.take([Note("text"), Persist(Released(1, 1))])
    assert log.head == ""
    log.close()
    assert read_entries(tmp_path) == []


def test_it_stays_bounded_and_the_chain_stays_whole(tmp_path: Path) -> None:
    log = log_in(tmp_path, 1000)
    heads = []
    for i in range(300):
        log.append([Line("refused", "a", f"no {i} {j}") for j in range(10)])
        heads.append(log.head)
    log.close()
    entries = read_entries(tmp_path)
    assert len(entries) <= 1010
    assert entries[0].number > 1000
    assert verify(entries, heads[-1]).broken is None
    drops = [e for e in entries if e.line.kind == "dropped"]
    assert verify(entries, drops[-1].line.text).broken is None
    assert verify(entries[1:]).broken == entries[0].number
    # an entry that goes on saying it was dropped can't be changed either
    at = entries.index(drops[-1])
    forged = [*entries[:at], changed(drops[-1], text=f"{entries[0].number}:{'0' * 64}")]
    assert verify([*forged, *entries[at + 1 :]][1:]).broken is not None


def test_two_writers_are_refused(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    with pytest.raises(StorageError, match="another plantfed-coordinator is running"):
        log_in(tmp_path)
    log.close()


# ---------------------------------------------------------------------- commands


@pytest.fixture
def config(tmp_path: Path) -> Path:
    log = log_in(tmp_path / "state")
    log.take([Persist(Joined("a", 1)), Audit(Deed.OFFENCE, "a", "bad", 2)])
    log.close()
    config = tmp_path / "coordinator.toml"
    config.write_text(
        '[coordinator]\nfederation_file = "f.toml"\n[broker]\nurl = "mqtt://127.0.0.1:1"\n'
    )
    return config


def test_show_and_verify(config: Path) -> None:
    run = CliRunner().invoke
    shown = run(commands, ["audit", "show", "--config", str(config)])
    assert shown.exit_code == 0
    assert [line.split()[0] for line in shown.output.splitlines()] == ["1", "2"]
    assert shown.output.splitlines()[1].endswith("bad (x2)")
    as_json = run(commands, ["audit", "show", "--config", str(config), "--json", "--last", "1"])
    (entry,) = [json.loads(line) for line in as_json.output.splitlines()]
    assert (entry["kind"], entry["times"]) == ("offence", 2)
    good = run(commands, ["audit", "verify", "--config", str(config)])
    assert good.exit_code == 0
    head = good.output.split()[-1]
    again = run(commands, ["audit", "verify", "--config", str(config), "--head", head])
    assert again.exit_code == 0
    with amending(config.parent / "state" / FILE_NAME) as database, database.transaction():
        database.execute("UPDATE audit SET agent = 'b' WHERE number = 1")
    bad = run(commands, ["audit", "verify", "--config", str(config)])
    assert bad.exit_code == 1
    assert bad.stderr == (
        "plantfed-coordinator: audit log broken at entry 1: its content and its hash don't fit\n"
    )


def test_a_head_that_is_none_is_a_wrong_command_line(config: Path) -> None:
    bad = CliRunner().invoke(commands, ["audit", "verify", "--config", str(config), "--head", "x"])
    assert bad.exit_code == 2
