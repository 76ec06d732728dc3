"""A file that nobody can read or change without its key, written and read a piece at a time.

AES-256-GCM over pieces of 1 MiB in the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizar:
"Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance", CRYPTO 2015): a nonce
counts the pieces and marks the last, so that none can be left out, moved or cut off.  Each file has
a key of its own: HKDF-SHA256 of the key and a salt, or scrypt of the passphrase and the salt.

    magic | length of the header, 4 bytes big-endian | header, JSON | pieces, each with a tag of 16
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from plantfed_shared.errors import ConfigError, StorageError

MAGIC = b"plantfed backup 1\n"
PIECE_BYTES = 2**20
KEY_BYTES = 32
_TAG_BYTES = 16
_SALT_BYTES = 16
_MAX_HEADER_BYTES = 4096
_CHECK_BYTES = 8
_SCRYPT = {"n": 2**16, "r": 8, "p": 1}
"""64 MiB, a few tenths of a second."""
_SHORTEST_PASSPHRASE = 12


@dataclass(frozen=True, slots=True)
class Secret:
    """What seals a file.

    Attributes:
        kind: "key" or "passphrase".
        secret: 32 bytes, or the passphrase in UTF-8.
        where: file it came from.
    """

    kind: str
    secret: bytes
    where: str


def read_key(path: Path) -> Secret:
    """A key file: 64 hexadecimal digits, as of ``openssl rand -hex 32``.

    Raises:
        ConfigError: it is none, or cannot be read.
    """
    try:
        key = bytes.fromhex(_text_of(path))
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        hint = f"Make one: openssl rand -hex 32 > {path}"
        raise ConfigError("must hold 64 hexadecimal digits", where=str(path), hint=hint)
    return Secret("key", key, str(path))


def read_passphrase(path: Path) -> Secret:
    """A passphrase file: one line.

    Raises:
        ConfigError: it is too short, or cannot be read.
    """
    phrase = _text_of(path)
    if len(phrase) < _SHORTEST_PASSPHRASE:
        what = f"must hold a passphrase of at least {_SHORTEST_PASSPHRASE} characters"
        raise ConfigError(what, where=str(path))
    return Secret("passphrase", phrase.encode(), str(path))


def seal(source: IO[bytes], target: IO[bytes], secret: Secret, about: dict[str, Any]) -> None:
    """Write what is in ``source`` so that only the secret opens it.

    Args:
        source: read to its end.
        target: an empty file.
        secret: to seal it with.
        about: can be read by everybody, but not be changed; JSON.
    """
    salt = os.urandom(_SALT_BYTES)
    key, check = _derived(secret, salt)
    fields = {"secret": secret.kind, "salt": salt.hex(), "check": check.hex(), "about": about}
    header = json.dumps(fields).encode()
    target.write(MAGIC + len(header).to_bytes(4, "big") + header)
    cipher = AESGCM(key)
    number, piece = 0, source.read(PIECE_BYTES)
    last = False
    while not last:
        following = source.read(PIECE_BYTES)
        last = not following
        target.write(cipher.encrypt(_nonce(number, last=last), piece, header))
        number, piece = number + 1, following


def unseal(source: IO[bytes], target: IO[bytes], secret: Secret, where: str) -> dict[str, Any]:
    """The inverse of :func:`seal`; what is in ``target`` counts only once this has returned.

    Args:
        source: a sealed file.
        target: an empty file.
        secret: it was sealed with.
        where: the sealed file, for errors.

    Returns:
        What the file tells about itself.

    Raises:
        ConfigError: another secret has sealed it.
        StorageError: it is no sealed file, or was changed.
    """
    header = _read_header(source, where)
    fields = json.loads(header)
    if fields["secret"] != secret.kind:
        what = f"was sealed with a {fields['secret']}, this is a {secret.kind}"
        raise ConfigError(what, where=where)
    key, check = _derived(secret, bytes.fromhex(fields["salt"]))
    if check.hex() != fields["check"]:
        raise ConfigError(f"was sealed with another {secret.kind} than {secret.where}", where=where)
    cipher = AESGCM(key)
    number, piece, last = 0, source.read(PIECE_BYTES + _TAG_BYTES), False
    while not last:
        following = source.read(PIECE_BYTES + _TAG_BYTES)
        last = not following
        try:
            target.write(cipher.decrypt(_nonce(number, last=last), piece, header))
        except (InvalidTag, ValueError):
            raise _no_backup(where, "is damaged or cut off") from None
        number, piece = number + 1, following
    about: dict[str, Any] = fields["about"]
    return about


def _read_header(source: IO[bytes], where: str) -> bytes:
    if source.read(len(MAGIC)) != MAGIC:
        raise _no_backup(where, "is no backup of a PlantFed coordinator")
    length = int.from_bytes(source.read(4), "big")
    header = source.read(min(length, _MAX_HEADER_BYTES))
    try:
        fields = json.loads(header)
        salt, check = bytes.fromhex(fields["salt"]), bytes.fromhex(fields["check"])
        fits = (len(salt), len(check)) == (_SALT_BYTES, _CHECK_BYTES)
        fits &= fields["secret"] in ("key", "passphrase") and isinstance(fields["about"], dict)
    except (KeyError, TypeError, ValueError, RecursionError):
        fits = False
    if not fits or length > _MAX_HEADER_BYTES:
        raise _no_backup(where, "is damaged or cut off")
    return header


def _derived(secret: Secret, salt: bytes) -> tuple[bytes, bytes]:
    """(key of one file, by what one can tell another)."""
    wanted = KEY_BYTES + _CHECK_BYTES
    if secret.kind == "passphrase":
        derived = Scrypt(salt=salt, length=wanted, **_SCRYPT).derive(secret.secret)
    else:
        derived = HKDF(SHA256(), wanted, salt, b"plantfed backup").derive(secret.secret)
    return derived[:KEY_BYTES], derived[KEY_BYTES:]


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def _no_backup(where: str, what: str) -> StorageError:
    return StorageError(what, where=where, hint="Take another backup")


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(path)) from None
    except UnicodeDecodeError:
        raise ConfigError("is not UTF-8", where=str(path)) from None
