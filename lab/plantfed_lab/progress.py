"""What a running federation has reached, read from its coordinator's journal, and shown live."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import monotonic
from types import TracebackType
from typing import Protocol, Self

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from plantfed_coordinator.views import MemberView, read_overview
from plantfed_shared.errors import StorageError
from plantfed_shared.wording import counted

LINE_EVERY_S = 5.0
SHOWN_LATE = 3


@dataclass(frozen=True, slots=True)
class Progress:
    """One moment of a run.

    Attributes:
        seconds: since it began.
        releases: made.
        wanted: releases to be made.
        updates: applied.
        members: that have joined.
        online: of them.
        agents: expected.
        bytes_up: seen by the coordinator.
        bytes_down: sent by it.
        mean_score: mean of the newest scores of the members, or None.
        late: who is offline or far more releases behind than the others, most first.
        checksum: of the newest model.
        final: the last planned release is made.
    """

    seconds: float
    releases: int
    wanted: int
    updates: int
    members: int
    online: int
    agents: int
    bytes_up: int
    bytes_down: int
    mean_score: float | None
    late: tuple[str, ...]
    checksum: str
    final: bool

    def late_text(self) -> str:
        """Who is late, for the reader."""
        return ", ".join(self.late[:SHOWN_LATE]) or "nobody"


class ProgressReader:
    """Reads the progress of one run.

    Args:
        state_dir: of the coordinator.
        agents: expected.
        wanted: releases.
        in_rounds: members are drawn for rounds and otherwise wait.
        clock: monotonic seconds; time counts from now.
    """

    def __init__(
        self,
        state_dir: Path,
        agents: int,
        wanted: int,
        *,
        in_rounds: bool = False,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._state_dir = state_dir
        self._agents = agents
        self._wanted = wanted
        self._in_rounds = in_rounds
        self._clock = clock
        self._start = clock()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return self._clock() - self._start

    def read(self) -> Progress | None:
        """The progress, or None where the coordinator has written nothing yet."""
        try:
            overview = read_overview(self._state_dir)
        except StorageError:
            return None  # a coordinator that can't write ends by itself, and says so
        scores = [m.score for m in overview.members if m.score is not None]
        return Progress(
            seconds=self.seconds,
            releases=overview.releases,
            wanted=self._wanted,
            updates=overview.updates,
            members=len(overview.members),
            online=sum(m.online is True for m in overview.members),
            agents=self._agents,
            bytes_up=sum(m.bytes_up for m in overview.members),
            bytes_down=sum(m.bytes_down for m in overview.members),
            mean_score=sum(scores) / len(scores) if scores else None,
            late=_late(overview.members, overview.k, in_rounds=self._in_rounds),
            checksum=overview.checksum,
            final=overview.final,
        )


def _late(members: tuple[MemberView, ...], k: int, *, in_rounds: bool) -> tuple[str, ...]:
    """Who holds up nothing but is missed: the offline, and who is much older than usual."""
    offline = [f"{m.id} offline" for m in members if m.online is False]
    behind = {m.id: k - m.base_k for m in members if m.base_k is not None and m.online}
    if in_rounds or not behind:
        return tuple(offline)  # in rounds, most members wait until they are drawn
    # agents take turns, so that all are some releases behind
    usual = median(behind.values())
    late = sorted((-n, agent) for agent, n in behind.items() if n > 2 * usual + 1)
    return (*offline, *(f"{agent} {-n} behind" for n, agent in late))


class Display(Protocol):
    """Shows a run to its reader."""

    def __enter__(self) -> Self:
        """Begin to show."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop to show."""
        ...

    def show(self, progress: Progress) -> None:
        """Show a moment."""
        ...


class LineDisplay:
    """One line every few seconds, for logs and pipes."""

    def __init__(self) -> None:
        self._next_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, progress: Progress) -> None:
        """Print a line if the last is old enough or the run is at its end."""
        if progress.seconds < self._next_s and not progress.final:
            return
        self._next_s = progress.seconds + LINE_EVERY_S
        accuracy = "-" if progress.mean_score is None else f"{progress.mean_score:.3f}"
        click.echo(
            f"{progress.seconds:5.0f} s  {progress.releases}/{progress.wanted} releases  "
            f"{progress.online}/{progress.agents} agents online  "
            f"accuracy {accuracy}  {_megabytes(progress.bytes_up)} up  "
            f"{_megabytes(progress.bytes_down)} down  late: {progress.late_text()}"
        )


class LiveDisplay:
    """A panel that is redrawn, for terminals.

    Args:
        console: where to draw.
    """

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, progress: Progress) -> None:
        """Redraw the panel."""
        self._live.update(panel(progress), refresh=True)


def display_for(console: Console) -> Display:
    """A live panel on a terminal, else lines."""
    return LiveDisplay(console) if console.is_terminal else LineDisplay()


def panel(progress: Progress) -> RenderableType:
    """The moment as a table under a bar."""
    bar = ProgressBar(total=progress.wanted, completed=progress.releases, width=50)
    share = progress.releases / progress.wanted
    head = Table.grid(padding=(0, 2))
    head.add_row(bar, f"{share:4.0%}", f"{progress.seconds:.0f} s")
    accuracy = "-" if progress.mean_score is None else f"{progress.mean_score:.3f}"
    updates = counted(progress.updates, "update")
    rows = {
        "releases": f"{progress.releases} of {progress.wanted}, {updates}",
        "agents": f"{progress.online} online, {progress.members} of {progress.agents} joined",
        "accuracy": f"{accuracy}  (mean of what the agents report, their own test rows)",
        "bytes": f"{_megabytes(progress.bytes_up)} up, {_megabytes(progress.bytes_down)} down",
        "late": progress.late_text(),
    }
    body = Table.grid(padding=(0, 2))
    for name, value in rows.items():
        body.add_row(Text(name, style="dim"), value)
    return Group(head, body)


def _megabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:.1f} MB"
