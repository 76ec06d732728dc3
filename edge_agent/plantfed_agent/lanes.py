"""What is to come of a content on lanes, together with others who fetch it: pure."""

from dataclasses import dataclass, field

from plantfed_shared.messages import Group
from plantfed_shared.transfer import Assembly


@dataclass(slots=True)
class Lanes:
    """Which parts of a content are to come on lanes.

    Attributes:
        group: in which it is fetched together with others, if it is.
        of_part: the group of each part that is to come on a lane.
        alone: nothing has come on lanes: it is fetched by NEED.
    """

    group: int | None = None
    of_part: dict[int, int] = field(default_factory=dict)
    alone: bool = False

    def join(self, group: Group, assembly: Assembly) -> None:
        """From now on what is missing comes in this group."""
        self.group = group.number
        if group.missed is not None and self.of_part.get(group.missed) not in (None, group.number):
            # what was on that lane is either here by now or will not come
            assembly.part_is_lost(group.missed)
            del self.of_part[group.missed]

    def take(self, assembly: Assembly) -> list[int] | None:
        """The next parts that are to come on lanes; None where NEED has to ask for what is next."""
        if self.group is None:
            return None
        parts = assembly.next_parts()
        self.of_part |= dict.fromkeys(parts or (), self.group)
        return parts

    def came(self, assembly: Assembly) -> None:
        """Listen no more for the parts that are here."""
        for part in [part for part in self.of_part if assembly.part_is_here(part)]:
            del self.of_part[part]

    def leave(self, assembly: Assembly) -> None:
        """Nothing comes on lanes: the rest is asked for alone."""
        self.group, self.alone = None, True
        for part in self.of_part:
            assembly.part_is_lost(part)
        self.of_part.clear()
