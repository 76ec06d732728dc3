"""What the agent fetches from the coordinator: definition, dual, artefact and models.

A definition, a dual and the artefact of a compiled model have names, in an offer, a WELCOME and the
definition.  A model is asked for by WANT, or by
the update that leads to it, and comes as the difference from the one that is here.  Then the
request *stands*: the coordinator sends the next model by itself, and is only reminded where a newer
one is known to exist.

A long model or artefact that others want too comes in parts on lanes (GROUP): to a lane we listen
from before the part is asked for until it is here, and to no others.
"""

from math import inf
from typing import NamedTuple

from plantfed_agent.desk import Desk
from plantfed_agent.events import HalfFetched, KeepArtefact, Listen, StopListening
from plantfed_agent.fetching import Fetch, ModelFetch, Purpose
from plantfed_agent.membership import Link, Membership
from plantfed_agent.shelf import Shelf
from plantfed_shared.codec import decode_integers, decode_model
from plantfed_shared.errors import PeerError
from plantfed_shared.lattice import Integers, checksum
from plantfed_shared.messages import Chunk, Content, Epoch, Group, ModelName, Part
from plantfed_shared.patience import LONGEST_PATIENCE_S, Patience


class FetchedModel(NamedTuple):
    """A model that is whole and has the checksum in its name.

    Attributes:
        name: of it.
        integers: int64 (shared,), lattice units.
        turnovers: when it was released, see :class:`plantfed_shared.codec.DecodedStep`.
    """

    name: ModelName
    integers: Integers
    turnovers: int


class FetchedDefinition(NamedTuple):
    """Canonical bytes of the federation's definition, as they were offered."""

    encoded: bytes


class _Want(NamedTuple):
    purpose: Purpose
    content: Content


