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
    """The headline, and where it is due that the run was too short."""
    return f"{headline(result)} {too_short(result)}".rstrip()


def headline(result: DemoResult) -> str:
    """How accurate the machines are, compared to each alone."""
    n, points = len(result.agents), 100 * (result.accuracy.personal - result.accuracy.local)
    who = f"{n} machines that learn together" if n > 1 else "One machine in a federation of one"
    does = "recognise" if n > 1 else "recognises"
    tested = f"{'their' if n > 1 else 'its'} test {result.samples}"
    share = f"{100 * result.accuracy.personal:.1f} % of {tested}"
    others = "each alone" if n > 1 else "alone"
    alone = f"{100 * result.accuracy.local:.1f} %"
    found = f"{who} {does} {share}"
    if points > SAME_POINTS:
        return f"{found}: {points:.1f} points more than {others} ({alone})."
    if points < -SAME_POINTS:
        ending = "" if too_short(result) else " Learning together has not paid off in this run."
        return f"{found}: {-points:.1f} points less than {others} ({alone}).{ending}"
    return f"{found}, the same as {others} ({alone}): no difference in this run."


def too_short(result: DemoResult) -> str:
    """Where learning together is not ahead: that it had too few releases, and how many would do.

    Else, and for one machine, which has nobody to learn from, an empty text.
    """
    each, n = result.updates / len(result.agents), len(result.agents)
    ahead = 100 * (result.accuracy.personal - result.accuracy.local) > SAME_POINTS
    if ahead or each >= ENOUGH_UPDATES or n == 1:
        return ""
    # to the next ten
    releases = ceil(result.releases * ENOUGH_UPDATES / max(each, 1) / 10) * 10
    return (
        f"This run was too short to judge by: {counted(result.releases, 'release')} gave each "
        f"machine {each:.1f} updates on average, and it takes about {ENOUGH_UPDATES}. "
        f"Try --releases {releases} or more."
    )
