"""Entries of the audit log, and the chain that ties each to all before it: pure.

    hash of an entry = BLAKE2b-256(hash of the entry before || canonical JSON of this one)

Who changes, drops or inserts an entry must change the hashes of all that follow, so one hash that
was noted elsewhere (the coordinator's log has one at every start) proves all before it.  The oldest
entries are dropped in time; an entry that stays says up to which one, and with which hash.
"""

import json
from collections.abc import Iterable
from hashlib import blake2b
from typing import NamedTuple

from plantfed_coordinator.events import Audit
from plantfed_coordinator.records import (
    Admitted,
    EpochStarted,
    IncarnationRaised,
    Joined,
    Left,
    Record,
)

FIRST_HASH = ""
"""Before the first entry."""
DROPPED = "dropped"


class Line(NamedTuple):
    """What an entry says.

    Attributes:
        kind: what it is about.
        agent: whom, if anybody.
        text: one line.
        times: how often.
    """

    kind: str
    agent: str | None
    text: str
    times: int = 1


class Entry(NamedTuple):
    """An entry as it is kept.

    Attributes:
        number: from 1, without a gap.
        unix_time: seconds.
        line: what it says.
        hash: of this entry and all before it, 64 hexadecimal digits.
    """

    number: int
    unix_time: float
    line: Line
    hash: str


class Verified(NamedTuple):
    """What is to be said of a chain.

    Attributes:
        entries: looked at.
        head: the last one's number and hash, as ``number:hash``; empty where there is none.
        broken: number of the first entry that is not what was written, or None.
        reason: what is wrong with it.
    """

    entries: int
    head: str
    broken: int | None = None
    reason: str = ""


def chained(before: str, number: int, unix_time: float, line: Line) -> Entry:
    """The next entry.

    Args:
        before: hash of the entry before.
        number: of this one.
        unix_time: seconds.
        line: what it says.
    """
    said = json.dumps([number, unix_time, *line], separators=(",", ":"))
    digest = blake2b(f"{before}{said}".encode(), digest_size=32).hexdigest()
    return Entry(number, unix_time, line, digest)


def dropped_up_to(entry: Entry) -> Line:
    """Says that this entry and all before it are dropped."""
    return Line(DROPPED, None, f"{entry.number}:{entry.hash}")


def verify(entries: Iterable[Entry], expected: str = "") -> Verified:
    """Look at a whole chain.

    Args:
        entries: all that are kept, by number.
        expected: a head that was noted earlier, ``number:hash``; it must be among them, or be
            what an entry says to be dropped.
    """
    kept = list(entries)
    if not kept:
        return Verified(0, "", 1, "there is no entry") if expected else Verified(0, "")
    drops = [e.line.text for e in kept if e.line.kind == DROPPED]
    before, number = FIRST_HASH, kept[0].number - 1
    if number:
        last = next((d for d in reversed(drops) if d.startswith(f"{number}:")), None)
        if last is None:
            return Verified(
                len(kept), "", number, "it is gone, and nothing says that it was dropped"
            )
        before = last.partition(":")[2]
    seen = set(drops)
    for entry in kept:
        number += 1
        head = f"{entry.number}:{entry.hash}"
        if entry.number != number:
            return Verified(len(kept), head, number, "it is gone")
        if chained(before, number, entry.unix_time, entry.line).hash != entry.hash:
            return Verified(len(kept), head, number, "its content and its hash don't fit")
        before = entry.hash
        seen.add(head)
    if expected and expected not in seen:
        broken = int(expected.partition(":")[0])
        return Verified(len(kept), head, broken, "it is not what was noted")
    return Verified(len(kept), head)


def line_of_record(record: Record) -> Line | None:
    """What a change of members or epochs says, None for any other record."""
    match record:
        case Joined(agent, incarnation):
            return Line("joined", agent, f"as incarnation {incarnation}")
        case IncarnationRaised(agent, incarnation):
            return Line("incarnation", agent, f"{incarnation}")
        case Left(agent, barred):
            return Line("left", agent, "removed by the operator" if barred else "by itself")
        case Admitted(agent):
            return Line("admitted", agent, "by the operator")
        case EpochStarted(epoch, k, _, reason):
            return Line("epoch", None, f"{epoch.counter} begins with release {k}: {reason}")
    return None


def line_of(audit: Audit) -> Line:
    """What the machine asked for, as it is kept: one line without anything to control a terminal.

    Some of it was written by whoever sent the message.
    """
    text = "".join(c if c.isprintable() else "?" for c in audit.text)
    return Line(audit.deed.value, audit.agent, text[:300], audit.count)
