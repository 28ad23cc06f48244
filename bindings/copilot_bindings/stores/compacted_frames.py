"""The form of stored compacted frames: cut into pieces, and bound into volumes of many runs."""

from __future__ import annotations

from collections.abc import Iterator

from sansio_copilot.sse import end_of_frame

PIECE_BYTES = 48 * 1024
"""The size of a record of a run's compacted frames, so that a page is read without the rest."""
VOLUME_RUNS = 64
"""Ended runs of a thread whose compacted frames are kept one by one, before some are bound."""
VOLUME_BYTES = 96 * 1024
"""Bytes of compacted frames that are bound into a volume, unless one run has more."""


def pieces(frames: bytes) -> Iterator[tuple[int, bytes]]:
    """Whole frames in pieces of about :data:`PIECE_BYTES`, each with the offset of its first."""
    at = 0
    while at < len(frames):
        end = end_of_frame(frames, at + PIECE_BYTES)
        yield at, frames[at:end]
        at = end
