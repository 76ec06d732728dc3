"""The guard: a machine keeps the model it used before where the newer one is worse on new rows.

*New rows* are those that arrived after the last training.  Before they are trained on, the newest
model and the *kept* one, which new rows have last confirmed, both answer them.  Of every row the
difference of their errors is noted, so that each is a matter between the same two on the same row.

    fewer than 50 new rows                              off: the newest is used
    newest worse, beyond noise                          trips: the kept one is used
    newest at least as good                             the newest is the kept one from now on
    in between                                          more rows are waited for

Training goes on meanwhile, on all rows and from the newest model.  A guard that has tripped
recovers when on at least 50 rows that arrived since, each scored before it was trained on, the
newest is at least as good; or, while there are fewer, when it is better beyond noise on those it
has tripped on, which it has learnt from by now.  What was kept stays until new rows confirm
another.

*Noise* is two standard errors of the mean difference, widened for few rows by Student's t.  Rows of
a process resemble the ones before them, so the error is also taken from the means of about sqrt(n)
blocks of consecutive rows; the larger one counts.
"""

from dataclasses import dataclass, field, replace
from math import isqrt, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from plantfed_shared.parameters import Floats
from plantfed_shared.wording import counted

Keys = NDArray[np.uint32]
"""Numbers that stand for rows: equal for equal rows, and for others once in four billion pairs."""

FEWEST_ROWS = 50
MOST_ROWS = 1000
"""The latest that are counted: of a difference this small nobody needs to know more."""
STANDARD_ERRORS = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class ServedModel:
    """All that makes a machine's answers.

    Attributes:
        name: for the reader, as "release 40".
        shared: float32 (shared,).
        head: float32 (personal + statistics,); None for the initial one.
        prior: float32 (classes,), added to the logits; None for none.
        own_head: float32 (last layer,), in place of the common one; None for that.
    """

    name: str
    shared: Floats
    head: Floats | None = None
    prior: Floats | None = None
    own_head: Floats | None = None


class Check(NamedTuple):
    """What new rows have said when the guard last decided.

    Attributes:
        newer: name of the newest model then.
        older: of the kept one.
        rows: on which both were compared.
        excess: mean of the error of the newer one minus that of the kept one.
        noise: what the excess may be by chance.
        tripped: whether the kept one was used from then on.
        again: whether the rows were those that the guard had tripped on.
    """

    newer: str
    older: str
    rows: int
    excess: float
    noise: float
    tripped: bool
    again: bool = False


class FreshRows(NamedTuple):
    """What a round has found before it trained.

    Attributes:
        fingerprint: of the files.
        known: of the rows that are here; None where they are those of the last training.
        keys: uint32 (new rows,).
        differences: float32 (new rows,): error of the newest model minus that of the kept one.
        again: float32 (rows,): the same on the rows that the guard has tripped on.
    """

    fingerprint: str
    known: Keys | None
    keys: Keys
    differences: Floats
    again: Floats


def _no_keys() -> Keys:
    return np.zeros(0, np.uint32)


