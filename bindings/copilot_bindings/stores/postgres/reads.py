"""The calls that read, each as steps: statements out, rows in."""

from __future__ import annotations

from itertools import takewhile
from typing import Any

import attrs

from sansio_copilot.sse import EventId, behind_frame, run_token
from sansio_copilot.stores.places import cursor_behind, place_at
from sansio_copilot.stores.protocol import (
    Batch,
    LogGone,
    OwnedThreads,
    ThreadOwner,
    ThreadPage,
    ThreadQuery,
    ThreadRecord,
)

from ..cursors import Cursor
from ..pipeline import Command, Steps
from ..texts import from_bytes, number_of, owner_from_bytes, owner_to_bytes, to_bytes

_RUNS_AT_ONCE = 512
_ROWS_AT_ONCE = 512


@attrs.frozen
class Found:
    """What was read, and why it is not more.

    :param lost: the run whose owner has died, and of which there is nothing more for now.
    """

    batch: Batch | LogGone
    lost: int | None = None


def open_cursor(
    schema: str, thread_id: str, after: str | None, owner: str | None, *, with_open: bool = True
) -> Steps[Cursor]:
    """See :meth:`.ThreadStore.open_cursor`."""
    (rows,) = yield [
        (
            f"SELECT r.id, r.state, r.run_id FROM {schema}.thread t"
            f" JOIN {schema}.run r ON r.thread = t.id AND r.state <= %s"
            " WHERE t.thread_id = %s AND t.owner = %s ORDER BY r.id",
            (1, to_bytes(thread_id), owner_to_bytes(owner)),
            0,
        )
    ]
    if not with_open:
        rows = [row for row in rows if row[1] == 1]
    parts = tuple([run if state == 1 else -run for run, state, _ in rows])
    event_id = None if after is None else EventId.parse(after)
    if after is None or event_id is None:
        return Cursor(0, parts)
    for index, (run, state, run_id) in enumerate(rows):
        if run_token(run, from_bytes(run_id)) == event_id.token:
            if event_id.compacted and state != 1:
                break
            table = "history" if event_id.compacted else "frame"
            # Each row has whole frames.
            (frames,) = yield [
                (f"SELECT at, data FROM {schema}.{table} WHERE run = %s ORDER BY at", (run,), 0)
            ]
            for place, data in frames:
                if (at := behind_frame(data, after)) is not None:
                    first = run if event_id.compacted else -run
                    return Cursor(0, (first, *parts[index + 1 :]), 0, place + at)
            break
    return Cursor(0, parts)


def read(schema: str, cursor: Cursor, max_bytes: int) -> Steps[Found]:
    """Read on from ``cursor``; see :meth:`.Log.read`."""
    chunks: list[bytes] = []
    room = max_bytes
    while (part := cursor.part) is not None and room > 0:
        if part > 0:
            following = yield from _read_history(schema, cursor, room, chunks)
        else:
            found = yield from _read_raw(schema, cursor, room, chunks)
            if isinstance(found, Found):
                return found
            following = found
        if following is None:
            return Found(_batch(chunks, cursor) if chunks else LogGone())
        cursor = following
        room = max_bytes - sum(map(len, chunks))
    return Found(_batch(chunks, cursor))


def _rows(schema: str, table: str, runs: list[int], offset: int, room: int) -> Command:
    """The rows of ``runs`` from ``offset`` of the first on that begin within ``room`` bytes."""
    return (
        "SELECT run, at, data FROM (SELECT run, at, data, (sum(octet_length(data))"
        " OVER (ORDER BY run, at)) - octet_length(data) AS before FROM ("
        f"SELECT run, at, data FROM {schema}.{table} WHERE run = ANY(%s::bigint[])"
        " AND (run, at) >= (%s,"
        f" coalesce((SELECT max(at) FROM {schema}.{table} WHERE run = %s AND at <= %s), 0))"
        " ORDER BY run, at LIMIT %s) AS ahead) AS counted WHERE before < %s ORDER BY run, at",
        (_array(runs), runs[0], runs[0], offset, _ROWS_AT_ONCE, room + offset),
        0,
    )


def _array(numbers: list[int]) -> str:
    """Numbers as the server reads an array, which the client takes longer to write."""
    return f"{{{','.join(map(str, numbers))}}}"


def _read_history(
    schema: str, cursor: Cursor, room: int, chunks: list[bytes]
) -> Steps[Cursor | None]:
    """Read compacted runs, as many as follow each other and there is room for."""
    ahead = cursor.parts[cursor.index : cursor.index + _RUNS_AT_ONCE]
    runs = list(takewhile(lambda part: part > 0, ahead))
    are_history = f"SELECT id FROM {schema}.run WHERE id = ANY(%s::bigint[]) AND state = 1"
    there, rows = yield [
        (are_history, (_array(runs),), 0),
        _rows(schema, "history", runs, cursor.offset, room),
    ]
    kept = {run for (run,) in there}
    if runs[0] not in kept:
        return None
    ends: dict[int, int] = {}
    for run, at, data in rows:
        if run not in kept:
            break
        begin = max(cursor.offset - at, 0) if run == runs[0] else 0
        if begin >= len(data) > 0:
            continue
        piece = data[begin : begin + room]
        chunks.append(piece)
        room -= len(piece)
        ends[run] = at + begin + len(piece)
        if room == 0:
            return cursor.at(cursor.index + runs.index(run), ends[run])
    if len(rows) == _ROWS_AT_ONCE:
        run = rows[-1][0]
        return cursor.at(cursor.index + runs.index(run), ends.get(run, cursor.offset))
    gone = next((at for at, run in enumerate(runs) if run not in kept), len(runs))
    return cursor.at(cursor.index + gone)


def _read_raw(
    schema: str, cursor: Cursor, room: int, chunks: list[bytes]
) -> Steps[Cursor | Found | None]:
    """Read a run as it was appended; a :class:`Found` if it is open and has nothing more."""
    run, offset = -cursor.parts[cursor.index], cursor.offset
    # The state is read first, so that a run that has ended has all of its frames.
    found, rows = yield [
        (
            f"SELECT state, size, lease < clock_timestamp() FROM {schema}.run WHERE id = %s",
            (run,),
            0,
        ),
        _rows(schema, "frame", [run], offset, room),
    ]
    if not found:
        return None
    ((state, size, is_lost),) = found
    for _, at, data in rows:
        begin = max(offset - at, 0)
        if begin >= len(data):
            continue
        piece = data[begin : begin + room]
        chunks.append(piece)
        offset += len(piece)
        room -= len(piece)
        if room == 0:
            return cursor.at(cursor.index, offset)
    if state == 0:
        lost = run if is_lost and not chunks else None
        return Found(_batch(chunks, cursor.at(cursor.index, offset)), lost)
    if offset < size:
        # Its frames have gone; or there are more of them than are read at once.
        return cursor.at(cursor.index, offset) if rows else None
    return cursor.at(cursor.index + 1)


def _batch(chunks: list[bytes], cursor: Cursor) -> Batch:
    data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    return Batch(data, cursor, cursor.part is None)


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
