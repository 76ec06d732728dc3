"""How much of its change a machine sends, and how soon it wants to go on.

Little is sent at first, more where its loss stalls.  A machine that has little left to learn lets
others go first: it would say the same again.  Decided from the mean loss at the start of a round,
which shows what the model before it was worth to this machine.
"""

from typing import NamedTuple

from plantfed_shared.definition import Compression, Mode

SMOOTHING = 0.3
"""Share of a new loss in the level."""
PROGRESS = 0.03
"""Part of the level by which it must have fallen to count as progress."""
PATIENCE_ROUNDS = 8
"""Without progress before more is kept."""
GROWTH = 1.5
STILL_LEARNING = 0.75
"""Part of its highest loss down to which a machine waits for nobody."""
OTHERS_AT_LEAST: dict[Mode, float] = {"auto": 0.7}
"""Of the live members: in mode auto the model is made of those who came last, and a machine that
trains on what is mostly its own echo learns nothing from the others."""


class Need(NamedTuple):
    """What has to be known from round to round.

    Attributes:
        keep: part of the parameters that the last update kept.
        level: smoothed loss at the start of a round; None before the first.
        lowest: level at the last progress.
        stalled: rounds since then.
        highest: level there has been.
    """

    keep: float
    level: float | None = None
    lowest: float = 0.0
    stalled: int = 0
    highest: float = 0.0


def need_after(need: Need | None, compression: Compression, start_loss: float | None) -> Need:
    """The need of the round that is finished.

    Args:
        need: after the round before, or None.
        compression: bounds the part that is kept.
        start_loss: mean loss on the training rows before the round; None where it is not known.
    """
    if need is None:
        need = Need(compression.keep)
    keep = min(max(need.keep, compression.keep), compression.keep_at_most)
    if start_loss is None:
        return need._replace(keep=keep)
    if need.level is None:
        return Need(keep, start_loss, start_loss, highest=start_loss)
    level = need.level + SMOOTHING * (start_loss - need.level)
    highest = max(need.highest, level)
    if level < need.lowest * (1 - PROGRESS):
        return Need(keep, level, level, highest=highest)
    if need.stalled + 1 < PATIENCE_ROUNDS:
        return Need(keep, level, need.lowest, need.stalled + 1, highest)
    return Need(min(GROWTH * keep, compression.keep_at_most), level, level, highest=highest)


def others_wanted(need: Need, pace: float, at_least: float = 0.0) -> int:
    """How many 256ths of the live members this machine lets send an update before its next round.

    All of ``pace`` where its loss has fallen to nothing, none where it is still three quarters of
    the highest it was, in proportion in between.

    Args:
        need: after the round that is finished.
        pace: see :class:`plantfed_shared.definition.Schedule`.
        at_least: part of the live members, whatever the loss.
    """
    learnt = 0.0
    if need.level is not None and need.highest > 0:
        learnt = 1 - need.level / need.highest / STILL_LEARNING
    return round(256 * max(at_least, pace * min(1.0, max(0.0, learnt))))
