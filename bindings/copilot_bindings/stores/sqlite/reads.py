"""The calls that read frames and owners of threads, each in one read transaction."""

from __future__ import annotations

import json
import sqlite3
from itertools import takewhile

import attrs

from sansio_copilot.sse import EventId, behind_frame, run_token
from sansio_copilot.stores.protocol import Batch, LogGone, ThreadOwner

from ..cursors import Cursor
from ..database_values import from_text, to_text
from ..reader_pages import batch_of
from .schema import FIRST_VOLUME, HISTORY, MOST_BYTES, OPEN
from .volumes import frames_of, range_of

# A page is full with this many runs if each has 512 bytes.
_RUNS_AT_ONCE = 128
_WITHIN_RUN = MOST_BYTES - 1
"""The bits of the id of a row of frames that say its place in its run."""


@attrs.frozen
class Blocked:
    """A run that is open, and has no more frames for now.

    :param run: the run.
    :param size: the bytes that it has.
    :param process: the process that owns it.
    """

    run: int
    size: int
    process: int | None


@attrs.frozen
class FoundInFile:
    """A page that was read, and the reason why it ends there.

    :param ahead: the pages behind this one, which the same call has read.
    """

    batch: Batch | LogGone
    blocked: Blocked | None = None
    ahead: tuple[Batch, ...] = ()


def thread_of(db: sqlite3.Connection, thread_id: str, owner: str | None) -> int | None:
    """Return the thread of that id if ``owner`` owns it; None otherwise."""
    found = db.execute(
        "SELECT id FROM thread WHERE thread_id = ? AND owner IS ? AND dead = 0",
        (to_text(thread_id), None if owner is None else to_text(owner)),
    ).fetchone()
    return None if found is None else found[0]


def owner_of(db: sqlite3.Connection, thread_id: str) -> ThreadOwner | None:
    """See :meth:`.OwnersStore.owner_of`."""
    found = db.execute(
        "SELECT owner FROM thread WHERE thread_id = ? AND dead = 0", (to_text(thread_id),)
    ).fetchone()
    if found is None:
        return None
    return ThreadOwner(None if found[0] is None else from_text(found[0]))


def bytes_of(db: sqlite3.Connection, owner: str) -> int:
    """See :meth:`.MeasuringStore.bytes_of`."""
    found = db.execute(
        "SELECT TOTAL(r.size) FROM thread t JOIN run r ON r.thread = t.id"
        " WHERE t.owner IS ? AND t.dead = 0 AND t.runs > 0 AND r.state = ?",
        (to_text(owner), HISTORY),
    ).fetchone()
    return int(found[0])


def open_cursor(
    db: sqlite3.Connection, thread_id: str, after: str | None, owner: str | None
) -> Cursor:
    """See :meth:`.ThreadStore.open_cursor`."""
    thread = thread_of(db, thread_id, owner)
    if thread is None:
        return Cursor(0, ())
    whole = Cursor(thread, _parts(db, thread))
    event_id = None if after is None else EventId.parse(after)
    if after is None or event_id is None:
        return whole
    return _behind(db, whole, event_id, after) or whole


def _parts(db: sqlite3.Connection, thread: int) -> tuple[int, ...]:
    """The volumes and loose runs of a thread, as a cursor has them."""
    bound = db.execute("SELECT id FROM volume WHERE thread = ? ORDER BY id", (thread,)).fetchall()
    loose = db.execute(
        "SELECT id, state FROM run WHERE thread = ? AND state < 2"
        " AND id > (SELECT bound FROM thread WHERE id = ?) ORDER BY id",
        (thread, thread),
    ).fetchall()
    runs = [run if state == HISTORY else -run for run, state in loose]
    return (*[volume for (volume,) in bound], *runs)


