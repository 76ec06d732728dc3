"""What one member has had in use, computed anew from the journal.

In mode ``auto`` that is an average of the releases its updates began from, made on its machine (see
:mod:`plantfed_shared.own_average`); in the others each release itself.  What is personal on it, and
what its guard has decided, no journal of a coordinator knows.
"""

from dataclasses import dataclass

from plantfed_coordinator.records import Applied, EpochStarted, IncarnationRaised, Joined, Record
from plantfed_coordinator.state import FederationState
from plantfed_shared.errors import ConfigError
from plantfed_shared.lattice import checksum
from plantfed_shared.own_average import OwnAverage, average_with, begins_anew, goes_back_to


@dataclass(frozen=True, slots=True)
class Used:
    """The shared parameters that a member had in use while it had a release.

    Attributes:
        incarnation: of the member.
        seq: of its update that began from the release; None where none was applied yet.
        name: of what was in use, as the agent calls it.
        checksum: of its integers.
    """

    incarnation: int
    seq: int | None
    name: str
    checksum: int


class UsedBy:
    """Follows a journal from its beginning, or from a snapshot.

    Args:
        agent: the member.
        whole: it is followed from the founding.  Otherwise an average that goes back further is not
            known, and nothing is said until that is forgotten.
    """

    def __init__(self, agent: str, *, whole: bool) -> None:
        self._agent = agent
        self._found: list[Used] = []
        self._average: OwnAverage | None = None
        self._known_since: int | None = 0 if whole else None
        self._was_there = False

    def take(self, record: Record, state: FederationState) -> None:
        """The next record.

        Args:
            record: of the journal.
            state: after it.
        """
        match record:
            case EpochStarted():
                self._begin_anew()
            case Joined(agent) | IncarnationRaised(agent) if agent == self._agent:
                self._begin_anew()
                self._was_there = True
            case Applied(agent=agent, seq=seq, base_k=base_k) if agent == self._agent:
                self._was_there = True
                self._average = self._note(state, base_k, seq)

    def found(self, state: FederationState) -> tuple[Used, ...]:
        """What it had with each update, and what it has once it has fetched what it was served.

        Args:
            state: after the last record.

        Raises:
            ConfigError: there was no such member.
        """
        member = state.members.get(self._agent)
        if member is not None:
            # it has the base of its last update, and may have what it was served since then
            kept = [k for k in (member.pinned, member.held) if k is not None]
            self._note(state, max(kept, default=state.k), None)
        elif not self._was_there:
            raise ConfigError(
                f"--used-by {self._agent}: no such member in what is kept of the journal",
                where=state.terms.definition.federation,
                hint="See: plantfed-coordinator members",
            )
        return tuple(self._found)

    def _begin_anew(self) -> None:
        self._average, self._known_since = None, 0

    def _note(self, state: FederationState, k: int, seq: int | None) -> OwnAverage | None:
        release, turnovers = state.versions[k], state.turnovers.get(k, 0)
        before = self._average
        average = average_with(before, release, turnovers)
        if average is None or (before is not None and begins_anew(before.at, turnovers)):
            self._known_since = 0
        elif self._known_since is None:
            self._known_since = turnovers
        if self._known_since < goes_back_to(turnovers) or not self._known_since:
            model = release if average is None else average.usable
            is_average = average is not None and before is not None
            name = f"average up to release {k}" if is_average else f"release {k}"
            incarnation = state.members[self._agent].incarnation
            self._found.append(Used(incarnation, seq, name, checksum(model)))
        return average
