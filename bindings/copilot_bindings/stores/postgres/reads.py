"""The calls that read, each as steps: statements out, rows in."""

from __future__ import annotations

from functools import partial
from itertools import takewhile
from typing import Any

from sansio_copilot.sse import EventId, behind_frame, run_token
from sansio_copilot.stores.places import cursor_behind, place_at
from sansio_copilot.stores.protocol import (
    Batch,
    OwnedThreads,
    ThreadOwner,
    ThreadPage,
    ThreadQuery,
    ThreadRecord,
)

from ..cursors import Cursor
from ..pages import Found, Piece, batch_of, paged
from ..pages import read as read_pages
from ..pipeline import Steps
from ..texts import (
    PIECE_BYTES,
    VOLUME_BYTES,
    from_bytes,
    number_of,
    owner_from_bytes,
    owner_to_bytes,
    to_bytes,
)
from .names import FIRST_VOLUME

# So many fill a page if each has 512 bytes. The server looks at all, though it may read a few.
_RUNS_AT_ONCE = 128


def history_cursor(schema: str, thread_id: str, owner: str | None) -> Steps[Cursor]:
    """Where the compacted frames of a thread's ended runs begin."""
    parts = yield from _parts(schema, thread_id, owner)
    return Cursor(0, tuple([part for part in parts if part > 0]))


def _parts(schema: str, thread_id: str, owner: str | None) -> Steps[tuple[int, ...]]:
    """The volumes and loose runs of a thread, as a cursor has them."""
    # They come as two texts, because the client takes its time for each row.
    (rows,) = yield [
        (
            f"SELECT (SELECT string_agg(v.id::text, ' ' ORDER BY v.id) FROM {schema}.volume v"
            " WHERE v.thread = t.id),"
            " (SELECT string_agg((CASE r.state WHEN 1 THEN r.id ELSE -r.id END)::text, ' '"
            f" ORDER BY r.id) FROM {schema}.run r"
            " WHERE r.thread = t.id AND r.id > t.bound AND r.state <= %s)"
            f" FROM {schema}.thread t WHERE t.thread_id = %s AND t.owner = %s",
            (1, to_bytes(thread_id), owner_to_bytes(owner)),
            0,
        )
    ]
    return tuple([int(part) for row in rows for text in row for part in (text or "").split()])


def open_cursor(schema: str, thread_id: str, after: str | None, owner: str | None) -> Steps[Cursor]:
    """See :meth:`.ThreadStore.open_cursor`."""
    parts = yield from _parts(schema, thread_id, owner)
    event_id = None if after is None else EventId.parse(after)
    if after is None or event_id is None:
        return Cursor(0, parts)
    number = event_id.token.partition(".")[0]
    if not number.isascii() or not number.isdecimal() or len(number) > 18:
        return Cursor(0, parts)
    return (yield from _behind(schema, parts, int(number), event_id, after)) or Cursor(0, parts)


def _behind(
    schema: str, parts: tuple[int, ...], run: int, event_id: EventId, after: str
) -> Steps[Cursor | None]:
    """The place behind an event of a run in a thread; None if the run or the event is gone."""
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
    index = next((index for index, one in enumerate(parts) if abs(one) == part), None)
    if index is None or (event_id.compacted and parts[index] < 0):
        return None
    table, which = ("history", part) if event_id.compacted else ("frame", run)
    (frames,) = yield [
        (f"SELECT at, data FROM {schema}.{table} WHERE run = %s ORDER BY at", (which,), 0)
    ]
    # Each row has whole frames.
    for place, data in frames:
        if (at := behind_frame(data, after)) is not None:
            behind = int(place + at)
            if event_id.compacted:
                return Cursor(0, parts[index:], 0, behind)
            rest = runs[runs.index(run) + 1 :] if runs else []
            return Cursor(0, (-run, *rest, *parts[index + 1 :]), 0, behind)
    return None


def read(schema: str, cursor: Cursor, max_bytes: int, pages: int = 1) -> Steps[Found]:
    """Read on from ``cursor``; see :func:`.pages.read`."""
    return read_pages(
        cursor, max_bytes, pages, partial(_read_history, schema), partial(_read_raw, schema)
    )


