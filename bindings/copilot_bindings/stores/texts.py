"""Ids and names as databases take them: text in UTF-8, and frames cut to a size."""

from __future__ import annotations

from collections.abc import Iterator

from sansio_copilot.sse import end_of_frame

PIECE_BYTES = 48 * 1024
"""How much of a run's compacted frames is one record, so that a page is read without the rest."""


def to_text(text: str) -> str | bytes:
    """``text`` as a database takes it: one with lone surrogates, which are no UTF-8, as bytes."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def from_text(value: str | bytes) -> str:
    """What :func:`to_text` was given."""
    return value if isinstance(value, str) else value.decode("utf-8", "surrogatepass")


def pieces(frames: bytes) -> Iterator[tuple[int, bytes]]:
    """Whole frames in pieces of about :data:`PIECE_BYTES`, each with the offset of its first."""
    at = 0
    while at < len(frames):
        end = end_of_frame(frames, at + PIECE_BYTES)
        yield at, frames[at:end]
        at = end
