"""The next page of a reader, put together from ended runs and from open ones."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from sansio_copilot.stores.protocol import Batch, LogGone

from .cursors import Cursor
from .round_trips import RoundTrips


@attrs.frozen
class Found:
    """A page that was read, and the reason why it ends there.

    :param lost: the run whose owner has died, which is why its log does not go on.
    :param ahead: the pages behind this one, which the same call has read.
    """

    batch: Batch | LogGone
    lost: int | None = None
    ahead: tuple[Batch, ...] = ()


def read(
    cursor: Cursor,
    max_bytes: int,
    pages: int,
    read_history: Callable[[Cursor, int, int], RoundTrips[list[Batch] | None]],
    read_raw: Callable[[Cursor, int, list[bytes]], RoundTrips[Cursor | Found | None]],
) -> RoundTrips[Found]:
    """Read on from ``cursor``; see :meth:`.Log.read`.

    :param pages: the number of pages of history to read at once.
    :param read_history: reads compacted runs that follow each other, given the bytes of a page and
        the number of pages; the last page may be short. Returns None if the first run is gone.
    :param read_raw: reads a run as it was appended, given the bytes to read at most and the chunks
        read before, to which it appends. Returns the place behind the chunks; a :class:`Found` if
        the run is open and has nothing more; None if the run is gone.
    """
    chunks: list[bytes] = []
    room = max_bytes
    while (part := cursor.part) is not None and room > 0:
        if part > 0:
            batches = yield from read_history(cursor, room, pages)
            if batches is None:
                return _gone(chunks, cursor)
            chunks.append(batches[0].data)
            cursor = batches[0].cursor
            if len(batches) > 1:
                return Found(batch_of(chunks, cursor), ahead=tuple(batches[1:]))
            pages = 1
        else:
            found = yield from read_raw(cursor, room, chunks)
            if isinstance(found, Found):
                return found
            if found is None:
                return _gone(chunks, cursor)
            cursor = found
        room = max_bytes - sum(map(len, chunks))
    return Found(batch_of(chunks, cursor))


def batch_of(chunks: list[bytes], cursor: Cursor) -> Batch:
    """Return the batch of the ``chunks`` that were read up to ``cursor``."""
    data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    return Batch(data, cursor, cursor.part is None)


@attrs.frozen
class HistoryPiece:
    """Compacted frames that were read.

    :param index: the index of the cursor's part to which they belong.
    :param at: the offset in that part at which they begin.
    """

    index: int
    at: int
    data: bytes


def paged(pieces: list[HistoryPiece], behind: Cursor, room: int) -> list[Batch]:
    """Return pieces that follow each other as pages; the last page may be short.

    :param behind: the place behind all of them.
    :param room: the length of a page.
    """
    batches: list[Batch] = []
    chunks: list[bytes | memoryview] = []
    left = room
    for piece in pieces:
        data, taken = memoryview(piece.data), 0
        while len(data) - taken >= left:
            chunks.append(data[taken : taken + left])
            taken += left
            is_all = piece is pieces[-1] and taken == len(data)
            place = behind if is_all else behind.at(piece.index, piece.at + taken)
            batches.append(Batch(b"".join(chunks), place, place.part is None))
            chunks, left = [], room
        if taken < len(data):
            chunks.append(data[taken:])
            left -= len(data) - taken
    if chunks or not batches:
        batches.append(Batch(b"".join(chunks), behind, behind.part is None))
    return batches


def _gone(chunks: list[bytes], cursor: Cursor) -> Found:
    return Found(batch_of(chunks, cursor) if chunks else LogGone())