def _behind(db: sqlite3.Connection, whole: Cursor, event_id: EventId, after: str) -> Cursor | None:
    """The place behind an event of a run in a thread; None if the run or the event is gone."""
    run = event_id.seq
    if run is None:
        return None
    found = db.execute(
        "SELECT r.run_id, v.id, v.runs FROM run r LEFT JOIN volume v ON v.id = r.volume"
        " WHERE r.id = ?",
        (run,),
    ).fetchone()
    if found is None or run_token(run, from_text(found[0])) != event_id.token:
        return None
    part = found[1] or run
    index = whole.index_of(part, event_id)
    if index is None:
        return None
    table, which = ("history", part) if event_id.compacted else ("frame", run)
    # Each row is searched by itself, because no frame lies in two rows.
    for place, data in db.execute(
        f"SELECT id, data FROM {table} WHERE id >= ? AND id < ? ORDER BY id", range_of(which)
    ):
        if (at := behind_frame(data, after)) is not None:
            bound = json.loads(found[2]) if found[2] else ()
            return whole.behind(event_id, run, index, bound, int(place & _WITHIN_RUN) + at)
    return None


def read_pages(db: sqlite3.Connection, cursor: Cursor, max_bytes: int, pages: int) -> FoundInFile:
    """Read on from ``cursor``, as many as ``pages`` pages of history at once."""
    found = read(db, cursor, max_bytes)
    ahead: list[Batch] = []
    page = found.batch
    while len(ahead) + 1 < pages and isinstance(page, Batch) and (page.cursor.part or 0) > 0:
        page = read(db, page.cursor, max_bytes).batch
        if isinstance(page, Batch):
            ahead.append(page)
    return attrs.evolve(found, ahead=tuple(ahead)) if ahead else found


def read(db: sqlite3.Connection, cursor: Cursor, max_bytes: int) -> FoundInFile:
    """Read on from ``cursor``; see :meth:`.Log.read`."""
    chunks: list[bytes] = []
    room = max_bytes
    while (part := cursor.part) is not None:
        if room == 0:
            break
        read_part = _read_history if part > 0 else _read_raw
        state = read_part(db, cursor, room, chunks)
        if isinstance(state, LogGone):
            return FoundInFile(batch_of(chunks, cursor) if chunks else state)
        if isinstance(state, Blocked):
            cursor = cursor.at(cursor.index, state.size)
            return FoundInFile(batch_of(chunks, cursor), None if chunks else state)
        cursor = state
        room = max_bytes - sum(map(len, chunks))
    return FoundInFile(batch_of(chunks, cursor))


def _read_history(
    db: sqlite3.Connection, cursor: Cursor, room: int, chunks: list[bytes]
) -> Cursor | LogGone | Blocked:
    """Read compacted runs that follow each other, as many as there is room for."""
    if not db.execute(
        "SELECT 1 FROM thread WHERE id = ? AND dead = 0", (cursor.thread,)
    ).fetchone():
        return LogGone()
    if cursor.parts[cursor.index] > FIRST_VOLUME:
        return _read_volume(db, cursor, room, chunks)
    parts, index, offset = cursor.parts, cursor.index, cursor.offset
    ahead = parts[index : index + _RUNS_AT_ONCE]
    last = index + sum(1 for _ in takewhile(lambda part: part > 0, ahead)) - 1
    rows = _rows_of_runs(db, cursor, parts[last])
    seen, wanted = False, parts[index]
    try:
        for run, place, data, volume, volume_from, volume_to in rows:
            if run != wanted:
                if seen:
                    index, offset, seen = index + 1, 0, False
                    wanted = parts[index]
                if run < wanted:
                    # The run is passed over, because the cursor does not have it: it has ended
                    # since the cursor was made.
                    continue
                if run > wanted:
                    break
            seen = True
            if volume is not None:
                # The run was bound into a volume after the reader had asked where it is.
                place, data = run << 32, frames_of(db, volume)[volume_from:volume_to]
            elif place is None:
                continue
            at = place & _WITHIN_RUN
            if at < offset:
                # The first row is the piece in which the offset lies.
                data, at = data[offset - at :], offset
            size = len(data)
            if size >= room:
                chunks.append(data[:room])
                return cursor.at(index, at + room)
            if size:
                chunks.append(data)
                room -= size
    finally:
        rows.close()
    if not seen or index < last:
        # The page ends here, because a run that the cursor began with is gone and the rest does not
        # follow.
        return cursor.at(index + seen) if chunks else LogGone()
    return cursor.at(last + 1)


