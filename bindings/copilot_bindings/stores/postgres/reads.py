"""The calls that read, each as round trips: statements out, rows in."""

from __future__ import annotations

from functools import partial
from itertools import takewhile
from typing import Any, TypeAlias

from sansio_copilot.sse import EventId, behind_frame, run_token
from sansio_copilot.stores.list_cursors import page_of, sort_key_at
from sansio_copilot.stores.protocol import (
    Batch,
    OwnedThreads,
    ThreadOwner,
    ThreadPage,
    ThreadQuery,
    ThreadRecord,
)

from ..cursors import Cursor
from ..database_values import (
    from_bytes,
    number_of,
    owner_from_bytes,
    owner_to_bytes,
    record_of_row,
    to_bytes,
)
from ..reader_pages import Found, HistoryPiece, batch_of, paged
from ..reader_pages import read as read_pages
from ..round_trips import RoundTrips
from .names import FIRST_VOLUME, PARTS_AT_ONCE

_Row: TypeAlias = tuple[int, int, bytes]
"""The index of a part, counted from the cursor's; the place of the first frame; the frames."""


def history_cursor(schema: str, thread_id: str, owner: str | None) -> RoundTrips[Cursor]:
    """Return the place where the compacted frames of a thread's ended runs begin."""
    parts, _ = yield from _opened(schema, thread_id, owner, 0)
    return Cursor(0, tuple([part for part in parts if part > 0]))


def _opened(
    schema: str, thread_id: str, owner: str | None, room: int
) -> RoundTrips[tuple[tuple[int, ...], list[_Row]]]:
    """The volumes and loose runs of a thread, as a cursor has them, and rows of the first."""
    (rows,) = yield [
        (
            f"SELECT * FROM {schema}.open_thread(%s, %s, %s)",
            (to_bytes(thread_id), owner_to_bytes(owner), room),
            0,
        )
    ]
    # The rows come as one text, because the client needs time for each row.
    return (tuple(map(int, rows[0][2].split())), rows[1:]) if rows else ((), [])


def open_cursor(
    schema: str, thread_id: str, after: str | None, owner: str | None, room: int
) -> RoundTrips[tuple[Cursor, Batch | None]]:
    """See :meth:`.ThreadStore.open_cursor` and :meth:`.Reads.open_cursor`."""
    event_id = None if after is None else EventId.parse(after)
    parts, rows = yield from _opened(schema, thread_id, owner, 0 if event_id else room)
    begin = Cursor(0, parts)
    if after is None or event_id is None:
        pages = _paged(begin, rows, room, room)
        return begin, pages[0] if pages else None
    return (yield from _behind(schema, begin, event_id, after)) or begin, None


def _behind(schema: str, whole: Cursor, event_id: EventId, after: str) -> RoundTrips[Cursor | None]:
    """The place behind an event of a run in a thread; None if the run or the event is gone."""
    run = event_id.seq
    if run is None:
        return None
    (found,) = yield [
        (
            f"SELECT r.run_id, v.id, v.runs FROM {schema}.run r"
            f" LEFT JOIN {schema}.volume v ON v.id = r.volume WHERE r.id = %s",
            (run,),
            0,
        )
    ]
    if not found or run_token(run, from_bytes(found[0][0])) != event_id.token:
        return None
    _, volume, runs = found[0]
    part = volume or run
    index = whole.index_of(part, event_id)
    if index is None:
        return None
    table, which = ("history", part) if event_id.compacted else ("frame", run)
    (frames,) = yield [
        (f"SELECT at, data FROM {schema}.{table} WHERE run = %s ORDER BY at", (which,), 0)
    ]
    # Each row is searched by itself, because no frame lies in two rows.
    for place, data in frames:
        if (at := behind_frame(data, after)) is not None:
            return whole.behind(event_id, run, index, runs or (), int(place + at))
    return None


def read(schema: str, cursor: Cursor, max_bytes: int, pages: int = 1) -> RoundTrips[Found]:
    """Read on from ``cursor``; see :func:`..reader_pages.read`."""
    return read_pages(
        cursor, max_bytes, pages, partial(_read_history, schema), partial(_read_raw, schema)
    )


def _read_history(
    schema: str, cursor: Cursor, room: int, pages: int
) -> RoundTrips[list[Batch] | None]:
    """Read pages of volumes and compacted runs that follow each other; the last may be short.

    Each page is one row or a few rows, so that little has to be put together.
    """
    ahead = cursor.parts[cursor.index : cursor.index + PARTS_AT_ONCE * pages]
    parts = list(takewhile(lambda part: part > 0, ahead))
    most = room * pages
    (rows,) = yield [
        (
            f"SELECT * FROM {schema}.read_parts(%s::bigint[], %s, %s)",
            (_array(parts), cursor.offset, most),
            0,
        )
    ]
    if batches := _paged(cursor, rows, room, most):
        return batches
    if parts[0] >= FIRST_VOLUME:
        return None
    # The run is looked for in the volumes, because it is no longer loose: it is gone, or was bound
    # into a volume meanwhile.
    statement = f"SELECT * FROM {schema}.read_bound(%s, %s, %s)"
    (((is_there, data),),) = yield [(statement, (parts[0], cursor.offset, room), 0)]
    if not is_there:
        return None
    data = data or b""
    has_more = len(data) == room
    behind = cursor.at(cursor.index, cursor.offset + room) if has_more else cursor.next_part()
    return [Batch(data, behind, behind.part is None)]


