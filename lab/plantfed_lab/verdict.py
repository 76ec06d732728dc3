"""What came out of a demo, in sentences that don't flatter."""

from math import ceil

from plantfed_lab.results import DemoResult
from plantfed_shared.wording import counted

SAME_POINTS = 0.5
"""Differences below so many percentage points are called none."""
ENOUGH_UPDATES = 20
"""Per machine.  In demos of 3 to 20 plants learning together was behind with 4 and 6 updates each
(-4.8 and -5.5 points), level with 10 and 15, and ahead from 20 on (+3.4; +6.2 with 60)."""


def verdict(result: DemoResult) -> str:
    """How accurate the machines are, compared to each alone, and whether the run was too short."""
    n, points = len(result.agents), 100 * (result.accuracy.personal - result.accuracy.local)
    who = f"{n} machines that learn together" if n > 1 else "One machine in a federation of one"
    does = "recognise" if n > 1 else "recognises"
    share = f"{100 * result.accuracy.personal:.1f} % of {'their' if n > 1 else 'its'} test rows"
    others = "each alone" if n > 1 else "alone"
    alone = f"{100 * result.accuracy.local:.1f} %"
    found = f"{who} {does} {share}"
    if points > SAME_POINTS:
        return f"{found}: {points:.1f} points more than {others} ({alone})."
    short = too_short(result)
    if points < -SAME_POINTS:
        ending = short or "Learning together has not paid off in this run."
        return f"{found}: {-points:.1f} points less than {others} ({alone}). {ending}"
    return f"{found}, the same as {others} ({alone}): no difference in this run. {short}".rstrip()


def too_short(result: DemoResult) -> str:
    """That there were too few releases to say anything, and how many would do; else nothing."""
    each = result.updates / len(result.agents)
    if each >= ENOUGH_UPDATES or len(result.agents) == 1:
        return ""
    # to the next ten
    releases = ceil(result.releases * ENOUGH_UPDATES / max(each, 1) / 10) * 10
    return (
        f"This run was too short to judge by: {counted(result.releases, 'release')} gave each "
        f"machine {each:.1f} updates on average, and it takes about {ENOUGH_UPDATES}. "
        f"Try --releases {releases} or more."
    )
