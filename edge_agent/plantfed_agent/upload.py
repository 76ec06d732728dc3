"""The outstanding update on its way: published or offered, in pieces, again until its verdict."""

from plantfed_agent.desk import Desk
from plantfed_agent.downloads import Downloads
from plantfed_agent.events import Publish
from plantfed_agent.local_update import model_wanted
from plantfed_agent.pace import THINNEST_LINK_BYTES_PER_S
from plantfed_shared.messages import Need, Offer
from plantfed_shared.patience import Answered
from plantfed_shared.topics import COORDINATOR, Kind
from plantfed_shared.transfer import Blob, chunks


class Upload:
    """The agent's side of UPDATE, OFFER and NEED.

    Args:
        desk: of the agent.
        downloads: of the agent; an update asks for the next model.
    """

    def __init__(self, desk: Desk, downloads: Downloads) -> None:
        self._desk = desk
        self._downloads = downloads
        self._begun: bytes | None = None
        self._answered = Answered()

    def connected(self) -> None:
        """What was asked for on the connection before may be asked for again."""
        self._answered.forget()

    def take_timers(self, now: float) -> None:
        """Send again what has not been answered."""
        resend, outstanding = self._desk.pace.resend, self._desk.state.outstanding
        if resend.is_due(now) and outstanding is not None:
            resend.again(now)
            self._publish(outstanding, now)

    def begin(self, outstanding: bytes, now: float) -> None:
        """Send it, and again until it is answered."""
        bytes_per_s = self._desk.link.limits.bytes_per_s or THINNEST_LINK_BYTES_PER_S
        crossing_s = len(outstanding) / min(bytes_per_s, THINNEST_LINK_BYTES_PER_S)
        self._desk.pace.resend.start(now, at_least_s=2 * crossing_s)
        self._publish(outstanding, now)

    def still_to_send(self, outstanding: bytes) -> int:
        """Bytes of it; one that has been offered goes on as long as there is any budget."""
        whole = len(outstanding) <= self._desk.max_payload_bytes
        return len(outstanding) if whole or self._begun is not outstanding else 1

    def serve(self, need: Need, digest: int, now: float) -> None:
        """The coordinator asks for pieces of the update it was offered."""
        if self._desk.state.outstanding is None:
            return
        if self._answered.is_copy(COORDINATOR, digest, now):
            return
        blob = Blob.of(self._desk.state.outstanding)
        if blob.content.digest == need.digest:
            asked_bytes = 0
            payload_bytes = self._desk.link.payload_that_fits(self._desk.max_payload_bytes)
            for chunk, piece in chunks(blob, need.ranges, payload_bytes):
                asked_bytes += len(piece)
                if not self._desk.link.may_go_on(asked_bytes):
                    return
                self._desk.send(chunk, piece)

    def _publish(self, outstanding: bytes, now: float) -> None:
        self._begun = outstanding
        wanted = model_wanted(outstanding)
        if wanted is not None:
            until = self._desk.release_after_s if wanted.others else 0.0
            self._downloads.stand(wanted.window, now + until)
        if len(outstanding) <= self._desk.max_payload_bytes:
            topic = self._desk.topics.up(self._desk.agent, Kind.UPDATE)
            self._desk.ask(Publish(topic, outstanding))
        else:
            self._desk.send(Offer(content=Blob.of(outstanding).content))