def _paged(cursor: Cursor, rows: list[_Row], room: int, most: int) -> list[Batch]:
    """Return rows of compacted frames as pages; no page if nothing of the first part is there.

    :param most: the bytes that were asked for. If there are fewer, the last row ends its part.
    """
    pieces: list[HistoryPiece] = []
    behind, taken = cursor, 0
    for number, at, data in rows:
        index = cursor.index + number
        if index > behind.index + 1 or (not pieces and number):
            # The page ends here, because the part between these two is gone or has been bound into
            # a volume.
            break
        skipped = max(cursor.offset - at, 0) if number == 0 else 0
        pieces.append(HistoryPiece(index, at + skipped, data[skipped:]))
        taken += len(data) - skipped
        behind = cursor.at(index, at + len(data))
    if not pieces:
        return []
    return paged(pieces, behind if taken >= most else behind.next_part(), room)


def _array(numbers: list[int]) -> str:
    """Return numbers as the text of an array, which is faster than the client's own conversion."""
    return f"{{{','.join(map(str, numbers))}}}"


def _read_raw(
    schema: str, cursor: Cursor, room: int, chunks: list[bytes]
) -> RoundTrips[Cursor | Found | None]:
    """Read a run as it was appended; a :class:`Found` if it is open and has nothing more."""
    run = -cursor.parts[cursor.index]
    statement = f"SELECT * FROM {schema}.read_raw(%s, %s, %s)"
    ((state, size, is_lost, data),) = (yield [(statement, (run, cursor.offset, room), 0)])[0]
    if state is None:
        return None
    if data:
        chunks.append(data)
    behind = cursor.at(cursor.index, cursor.offset + len(data or b""))
    if data and len(data) == room:
        return behind
    if state == 0:
        return Found(batch_of(chunks, behind), run if is_lost and not chunks else None)
    if behind.offset < size:
        # The run is there, but its frames have gone.
        return behind if data else None
    return cursor.at(cursor.index + 1)


# Threads


def columns(schema: str) -> str:
    """The columns of a thread that :func:`record` makes a line of a list from."""
    return (
        "thread_id, agent_id, created_at, updated_at, name, archived,"
        f" CASE WHEN waits_for IS NULL OR {_has_open(schema)} THEN NULL ELSE waits_for END"
    )


def _has_open(schema: str) -> str:
    return f"EXISTS (SELECT 1 FROM {schema}.run WHERE run.thread = thread.id AND run.state = 0)"


def text(schema: str, thread_id: str, column: str, owner: str | None) -> RoundTrips[bytes | None]:
    """The messages or the state of a thread; None if there are none."""
    (rows,) = yield [
        (
            f"SELECT {column} FROM {schema}.thread WHERE thread_id = %s AND owner = %s",
            (to_bytes(thread_id), owner_to_bytes(owner)),
            0,
        )
    ]
    return rows[0][0] if rows else None


def owner_of(schema: str, thread_id: str) -> RoundTrips[ThreadOwner | None]:
    """See :meth:`.OwnersStore.owner_of`."""
    (rows,) = yield [
        (f"SELECT owner FROM {schema}.thread WHERE thread_id = %s", (to_bytes(thread_id),), 0)
    ]
    return owner_from_bytes(rows[0][0]) if rows else None


def bytes_of(schema: str, owner: str) -> RoundTrips[int]:
    """See :meth:`.MeasuringStore.bytes_of`."""
    (((size,),),) = yield [
        (
            f"SELECT coalesce(sum(r.size), 0) FROM {schema}.thread t JOIN {schema}.run r"
            " ON r.thread = t.id WHERE t.owner = %s AND t.runs > 0 AND r.state = 1",
            (owner_to_bytes(owner),),
            0,
        )
    ]
    return int(size)


def list_threads(schema: str, query: ThreadQuery) -> RoundTrips[ThreadPage]:
    """See :meth:`.ThreadStore.list_threads`.

    :raises UnknownCursor: for a cursor that is none.
    """
    conditions = ["owner = %s", "runs > 0"]
    values: list[Any] = [owner_to_bytes(query.owner)]
    if query.agent_id is not None:
        conditions.append("agent_id = %s")
        values.append(to_bytes(query.agent_id))
    if query.archived is not None:
        conditions.append("archived = %s")
        values.append(query.archived)
    if query.waiting is not None:
        waits = f"waits_for IS NOT NULL AND NOT {_has_open(schema)}"
        conditions.append(waits if query.waiting else f"NOT ({waits})")
    if query.cursor is not None:
        updated_at, thread_id = sort_key_at(query.cursor)
        conditions.append("updated_at <= %s AND (updated_at < %s OR thread_id > %s)")
        values += [updated_at, updated_at, to_bytes(thread_id)]
    (rows,) = yield [
        (
            f"SELECT {columns(schema)} FROM {schema}.thread WHERE {' AND '.join(conditions)}"
            " ORDER BY updated_at DESC, thread_id LIMIT %s",
            (*values, query.limit + 1),
            0,
        )
    ]
    return page_of(list(map(record, rows)), query.limit)


def threads_of_all(schema: str, cursor: str | None, limit: int) -> RoundTrips[OwnedThreads]:
    """See :meth:`.AdministeredStore.threads_of_all`.

    :raises UnknownCursor: for a cursor that is none.
    """
    (rows,) = yield [
        (
            f"SELECT {columns(schema)}, owner, id FROM {schema}.thread WHERE id > %s AND runs > 0"
            " ORDER BY id LIMIT %s",
            (number_of(cursor), limit),
            0,
        )
    ]
    found = tuple([(owner_from_bytes(row[-2]).owner, record(row[:-2])) for row in rows])
    return OwnedThreads(found, str(rows[-1][-1]) if len(rows) == limit else None)


def record(row: tuple[Any, ...]) -> ThreadRecord:
    """Return the line of a list that a row of a thread stands for."""
    return record_of_row(row, from_bytes)
