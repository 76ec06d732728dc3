"""What a reader may know of a federation, running or not, from its journal."""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from plantfed_coordinator.audit_log import read_quarantined
from plantfed_coordinator.journal import (
    FILE_NAME,
    at_row,
    broken_live,
    load_state,
    read_live,
    reading_journal,
    record_at,
)
from plantfed_coordinator.live import days_in
from plantfed_coordinator.snapshot_reader import begin_of
from plantfed_coordinator.state import FederationState, Member
from plantfed_shared.bus.connection_state import ConnectionState
from plantfed_shared.definition import FederationDefinition
from plantfed_shared.errors import StorageError
from plantfed_shared.lattice import checksum
from plantfed_shared.store import Database
from plantfed_shared.wall_clock import WallClock, local_time


class MemberView(BaseModel):
    """One member.

    Attributes:
        id: of the agent.
        online: as its retained status says; None before it was seen.
        incarnation: given to it last.
        last_seq: last applied update in this incarnation.
        updates: applied since it joined.
        staleness: of the last update, in releases.
        mean_staleness: over all its updates since it joined, in releases.
        score: reported with the last update.
        weight: n_i.
        base_k: the release it was served last.
        rejected: messages refused since the coordinator was started.
        software: its version.
        bytes_up: MQTT bytes from it since the coordinator was started.
        bytes_down: to it.
        messages_up: from it.
        messages_down: to it.
        up_today: MQTT bytes from it on this calendar day, as the coordinator sees them.
        down_today: to it.
        up_yesterday: from it on the day before.
        down_yesterday: to it.
    """

    id: str
    online: bool | None
    incarnation: int
    last_seq: int
    updates: int
    staleness: int
    mean_staleness: float | None
    score: float | None
    weight: int
    base_k: int | None
    rejected: int = 0
    software: str = ""
    bytes_up: int = 0
    bytes_down: int = 0
    messages_up: int = 0
    messages_down: int = 0
    up_today: int = 0
    down_today: int = 0
    up_yesterday: int = 0
    down_yesterday: int = 0


class Overview(BaseModel):
    """A federation.

    Attributes:
        federation: its id.
        epoch: counter of its epoch.
        k: number of the newest release.
        releases: made in all epochs.
        final: whether the last planned one is made.
        checksum: of the newest model, 16 hexadecimal digits.
        updates: applied in all epochs, those of former members too.
        metric: what scores are, as "accuracy"; more is better.
        members: sorted by id.
        barred: agents the operator has removed.
        quarantined: agents that are not listened to, and why.
    """

    federation: str
    epoch: int
    k: int
    releases: int
    final: bool
    checksum: str
    updates: int
    metric: str
    members: tuple[MemberView, ...]
    barred: tuple[str, ...]
    quarantined: dict[str, str]


class HistoryEntry(BaseModel):
    """One release, or a change of members or epoch.

    Attributes:
        unix_time: when it was written.
        kind: "release", "join", "leave", "incarnation", "admit", "epoch" or "round".
        agent: whom it is about.
        fields: the record's other fields; 64-bit names as 16 hexadecimal digits.
    """

    unix_time: float
    kind: str
    agent: str | None
    fields: dict[str, Any]


class ReleaseView(BaseModel):
    """One release.

    Attributes:
        k: its number.
        unix_time: when it was written.
        checksum: 16 hexadecimal digits.
        arrivals: agents whose updates came since the one before, in order.
        mean_score: of those updates that had one.
    """

    k: int
    unix_time: float
    checksum: str
    arrivals: tuple[str, ...]
    mean_score: float | None


def read_federation(state_dir: Path) -> FederationState:
    """The state after the last record.

    Raises:
        StorageError: there is none, or it cannot be read.
    """
    with reading_journal(state_dir) as database:
        return _state(database)


def read_definition(state_dir: Path) -> FederationDefinition | None:
    """The definition in force, or None where no federation was founded yet.

    Raises:
        StorageError: the journal cannot be read.
    """
    if not (state_dir / FILE_NAME).is_file():
        return None
    with reading_journal(state_dir) as database:
        loaded = load_state(database)
    return None if loaded is None else loaded.state.terms.definition


def read_connection(state_dir: Path) -> ConnectionState | None:
    """How it stood with the broker when that changed last; None if it never was connected.

    Raises:
        StorageError: there is no journal, or it cannot be read.
    """
    with reading_journal(state_dir) as database:
        rows = database.execute("SELECT state FROM connection")
    try:
        return ConnectionState.from_json(rows[0][0]) if rows else None
    except ValueError as error:
        where = f"{database.path}: table connection"
        raise StorageError(str(error), where=where, hint="Start the coordinator again") from None


