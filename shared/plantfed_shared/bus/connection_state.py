"""What a bus says about itself: connected or not, since when, and what went wrong last."""

import json
from dataclasses import asdict, dataclass
from enum import StrEnum

from plantfed_shared.errors import BrokerError, BrokerRefused

_HINTS = {
    BrokerError: "Is the broker running and the url right?",
    BrokerRefused: "Check [broker] in the settings",
}


class TroubleKind(StrEnum):
    """Who can end a trouble.

    Attributes:
        UNAVAILABLE: the broker or the way to it is down; trying again may help.  Exit code 69.
        REFUSED: the broker objects to this identity, or another process uses it; somebody has to
            change something.  Exit code 77.
    """

    UNAVAILABLE = "unavailable"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why there was no connection.

    Attributes:
        text: one line for a person.
        kind: who can end it.
        at: when it was noticed, seconds of Unix time.
    """

    text: str
    kind: TroubleKind
    at: float

    def as_error(self) -> BrokerError:
        """The error with the exit code of this kind (69 or 77)."""
        kind = BrokerRefused if self.kind is TroubleKind.REFUSED else BrokerError
        return kind(self.text, hint=_HINTS[kind])


@dataclass(frozen=True, slots=True)
class ConnectionState:
    """How things stand now, which may be ahead of the events not yet taken.

    Attributes:
        connected: the connection stands and all subscriptions are active.
        since: of that, or of its absence; seconds of Unix time.
        trouble: the last one, kept when it is over; None if there never was any.
    """

    connected: bool
    since: float
    trouble: Trouble | None = None

    def made(self, at: float) -> "ConnectionState":
        """There is a connection from now on."""
        return ConnectionState(True, at, self.trouble)

    def failed(self, trouble: Trouble) -> "ConnectionState":
        """It broke, or one more attempt at it has failed."""
        return ConnectionState(False, trouble.at if self.connected else self.since, trouble)

    def ended(self, at: float) -> "ConnectionState":
        """It was ended in good order."""
        return ConnectionState(False, at if self.connected else self.since, self.trouble)

    def differs(self, other: "ConnectionState | None") -> bool:
        """Whether a reader would care: attempts that fail as the last one did are no news."""
        return other is None or self._news() != other._news()

    def _news(self) -> tuple[bool, str]:
        return self.connected, self.trouble.text if self.trouble else ""

    def to_json(self) -> str:
        """For :meth:`from_json`."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "ConnectionState":
        """The inverse of :meth:`to_json`.

        Raises:
            ValueError: it is something else.
        """
        try:
            fields = json.loads(text)
            trouble = fields["trouble"]
            if trouble is not None:
                kind = TroubleKind(trouble["kind"])
                trouble = Trouble(str(trouble["text"]), kind, float(trouble["at"]))
            return cls(bool(fields["connected"]), float(fields["since"]), trouble)
        except (LookupError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"no state of a connection: {error!r}") from None