def _read_history(schema: str, cursor: Cursor, room: int, pages: int) -> Steps[list[Batch] | None]:
    """Pages of compacted runs that follow each other, of which the last may be short."""
    if (cursor.part or 0) >= FIRST_VOLUME:
        return (yield from _read_volumes(schema, cursor, room, pages))
    ahead = cursor.parts[cursor.index : cursor.index + _RUNS_AT_ONCE * pages]
    runs = list(takewhile(lambda part: part > 0, ahead))
    while True:
        (rows,) = yield [
            (
                f"SELECT * FROM {schema}.read_history(%s::bigint[], %s, %s, %s)",
                (_array(runs), cursor.offset, room, pages),
                0,
            )
        ]
        if rows[0][0] == len(runs):
            break
        # A run is gone, and what is in front of it is read again, alone.
        are_history = f"SELECT id FROM {schema}.run WHERE id = ANY(%s::bigint[]) AND state = 1"
        (found,) = yield [(are_history, (_array(runs),), 0)]
        kept = {run for (run,) in found}
        runs = list(takewhile(kept.__contains__, runs))
        if not runs:
            return None
    batches: list[Batch] = []
    for _, data, last, until in rows:
        if len(data) == room:
            behind = cursor.at(cursor.index + runs.index(last), until)
        else:
            behind = cursor.at(cursor.index + len(runs))
        if data or not batches:
            batches.append(Batch(data, behind, behind.part is None))
    return batches


def _read_volumes(schema: str, cursor: Cursor, room: int, pages: int) -> Steps[list[Batch] | None]:
    """Pages of volumes that follow each other, each a row, which nobody has to put together."""
    begin = cursor.index
    ahead = cursor.parts[begin : begin + max(room * pages // VOLUME_BYTES, 1)]
    volumes = list(takewhile(lambda part: part >= FIRST_VOLUME, ahead))
    # The first row may have been read to its end.
    most = room * pages // PIECE_BYTES + 2
    (rows,) = yield [
        (
            "SELECT u.n::integer - 1, h.at, h.data"
            " FROM unnest(%s::bigint[]) WITH ORDINALITY AS u (id, n)"
            f" JOIN {schema}.history h ON h.run = u.id WHERE u.n > 1 OR h.at >= ("
            f"SELECT max(at) FROM {schema}.history WHERE run = %s AND at <= %s)"
            " ORDER BY u.n, h.at LIMIT %s",
            (_array(volumes), volumes[0], cursor.offset, most),
            0,
        )
    ]
    pieces: list[Piece] = []
    behind = cursor
    for number, at, data in rows:
        index = begin + number
        if index > behind.index + 1 or (not pieces and number):
            # A volume is gone.
            break
        skipped = max(cursor.offset - at, 0) if number == 0 else 0
        pieces.append(Piece(index, at + skipped, data[skipped:]))
        behind = cursor.at(index, at + len(data))
    if not pieces:
        return None
    if len(rows) < most and behind.index == begin + rows[-1][0]:
        behind = cursor.at(behind.index + 1)
    return paged(pieces, behind, room)


def _array(numbers: list[int]) -> str:
    """Numbers as the server reads an array, which the client takes longer to write."""
    return f"{{{','.join(map(str, numbers))}}}"


def _read_raw(
    schema: str, cursor: Cursor, room: int, chunks: list[bytes]
) -> Steps[Cursor | Found | None]:
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
        # Its frames have gone.
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


def text(schema: str, thread_id: str, column: str, owner: str | None) -> Steps[bytes | None]:
    """The messages or the state of a thread; None if there are none."""
    (rows,) = yield [
        (
            f"SELECT {column} FROM {schema}.thread WHERE thread_id = %s AND owner = %s",
            (to_bytes(thread_id), owner_to_bytes(owner)),
            0,
        )
    ]
    return rows[0][0] if rows else None


def owner_of(schema: str, thread_id: str) -> Steps[ThreadOwner | None]:
    """See :meth:`.ThreadStore.owner_of`."""
    (rows,) = yield [
        (f"SELECT owner FROM {schema}.thread WHERE thread_id = %s", (to_bytes(thread_id),), 0)
    ]
    return owner_from_bytes(rows[0][0]) if rows else None


def bytes_of(schema: str, owner: str) -> Steps[int]:
    """See :meth:`.ThreadStore.bytes_of`."""
    (((size,),),) = yield [
        (
            f"SELECT coalesce(sum(r.size), 0) FROM {schema}.thread t JOIN {schema}.run r"
            " ON r.thread = t.id WHERE t.owner = %s AND t.runs > 0 AND r.state = 1",
            (owner_to_bytes(owner),),
            0,
        )
    ]
    return int(size)


def list_threads(schema: str, query: ThreadQuery) -> Steps[ThreadPage]:
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
        updated_at, thread_id = place_at(query.cursor)
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
    page = tuple([record(row) for row in rows[: query.limit]])
    if len(rows) <= query.limit:
        return ThreadPage(page)
    return ThreadPage(page, cursor_behind(page[-1].updated_at, page[-1].thread_id))


def threads_of_all(schema: str, cursor: str | None, limit: int) -> Steps[OwnedThreads]:
    """See :meth:`.ThreadStore.threads_of_all`.

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
    """The line of a list that a row of a thread is."""
    thread_id, agent_id, created_at, updated_at, name, archived, waits_for = row
    return ThreadRecord(
        from_bytes(thread_id),
        from_bytes(agent_id),
        created_at,
        updated_at,
        None if name is None else from_bytes(name),
        archived,
        waits_for,
    )
