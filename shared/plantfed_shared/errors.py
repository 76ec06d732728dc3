"""Every error PlantFed raises on purpose.

    PlantfedError
        ConfigError       a settings file, a federation file or an argument is wrong   exit 78
        DataError         rows on this machine cannot be used                          exit 65
        ModelError        a model file or an artefact cannot be used                   exit 65
            LostModelError    the artefact on this machine's disk is damaged or gone
        BrokerError       the broker cannot be reached or started, a port is taken     exit 69
            BrokerRefused     the broker refused this identity                         exit 77
        StorageError      the state on disk cannot be read or written                  exit 74
        TrainingError     the training process failed or the numbers overflowed        exit 70
        PeerError         the other side sent something that breaks the protocol       (never exits)
            DamagedError      or something else was made of it on its way

Each message is one line: what is wrong, where, and what to do about it.  Exit codes are those of
``sysexits.h``; a wrong command line exits 2, output that nobody
reads any more 141.
"""

from typing import ClassVar


class PlantfedError(Exception):
    """Base of all errors above.

    Args:
        what: what is wrong, with the offending value.
        where: file, key, line or topic it was found at.
        hint: what the reader should do.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        self.what = what
        self.where = where
        self.hint = hint
        place = f"{where}: " if where else ""
        advice = f". {hint}" if hint else ""
        line = " ".join(f"{place}{what}{advice}".split())
        # some of it may be from a file or a peer, and must not control a terminal
        super().__init__("".join(c if c.isprintable() else "?" for c in line))


class ConfigError(PlantfedError):
    """A settings file, a federation file or an argument is wrong."""

    exit_code = 78


class DataError(PlantfedError):
    """Rows on this machine cannot be used."""

    exit_code = 65


class ModelError(PlantfedError):
    """A model file, or the artefact that was compiled from one, cannot be used."""

    exit_code = 65


class LostModelError(ModelError):
    """The artefact on this machine's disk is damaged or gone: it can be fetched anew."""


class BrokerError(PlantfedError):
    """The broker cannot be reached or started."""

    exit_code = 69


class BrokerRefused(BrokerError):
    """The broker refused this user, password or certificate."""

    exit_code = 77


class StorageError(PlantfedError):
    """The state on disk cannot be read or written."""

    exit_code = 74


class TrainingError(PlantfedError):
    """The training process failed, or its numbers left the range the lattice can hold."""

    exit_code = 70


class PeerError(PlantfedError):
    """The other side sent something that breaks the protocol; it is counted and ignored."""


class DamagedError(PeerError):
    """These are not the bytes of a message of this version: nobody need have meant to send them."""