def _no_floats() -> Floats:
    return np.zeros(0, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Guard:
    """What a guard remembers, also through restarts.

    Attributes:
        kept: the model that new rows have last confirmed; at first that of the first training.
        fingerprint: of the files at the last training.
        known: rows that were here then, see :func:`plantfed_agent.known_rows.known_after`.
        keys: uint32 (n,), of the rows compared since the last decision.
        differences: float32 (n,), see :class:`FreshRows`.
        tripped_on: keys of the rows it has tripped on; None where the newest model is used.
        check: the last decision; None before the first.
    """

    kept: ServedModel
    fingerprint: str
    known: Keys
    keys: Keys = field(default_factory=_no_keys)
    differences: Floats = field(default_factory=_no_floats)
    tripped_on: Keys | None = None
    check: Check | None = None

    @property
    def tripped(self) -> bool:
        """Whether the kept model is used."""
        return self.tripped_on is not None


def excess_and_noise(differences: Floats) -> tuple[float, float]:
    """The mean of paired differences, and what it may be by chance.

    Args:
        differences: (n,) in the order in which the rows came, n at least 4.

    Returns:
        Mean, and two standard errors with Student's factor for about sqrt(n) blocks.
    """
    exact = differences.astype(np.float64)
    n, n_blocks = len(exact), isqrt(len(exact))
    means = np.array([block.mean() for block in np.array_split(exact, n_blocks)])
    by_row, by_block = exact.std(ddof=1) / sqrt(n), means.std(ddof=1) / sqrt(n_blocks)
    return float(exact.mean()), _student(n_blocks - 1) * float(max(by_row, by_block))


def _student(freedom: int) -> float:
    """Quantile of Student's t where the normal distribution has two standard errors.

    The first terms of its Cornish-Fisher expansion; from 6 degrees of freedom right to 1 %.
    """
    z, n = STANDARD_ERRORS, freedom
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + first / n + second / n**2


def after_comparison(guard: Guard | None, newest: ServedModel, found: FreshRows) -> Guard:
    """The guard after a round has compared.

    Args:
        guard: before it; None before the first round.
        newest: the model that a guard that has not tripped uses, as it was when the round began.
        found: in the round.
    """
    known = found.known
    if guard is None:
        return Guard(newest, found.fingerprint, _no_keys() if known is None else known)
    guard = replace(
        guard,
        fingerprint=found.fingerprint,
        known=guard.known if known is None else known,
        keys=np.concatenate([guard.keys, found.keys])[-MOST_ROWS:],
        differences=np.concatenate([guard.differences, found.differences])[-MOST_ROWS:],
    )
    decide = _recovered if guard.tripped else _watched
    return decide(guard, newest, found)


def _watched(guard: Guard, newest: ServedModel, _: FreshRows) -> Guard:
    if len(guard.differences) < FEWEST_ROWS:
        return guard
    excess, noise = excess_and_noise(guard.differences)
    if 0 < excess <= noise:
        return guard
    check = Check(
        newest.name, guard.kept.name, len(guard.differences), excess, noise, tripped=excess > 0
    )
    if check.tripped:
        return _begun_anew(replace(guard, tripped_on=guard.keys, check=check))
    return _begun_anew(replace(guard, kept=newest, check=check))


def _recovered(guard: Guard, newest: ServedModel, found: FreshRows) -> Guard:
    again = len(guard.differences) < FEWEST_ROWS
    differences = found.again if again else guard.differences
    if len(differences) < FEWEST_ROWS:
        return guard
    excess, noise = excess_and_noise(differences)
    if excess < -noise if again else excess <= 0:
        rows, older = len(differences), guard.kept.name
        check = Check(newest.name, older, rows, excess, noise, tripped=False, again=again)
        return _begun_anew(replace(guard, tripped_on=None, check=check))
    # rows that spoke against an earlier newest model say nothing about the next one
    return guard if again else _begun_anew(guard)


def _begun_anew(guard: Guard) -> Guard:
    return replace(guard, keys=_no_keys(), differences=_no_floats())


def standing(guard: Guard | None) -> str:
    """How it stands, in words."""
    if guard is None:
        return "off: no training yet"
    rows = f"{len(guard.differences)} of {FEWEST_ROWS} new rows"
    if guard.tripped:
        return f"tripped: {guard.kept.name} is used; {rows}"
    if len(guard.differences) < FEWEST_ROWS:
        return f"off: {rows}"
    excess, noise = excess_and_noise(guard.differences)
    compared = counted(len(guard.differences), "new row")
    return f"watching: {excess:+.3g} against {guard.kept.name} on {compared}, noise {noise:.3g}"


def in_words(check: Check) -> str:
    """What a decision was, on one line."""
    rows = counted(check.rows, "row" if check.again else "new row")
    rows += " that it had tripped on" if check.again else ""
    found = f"error {check.excess:+.3g} against {check.older} on {rows}, noise {check.noise:.3g}"
    return f"{check.newer} {'refused' if check.tripped else 'taken'}: {found}"


def change_in_words(before: Guard | None, after: Guard | None) -> str | None:
    """For the log, when a guard has tripped or recovered; otherwise None."""
    if after is None or after.check is None or after.tripped == (before and before.tripped):
        return None
    if before is None or not (before.tripped or after.tripped):
        return None
    what = f"tripped, {after.kept.name} is used" if after.tripped else "recovered"
    return f"the guard has {what}: {in_words(after.check)}"
