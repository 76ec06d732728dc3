from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from plantfed_coordinator.views import MemberView
from plantfed_lab.progress import LineDisplay, Progress, ProgressReader, _late, panel

MOMENT = Progress(
    seconds=3.0,
    releases=20,
    wanted=80,
    updates=41,
    members=4,
    online=3,
    agents=5,
    bytes_up=1_500_000,
    bytes_down=2_500_000,
    mean_score=0.654,
    late=("plant-04 offline",),
    checksum="00",
    final=False,
)


def member(agent: str, base_k: int | None, *, online: bool = True) -> MemberView:
    return MemberView(
        id=agent,
        online=online,
        incarnation=1,
        last_seq=1,
        updates=1,
        staleness=0,
        mean_staleness=0.0,
        score=None,
        weight=1,
        base_k=base_k,
    )


def test_who_takes_turns_is_not_late() -> None:
    members = tuple(member(f"m{n}", 100 - n) for n in range(8))
    assert _late(members, 100, in_rounds=False) == ()


def test_who_is_offline_or_far_behind_is_late() -> None:
    members = (
        member("a", 99),
        member("b", 40),
        member("c", 98),
        member("d", 20, online=False),
        member("e", None),
        member("f", 30),
    )
    assert _late(members, 100, in_rounds=True) == ("d offline",)
    some = (*members, *(member(f"m{n}", 98) for n in range(6)))
    assert _late(some, 100, in_rounds=False) == ("d offline", "f 70 behind", "b 60 behind")


def test_nothing_is_read_before_the_coordinator_has_written(tmp_path: Path) -> None:
    assert ProgressReader(tmp_path, agents=2, wanted=3).read() is None


def test_the_time_counts_from_the_start(tmp_path: Path) -> None:
    times = iter([10.0, 12.5])
    reader = ProgressReader(tmp_path, agents=2, wanted=3, clock=lambda: next(times))
    assert reader.seconds == 2.5


def test_lines_come_every_few_seconds_and_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    with LineDisplay() as display:
        for seconds in (0.0, 1.0, 4.0, 5.5):
            display.show(replace(MOMENT, seconds=seconds))
        display.show(replace(MOMENT, seconds=6.0, releases=80, final=True))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["0", "6", "6"]
    assert "20/80 releases" in lines[0]
    assert "3/5 agents" in lines[0]
    assert "1.5 MB up" in lines[0]
    assert "late: plant-04 offline" in lines[0]


def test_the_panel_says_the_same() -> None:
    console = Console(width=100)
    with console.capture() as captured:
        console.print(panel(MOMENT))
        console.print(panel(replace(MOMENT, mean_score=None, late=())))
    text = captured.get()
    for words in ("20 of 80", "41 updates", "3 online", "0.654", "2.5 MB", "25%", "nobody"):
        assert words in text