def _rows_of_runs(db: sqlite3.Connection, cursor: Cursor, last: int) -> sqlite3.Cursor:
    """The rows of compacted runs, from the piece that ``cursor`` is in to the run ``last``."""
    run, offset = cursor.parts[cursor.index], cursor.offset
    begin = run << 32
    if offset:
        (begin,) = db.execute(
            "SELECT COALESCE(MAX(id), ?) FROM history WHERE id >= ? AND id <= ?",
            (begin, begin, begin | offset),
        ).fetchone()
    return db.execute(
        "SELECT r.id, h.id, h.data, r.volume, r.volume_from, r.volume_to"
        " FROM run r LEFT JOIN history h"
        " ON h.id >= MAX(r.id << 32, ?) AND h.id < (r.id + 1) << 32"
        " WHERE r.thread = ? AND r.id >= ? AND r.id <= ? AND r.state = 1 ORDER BY r.id, h.id",
        (begin, cursor.thread, run, last),
    )


def _read_volume(
    db: sqlite3.Connection, cursor: Cursor, room: int, chunks: list[bytes]
) -> Cursor | LogGone:
    """Read runs that are bound together."""
    volume = cursor.parts[cursor.index]
    if not db.execute("SELECT 1 FROM volume WHERE id = ?", (volume,)).fetchone():
        return LogGone()
    offset, left = _take(db, "history", volume, cursor.offset, room, chunks)
    return cursor.at(cursor.index + 1) if left else cursor.at(cursor.index, offset)


def _take(
    db: sqlite3.Connection, table: str, part: int, offset: int, room: int, chunks: list[bytes]
) -> tuple[int, int]:
    """Read the rows of a part from an offset on; returns the offset behind the rows, and the room
    that is left."""
    base, end = range_of(part)
    (begin,) = db.execute(
        f"SELECT COALESCE(MAX(id), ?) FROM {table} WHERE id >= ? AND id <= ?",
        (base, base, base | offset),
    ).fetchone()
    rows = db.execute(
        f"SELECT id, data FROM {table} WHERE id >= ? AND id < ? ORDER BY id", (begin, end)
    )
    try:
        for place, data in rows:
            skip = offset - int(place & _WITHIN_RUN)
            if skip >= len(data):
                continue
            skip = max(skip, 0)
            piece = data[skip : skip + room] if skip or len(data) > room else data
            chunks.append(piece)
            offset += len(piece)
            room -= len(piece)
            if room == 0:
                break
    finally:
        rows.close()
    return offset, room


def _read_raw(
    db: sqlite3.Connection, cursor: Cursor, room: int, chunks: list[bytes]
) -> Cursor | LogGone | Blocked:
    """Read a run as it was appended."""
    run, offset = -cursor.parts[cursor.index], cursor.offset
    found = db.execute(
        "SELECT state, process, raw_until, size FROM run WHERE id = ?", (run,)
    ).fetchone()
    if found is None:
        return LogGone()
    state, process, raw_until, size = found
    offset, left = _take(db, "frame", run, offset, room, chunks)
    if not left:
        return cursor.at(cursor.index, offset)
    if state == OPEN:
        return Blocked(run, offset, process)
    if raw_until == 0 and offset < size:
        return LogGone()
    return cursor.at(cursor.index + 1)


def history_cursor(db: sqlite3.Connection, thread_id: str, owner: str | None) -> Cursor:
    """Return the place where the compacted frames of a thread's ended runs begin."""
    thread = thread_of(db, thread_id, owner)
    if thread is None:
        return Cursor(0, ())
    return Cursor(thread, tuple([part for part in _parts(db, thread) if part > 0]))
