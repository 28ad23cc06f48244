"""Ids as the server has them, and the locks of threads."""

from __future__ import annotations

from hashlib import sha256


def to_bytes(text: str) -> bytes:
    """``text`` as the server has it: neither NUL nor lone surrogates may be in its texts."""
    return text.encode("utf-8", "surrogatepass")


def from_bytes(data: bytes) -> str:
    """What :func:`to_bytes` was given."""
    return data.decode("utf-8", "surrogatepass")


def owner_to_bytes(owner: str | None) -> bytes:
    """An owner as the tables have it, which tell nobody from somebody with an empty id."""
    return b"-" if owner is None else b"o" + to_bytes(owner)


def lock_of(thread_id: bytes) -> int:
    """The lock that a thread's writers take: a number of 64 bits, which two threads may share."""
    digest = sha256(thread_id, usedforsecurity=False).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
