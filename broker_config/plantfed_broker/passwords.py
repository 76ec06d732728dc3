"""Passwords of broker users, and the lines mosquitto keeps of them."""

import base64
import hashlib
import hmac
import secrets

SECRET_BYTES = 32
SALT_BYTES = 12
ITERATIONS = 101
"""Mosquitto's own figure.  A password here is 256 random bits, which stretching cannot make any
harder to guess, while each of the fleet's reconnects would block the single-threaded broker."""


def new_password() -> str:
    """A random password."""
    return secrets.token_urlsafe(SECRET_BYTES)


def passwd_line(user: str, password: str) -> str:
    """A line of mosquitto's password file: PBKDF2 with HMAC-SHA512, format ``$7$``."""
    salt = secrets.token_bytes(SALT_BYTES)
    return f"{user}:$7${ITERATIONS}${_text(salt)}${_text(_digest(password, salt, ITERATIONS))}"


def line_matches(line: str, password: str) -> bool:
    """Whether a line of a password file is of this password."""
    _, _, hashed = line.partition(":")
    match hashed.split("$"):
        case ["", "7", iterations, salt, digest]:
            found = _digest(password, base64.b64decode(salt), int(iterations))
            return hmac.compare_digest(found, base64.b64decode(digest))
    return False


def _digest(password: str, salt: bytes, iterations: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha512", password.encode(), salt, iterations)


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