class Downloads:
    """The agent's side of WANT, NEED, GROUP, PART and CHUNK.

    Args:
        desk: of the agent.
        membership: how it stands with the coordinator.
        half: fetched before the start.

    Attributes:
        last_step_bytes: of the last model that came as a difference.
    """

    def __init__(self, desk: Desk, membership: Membership, half: HalfFetched | None = None) -> None:
        self.last_step_bytes: int | None = None
        self._desk = desk
        self._membership = membership
        self._named: Fetch | None = None
        self._model: ModelFetch | None = None
        self._heard: set[str] = set()
        self._shelf = Shelf(desk, half)

    @property
    def busy(self) -> bool:
        """Whether something is on its way, or asked for."""
        return self._named is not None or self._model is not None

    @property
    def model_has_begun(self) -> bool:
        """Whether a part of a model is here: it is finished, when the link allows."""
        if self._model is None:
            return self._shelf.has_model
        return self._model.has_begun

    @property
    def _is_heard(self) -> bool:
        """Whether the coordinator has answered on this connection: before, a NEED may be lost."""
        link, welcome = self._membership.link, self._membership.welcome
        return link is Link.JOINED or (link is Link.JOINING and welcome is not None)

    def next_timer(self) -> float | None:
        """When something has to be asked for again."""
        if not self._is_heard:
            return None
        due = [fetch.patience.due for fetch in self._fetches]
        return min((d for d in due if d < inf), default=None)

    def take_timers(self, now: float) -> None:
        """Ask again for what has not come."""
        if not self._is_heard:
            return
        for fetch in self._fetches:
            if now >= fetch.patience.due:
                fetch.give_up()
                self._ask(fetch, now)

    def connected(self, now: float) -> None:
        """What was asked for on the connection before will not come any more."""
        self._heard.clear()
        if self._named is not None:
            self._named.wait(now)
        if self._model is not None and self._model.has_begun:
            self._model.wait(now)
        else:
            self._model = None

    # ------------------------------------------------------------------ what is wanted

    def choose(self, now: float, *, wants_model: bool) -> None:
        """Ask for what is missing now.

        Args:
            now: monotonic seconds.
            wants_model: a newer model is known, and there is use for it.
        """
        if not self._is_heard:
            return  # what is half here is kept for after the join
        want = self._named_want()
        if want is None:
            self._named = None
        elif self._named is None or (self._named.purpose, self._named.content) != want:
            self._named = Fetch(*want, Patience(now))
            half = self._shelf.take(self._named.content)
            if half is not None:
                self._named.resume(half)
            self._ask(self._named, now)
        if self._model is not None and self._model.epoch != self._desk.state.epoch:
            self._model = None
        joined = self._membership.link is Link.JOINED
        if want is None and joined and self._desk.has_definition() and wants_model:
            self._want_model(now)

    def _ask(self, fetch: Fetch | ModelFetch, now: float) -> None:
        """Ask for what is missing, as much of it as the link allows now."""
        if fetch.assembly is not None:
            self._shelf.keep(fetch.assembly, fetch.step)
        pull = self._desk.link.pull(fetch.missing_bytes, now)
        if pull.window_bytes:
            # less may be on its way than before, the less of the day's budget is left
            if pull.window_bytes > fetch.bytes_on_their_way:
                if fetch.takes_lanes(pull, now):
                    return  # PARTs follow when the broker has answered
                self._desk.send(fetch.request(pull, now))
            return
        fetch.wait(pull.not_before)
        if isinstance(fetch, Fetch) and fetch.purpose is Purpose.DUAL:
            # another hello before it is here would be given yet another incarnation
            self._membership.wait_for_dual(pull.not_before)

    def stand(self, window_bytes: int, until: float) -> None:
        """An update that was just sent asks for the model after it.

        Args:
            window_bytes: so much of it at first.
            until: monotonic seconds; before, others may go first.
        """
        if self._model is None:
            self._model = self._model_fetch(inf)
            self._model.window_bytes, self._model.stands_until = window_bytes, until

    def fall(self) -> None:
        """That update was not applied: nothing will come of it."""
        if self._model is not None and not self._model.has_begun:
            self._model = None

    def begin_anew(self) -> None:
        """Another model is here: the next one is asked for as the difference from that."""
        self._model = None

    def _named_want(self) -> _Want | None:
        offer, welcome = self._desk.offer, self._membership.welcome
        if offer is None:
            return None
        if not self._desk.has_definition():
            return _Want(Purpose.DEFINITION, offer.definition)
        if welcome is not None and welcome.dual is not None:
            return _Want(Purpose.DUAL, welcome.dual)
        # behind the dual: until that is here the join is not finished
        artefact = self._desk.missing_artefact()
        if artefact is not None and self._membership.link is Link.JOINED:
            return _Want(Purpose.ARTEFACT, artefact)
        return None

    def _want_model(self, now: float) -> None:
        if self._model is None:
            self._model = self._model_fetch(now)
            half = self._shelf.take_model()
            if half is not None:
                self._model.resume(half)
            self._ask(self._model, now)
        elif self._model.patience.due == inf:
            self._model.patience.begin(max(now, self._model.stands_until))

    def _model_fetch(self, due: float) -> ModelFetch:
        have, epoch = self._desk.state.model_name, self._desk.state.epoch
        if have is not None and (have.epoch != epoch or self._desk.state.model is None):
            have = None
        return self._model_to_fetch(epoch, have, Patience(due))

    def _model_to_fetch(
        self, epoch: Epoch | None, have: ModelName | None, patience: Patience
    ) -> ModelFetch:
        window, ahead = self._desk.window_bytes, self._desk.link.asks_ahead
        return ModelFetch(epoch, have, patience, window, ahead)

    # ------------------------------------------------------------------ together with others

    def take_group(self, group: Group, now: float) -> None:
        """Others want the model too: from now on it comes in parts.

        Raises:
            PeerError: it is longer than any model.
        """
        if self._named is not None and self._named.content == group.content:
            if self._named.join(group):
                self._ask(self._named, now)
        elif self._model is not None and self._model.join(group, self._desk.lattice()):
            self._ask(self._model, now)

    def take_lane(self, topic: str, now: float, *, allowed: bool) -> None:
        """The broker has answered that we want to hear of a lane: ask for what is to come on it."""
        if topic not in self._heard:
            return
        for fetch in self._fetches:
            parts = [key for key, lane in self._lanes_of(fetch).items() if lane == topic]
            if not parts or fetch.assembly is None:
                continue
            if not allowed:
                fetch.lanes.leave(fetch.assembly)
                self._ask(fetch, now)
                return
            digest = fetch.assembly.content.digest
            for group, part in parts:
                self._desk.send(Part(digest=digest, step=fetch.step, group=group, part=part))

    @property
    def _fetches(self) -> list[Fetch | ModelFetch]:
        return [fetch for fetch in (self._named, self._model) if fetch is not None]

    def _lanes_of(self, fetch: Fetch | ModelFetch) -> dict[tuple[int, int], str]:
        """The topic of every group and part that is to come on a lane."""
        lane = self._desk.topics.lane
        return {(group, part): lane(group, part) for part, group in fetch.lanes.of_part.items()}

    def tidy(self) -> None:
        """Drop what was kept of other contents; listen where something is to come, nowhere else."""
        self._shelf.tidy([f.assembly for f in self._fetches if f.assembly is not None])
        wanted = {topic: None for f in self._fetches for topic in self._lanes_of(f).values()}
        for topic in sorted(self._heard - wanted.keys()):
            self._desk.ask(StopListening(topic))
        for topic in wanted:
            if topic not in self._heard:
                self._desk.ask(Listen(topic))
        self._heard = set(wanted)

    # ------------------------------------------------------------------ what comes

    def content_may_be_gone(self, now: float) -> None:
        """A STATE with an offer and no verdict answers a NEED that can't be served any more.

        One that answers a HELLO says nothing of a model that is half here: on a link that is cut
        now and then, beginning anew at every reconnect would never end.
        """
        if self._model is not None and self._model.has_begun:
            self._model.begin_anew()
            self._model.patience.due = now

    def take_chunk(
        self, chunk: Chunk, piece: memoryview, now: float
    ) -> FetchedDefinition | FetchedModel | None:
        """A piece of what is fetched; returns what is whole with it.

        Raises:
            PeerError: it doesn't fit, or the whole is not what was promised.
        """
        if self._named is not None and self._named.content == chunk.content:
            return self._take_named(self._named, chunk, piece, now)
        if self._model is not None:
            return self._take_part_of_model(self._model, chunk, piece, now)
        return None

    def _take_named(
        self, fetch: Fetch, chunk: Chunk, piece: memoryview, now: float
    ) -> FetchedDefinition | None:
        more = fetch.accept(chunk, piece, now)
        welcome = self._membership.welcome
        if fetch.purpose is Purpose.DUAL and welcome is not None:
            self._membership.wait_for_dual(now)
        try:
            whole = fetch.finished()
        except PeerError:
            self.slow_down(now)
            raise
        if whole is None:
            if more:
                self._ask(fetch, now)
            return None
        if fetch.purpose is Purpose.DEFINITION:
            return FetchedDefinition(whole)
        if fetch.purpose is Purpose.ARTEFACT:
            self._desk.ask(KeepArtefact(fetch.content.digest, whole))
            self._desk.artefacts = frozenset({fetch.content.digest})
            self._named = None
            return None
        try:
            if welcome is not None:
                dual = self._dual_in(whole, welcome.dual_checksum)
                self._membership.finish_welcome(welcome, dual)
        except PeerError:
            self.slow_down(now)
            raise
        self._named = None
        return None

    def take_over(self) -> None:
        """The definition that was fetched is in force."""
        self._named = None

    def slow_down(self, now: float) -> None:
        """What is served is not right, and may never be: not at network speed."""
        if self._named is not None:
            due = Patience(now + LONGEST_PATIENCE_S)
            self._named = Fetch(self._named.purpose, self._named.content, due)

    def _take_part_of_model(
        self, fetch: ModelFetch, chunk: Chunk, piece: memoryview, now: float
    ) -> FetchedModel | None:
        more = fetch.accept(chunk, piece, now, self._desk.lattice())
        try:
            whole = fetch.finished()
            if whole is None:
                if more:
                    self._ask(fetch, now)
                return None
            self._model = None
            return self._model_in(whole)
        except PeerError:
            # a whole model, and not at network speed
            due = Patience(now + LONGEST_PATIENCE_S)
            self._model = self._model_to_fetch(fetch.epoch, None, due)
            raise

    def _model_in(self, whole: bytes) -> FetchedModel | None:
        state = self._desk.state
        found = decode_model(whole, self._desk.lattice())
        if found.name.epoch != state.epoch:
            return None
        here = state.model_name if state.model is not None else None
        base = None
        if here is not None and here.epoch == found.name.epoch:
            if found.name.k <= here.k:
                return None
            base = state.model if here.k == found.step.base_k else None
        if base is not None:
            self.last_step_bytes = len(whole)
        return FetchedModel(found.name, found.model(base), found.turnovers)

    def _dual_in(self, encoded: bytes, wanted: int) -> Integers:
        dual = decode_integers(encoded, self._desk.lattice())
        if checksum(dual) != wanted:
            raise PeerError("the fetched dual does not have the checksum in the WELCOME")
        return dual
