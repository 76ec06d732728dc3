"""What one member has had in use, computed anew from the journal.

In mode ``auto`` that is an average of the releases its updates began from, made on its machine (see
:mod:`plantfed_shared.own_average`); in the others each release itself.  What is personal on it, and
what its guard has decided, no journal of a coordinator knows.
"""

from dataclasses import dataclass

from plantfed_coordinator.records import Applied, EpochStarted, IncarnationRaised, Joined, Record
from plantfed_coordinator.state import FederationState
from plantfed_shared.errors import ConfigError
from plantfed_shared.lattice import Integers, checksum
from plantfed_shared.own_average import average_with, usable


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
        whole: it is followed from the founding.  Otherwise an average that began before is not
            known, and nothing is said until the next one begins.
    """

    def __init__(self, agent: str, *, whole: bool) -> None:
        self._agent = agent
        self._found: list[Used] = []
        self._average: Integers | None = None
        self._at = 0
        self._known = whole
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
                self._note(state, base_k, seq)
                self._average = self._with(state, base_k)
                self._at = state.turnovers.get(base_k, 0)
                self._known |= self._average is None

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
        self._average, self._at, self._known = None, 0, True

    def _note(self, state: FederationState, k: int, seq: int | None) -> None:
        average = self._with(state, k)
        if not self._known and average is not None:
            return
        is_average = average is not None and self._average is not None
        model = state.versions[k] if average is None else usable(average)
        name = f"average up to release {k}" if is_average else f"release {k}"
        incarnation = state.members[self._agent].incarnation
        self._found.append(Used(incarnation, seq, name, checksum(model)))

    def _with(self, state: FederationState, k: int) -> Integers | None:
        return average_with(self._average, self._at, state.versions[k], state.turnovers.get(k, 0))