def read_overview(state_dir: Path, wall_clock: WallClock = local_time) -> Overview:
    """A federation and its members.

    Args:
        state_dir: of its coordinator.
        wall_clock: local time.

    Raises:
        StorageError: there is none, or it cannot be read.
    """
    with reading_journal(state_dir) as database:
        state = _state(database)
        live = read_live(database)
        where = str(database.path)
    today = wall_clock().day
    members = tuple(
        _member_view(agent, member, live.get(agent, {}), today, where)
        for agent, member in sorted(state.members.items())
    )
    return Overview(
        federation=state.terms.definition.federation,
        epoch=state.epoch.counter,
        k=state.k,
        releases=state.releases,
        final=state.final,
        checksum=f"{checksum(state.model):016x}",
        updates=state.updates,
        metric=state.terms.definition.metric,
        members=members,
        barred=tuple(sorted(state.barred)),
        quarantined=dict(sorted(read_quarantined(state_dir).items())),
    )


def read_history(state_dir: Path, last: int | None = None) -> list[HistoryEntry]:
    """The ``last`` kept releases and changes of members and epochs, oldest first.

    Raises:
        StorageError: there is none, or it cannot be read.
    """
    with reading_journal(state_dir) as database:
        rows = database.execute(
            "SELECT id, crc, unix_time, kind, agent, fields, content FROM journal"
            " WHERE kind NOT IN ('update', 'serve') ORDER BY id DESC LIMIT ?",
            (-1 if last is None else last,),
        )
        return [_history_entry(database, *row) for row in reversed(rows)]


def _history_entry(
    database: Database,
    number: int,
    crc: int | None,
    unix_time: float,
    kind: str,
    agent: str | None,
    text: str,
    blob: bytes | None,
) -> HistoryEntry:
    record_at(database, number, crc, (kind, agent, text, blob))
    try:
        fields = _readable(json.loads(text))
        return HistoryEntry(unix_time=unix_time, kind=kind, agent=agent, fields=fields)
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        raise at_row(database, number, f"this {kind!r} can't be read: {error}") from None


def read_releases(state_dir: Path) -> list[ReleaseView]:
    """All releases that the journal still has whole, with what arrived for each.

    Raises:
        StorageError: there is none, or it cannot be read.
    """
    with reading_journal(state_dir) as database:
        rows = database.execute(
            "SELECT unix_time, kind, agent, fields FROM journal"
            " WHERE kind IN ('update', 'release') AND id > ? ORDER BY id",
            (begin_of(database),),
        )
    releases: list[ReleaseView] = []
    arrivals: list[str] = []
    scores: list[float] = []
    for time, kind, agent, text in rows:
        fields = json.loads(text)
        if kind == "update":
            arrivals.append(agent)
            scores += [] if fields["score"] is None else [fields["score"]]
            continue
        releases.append(
            ReleaseView(
                k=fields["k"],
                unix_time=time,
                checksum=f"{fields['checksum']:016x}",
                arrivals=tuple(arrivals),
                mean_score=sum(scores) / len(scores) if scores else None,
            )
        )
        arrivals, scores = [], []
    return releases


def _readable(fields: dict[str, Any]) -> dict[str, Any]:
    fields.pop("initial", None)
    if "checksum" in fields:
        fields["checksum"] = f"{fields['checksum']:016x}"
    if "epoch" in fields:
        counter, bits = fields.pop("epoch")
        fields = {"epoch": counter, "bits": f"{bits:016x}", **fields}
    return fields


def _state(database: Database) -> FederationState:
    loaded = load_state(database)
    if loaded is None:
        raise StorageError(
            "the journal is empty", where=str(database.path), hint="Run the coordinator first"
        )
    return loaded.state


def _member_view(
    agent: str, member: Member, live: dict[str, Any], today: int, where: str
) -> MemberView:
    try:
        return _with_live(agent, member, live, today)
    except (TypeError, ValidationError):
        raise broken_live(where, agent) from None


def _with_live(agent: str, member: Member, live: dict[str, Any], today: int) -> MemberView:
    days = days_in(live)
    now, before = days.of(today), days.of(today - 1)
    seen = {name: value for name, value in live.items() if name in MemberView.model_fields}
    return MemberView(
        id=agent,
        incarnation=member.incarnation,
        last_seq=member.last_seq,
        updates=member.updates,
        staleness=member.staleness,
        mean_staleness=member.staleness_sum / member.updates if member.updates else None,
        score=member.score,
        weight=member.contribution.weight,
        base_k=member.pinned,
        up_today=now.up,
        down_today=now.down,
        up_yesterday=before.up,
        down_yesterday=before.down,
        **{"online": None, **seen},
    )
