"""A guard as a frame: for the training process, and for the disk."""

from hashlib import blake2b

from plantfed_agent.frames import LENGTH, Frame, decode, encode
from plantfed_agent.guard import Check, FreshRows, Guard, ServedModel

DIGEST_BYTES = 16


def guard_frame(guard: Guard) -> Frame:
    """All of a guard."""
    kept = guard.kept
    header = {"kept": kept.name, "fingerprint": guard.fingerprint, "check": guard.check}
    given = {
        "shared": kept.shared,
        "head": kept.head,
        "prior": kept.prior,
        "own_head": kept.own_head,
        "known": guard.known,
        "keys": guard.keys,
        "differences": guard.differences,
        "tripped_on": guard.tripped_on,
    }
    return Frame(header, {name: values for name, values in given.items() if values is not None})


def guard_in(frame: Frame) -> Guard:
    """The inverse of :func:`guard_frame`."""
    header, arrays = frame.header, frame.arrays
    return Guard(
        kept=ServedModel(
            name=header["kept"],
            shared=arrays["shared"],
            head=arrays.get("head"),
            prior=arrays.get("prior"),
            own_head=arrays.get("own_head"),
        ),
        fingerprint=header["fingerprint"],
        known=arrays["known"],
        keys=arrays["keys"],
        differences=arrays["differences"],
        tripped_on=arrays.get("tripped_on"),
        check=None if header["check"] is None else Check(*header["check"]),
    )


def fresh_frame(fresh: FreshRows) -> Frame:
    """What a round has found."""
    arrays = {n: v for n, v in fresh._asdict().items() if n != "fingerprint" and v is not None}
    return Frame({"fingerprint": fresh.fingerprint}, arrays)


def fresh_in(frame: Frame) -> FreshRows:
    """The inverse of :func:`fresh_frame`."""
    return FreshRows(**{"known": None, **frame.header, **frame.arrays})


def to_bytes(guard: Guard) -> bytes:
    """For the disk: a digest, then the frame."""
    encoded = encode(guard_frame(guard))[LENGTH.size :]
    return _digest(encoded) + encoded


def from_bytes(stored: bytes) -> Guard | None:
    """The inverse of :func:`to_bytes`; None for what was damaged."""
    digest, encoded = stored[:DIGEST_BYTES], stored[DIGEST_BYTES:]
    return guard_in(decode(encoded)) if digest == _digest(encoded) else None


def _digest(encoded: bytes) -> bytes:
    return blake2b(encoded, digest_size=DIGEST_BYTES).digest()
