"""The locks of threads, the numbers of volumes, and how many are read at once."""

from __future__ import annotations

from hashlib import sha256
from typing import Final

FIRST_VOLUME: Final = 2**62
"""The first number of a volume; the numbers of runs are lower."""
PARTS_AT_ONCE: Final = 128
"""The runs and volumes that are looked at for a page. They fill it if each has 2,048 bytes."""


def lock_of(thread_id: bytes) -> int:
    """The lock that a thread's writers take: a number of 64 bits, which two threads may share."""
    digest = sha256(thread_id, usedforsecurity=False).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
