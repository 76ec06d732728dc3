"""What the parts of the agent machine work on together: the state, and the actions they ask for."""

from typing import Any

from plantfed_agent.budget import LinkBudget, LinkLimits
from plantfed_agent.events import Action, Note, Persist, Publish
from plantfed_agent.guard import change_in_words
from plantfed_agent.pace import Pace
from plantfed_agent.state import AgentState, changed_fields, with_changes
from plantfed_shared import wire
from plantfed_shared.bus.port import MAX_MESSAGE_BYTES
from plantfed_shared.definition import CompiledModel
from plantfed_shared.errors import PeerError
from plantfed_shared.lattice import Lattice
from plantfed_shared.messages import KIND_OF_MESSAGE, Content, Message, ModelOffer, Status
from plantfed_shared.terms import Terms, terms_of
from plantfed_shared.topics import Topics
from plantfed_shared.transfer import WINDOW_BYTES


class Desk:
    """One agent's state and outbox.

    Args:
        agent: its id.
        topics: of the federation.
        state: read from disk.
        pace: timers and limits.
        limits: of its link.

    Attributes:
        state: as it is now.
        link: what may be done with the link now.
        offer: the newest model announced by the coordinator.
        max_payload_bytes: what the broker grants and the link carries at once.
        artefacts: digests of the compiled models that are on disk.
        window_bytes: how much may be on its way to this machine at once.
    """

    def __init__(
        self,
        agent: str,
        topics: Topics,
        state: AgentState,
        pace: Pace,
        limits: LinkLimits | None = None,
    ) -> None:
        self.agent = agent
        self.topics = topics
        self.pace = pace
        self.state = state
        self.link = LinkBudget(limits or LinkLimits(), topics, agent)
        self.offer: ModelOffer | None = None
        self.artefacts: frozenset[bytes] = frozenset()
        self.max_payload_bytes = MAX_MESSAGE_BYTES
        self.window_bytes = min(WINDOW_BYTES, self.link.largest_window)
        self._persisted = state
        self._actions: list[Action] = []

    @property
    def terms(self) -> Terms | None:
        """The definition in the state and what follows from it, once there is one."""
        return terms_of(self.state.definition) if self.state.definition else None

    def take_actions(self) -> list[Action]:
        """All that was asked for since the last time, what must be persisted first."""
        changed = changed_fields(self._persisted, self.state)
        # the newest name only guards against a model that goes back in time: not worth a write
        persist = [Persist(self.state, changed)] if changed - {"newest"} else []
        if persist:
            self._persisted = self.state
        actions, self._actions = self._actions, []
        return [*persist, *actions]

    def change(self, **changes: Any) -> None:
        """Replace fields of the state."""
        self.state = with_changes(self.state, **changes)

    def take_round(self, after: AgentState) -> None:
        """The state that a finished round leaves."""
        before, self.state = self.state, after
        line = change_in_words(before.guard, after.guard)
        if line is not None:
            self.note(line, warning=after.guard is not None and after.guard.tripped)

    def ask(self, action: Action) -> None:
        """Ask the shell for something."""
        self._actions.append(action)

    def send(self, message: Message, tail: bytes = b"") -> None:
        """Send a message to the coordinator."""
        if isinstance(message, Status):
            topic, retain = self.topics.status(self.agent), True
        else:
            topic, retain = self.topics.up(self.agent, KIND_OF_MESSAGE[type(message)]), False
        self.ask(Publish(topic, wire.encode(message, tail), retain))

    def note(self, text: str, *, warning: bool = False) -> None:
        """Tell the reader of the log."""
        self.ask(Note(text, warning))

    @property
    def release_after_s(self) -> float:
        """So long after a change there is a release at the latest; 0 before the definition."""
        return self.terms.definition.schedule.release_after_s if self.terms else 0.0

    def has_definition(self) -> bool:
        """Whether the definition on disk is the one the coordinator offers."""
        if self.offer is None or self.terms is None:
            return False
        return self.offer.definition.digest == self.terms.digest

    def missing_artefact(self) -> Content | None:
        """The compiled model of this federation, while it is not on disk."""
        terms = self.terms
        if terms is None or not isinstance(terms.definition.model, CompiledModel):
            return None
        digest = bytes.fromhex(terms.definition.model.digest)
        return None if digest in self.artefacts else Content(digest, terms.definition.model.size)

    def lattice(self) -> Lattice:
        """Of the shared vector.

        Raises:
            PeerError: there is no definition yet.
        """
        if self.terms is None:
            raise PeerError("numbers came before the federation's definition")
        return self.terms.lattice
