"""The name of a blob."""

from hashlib import blake2b


def content_digest(content: bytes) -> bytes:
    """16 bytes that name a blob: BLAKE2b (RFC 7693)."""
    return blake2b(content, digest_size=16).digest()
