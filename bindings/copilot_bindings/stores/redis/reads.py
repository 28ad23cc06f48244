"""The calls that read, each as round trips: commands out, replies in."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import takewhile
from typing import Any

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

from ..compacted_frames import VOLUME_BYTES
from ..cursors import Cursor
from ..database_values import from_bytes, number_of, owner_from_bytes, owner_to_bytes, to_bytes
from ..reader_pages import Found, HistoryPiece, batch_of, paged
from ..reader_pages import read as read_pages
from ..round_trips import Command, RoundTrips
from . import scripts
from .lua_functions import FIRST_VOLUME
from .names import Names, from_owner_and_thread, unpacked

# A page is full with this many runs if each has 512 bytes.
_RUNS_AT_ONCE = 128
_THREADS_AT_ONCE = 256


def open_cursor(
    names: Names, thread_id: str, after: str | None, owner: str | None, room: int
) -> RoundTrips[tuple[Cursor, Batch | None]]:
    """See :meth:`.ThreadStore.open_cursor` and :meth:`.Reads.open_cursor`."""
    event_id = None if after is None else EventId.parse(after)
    whole, found = yield from _opened(names, thread_id, owner, "1", 0 if event_id else room)
    if after is None or event_id is None:
        pages = _paged_runs(whole, found) if found else None
        return whole, pages[0] if pages else None
    return (yield from _behind(names, whole, event_id, after)) or whole, None


def _opened(
    names: Names, thread_id: str, owner: str | None, live: str, room: int
) -> RoundTrips[tuple[Cursor, list[Any]]]:
    """Return the place where a reader of a thread begins, and its first page if it can be read now.

    :param live: "1" if open runs are read as well.
    :param room: the bytes of the page; 0 for no page.
    """
    thread, whose = names.thread(thread_id), owner_to_bytes(owner)
    ((runs, *found),) = yield [(scripts.OPEN_CURSOR, thread, names.processes, whose, live, room)]
    return Cursor(thread, tuple(map(int, runs.split()))), found


def _behind(
    names: Names, whole: Cursor, event_id: EventId, after: str
) -> RoundTrips[Cursor | None]:
    """The place behind an event of a run in a thread; None if the run or the event is gone."""
    thread, run = whole.thread, event_id.seq
    if run is None:
        return None
    (run_id,), bound = yield [
        ("HMGET", f"{thread}:r:{run}", "run"),
        (scripts.BOUND, thread, names.processes, run),
    ]
    if run_id is None or run_token(run, from_bytes(run_id)) != event_id.token:
        return None
    volume = int(bound[0]) if bound else run
    index = whole.index_of(volume, event_id)
    if index is None:
        return None
    (frames,) = yield [
        ("GET", f"{thread}:h:{volume}" if event_id.compacted else f"{thread}:l:{run}")
    ]
    if frames is None or (at := behind_frame(frames, after)) is None:
        return None
    runs = list(map(int, bound[1].split())) if bound else []
    return whole.behind(event_id, run, index, runs, at)


def history_cursor(names: Names, thread_id: str, owner: str | None) -> RoundTrips[Cursor]:
    """Return the place where the compacted frames of a thread's ended runs begin."""
    cursor, _ = yield from _opened(names, thread_id, owner, "0", 0)
    return cursor


def read(names: Names, cursor: Cursor, max_bytes: int, pages: int = 1) -> RoundTrips[Found]:
    """Read on from ``cursor``; see :func:`..reader_pages.read`."""
    return read_pages(
        cursor, max_bytes, pages, partial(_read_history, names), partial(_read_raw, names)
    )


def _read_history(
    names: Names, cursor: Cursor, room: int, pages: int
) -> RoundTrips[list[Batch] | None]:
    """Read pages of compacted runs that follow each other; the last page may be short."""
    if (cursor.part or 0) > FIRST_VOLUME:
        return (yield from _read_volumes(names, cursor, room, pages))
    (found,) = yield [_read_runs(names, cursor, room, pages)]
    return _paged_runs(cursor, found)


def _read_runs(names: Names, cursor: Cursor, room: int, pages: int) -> Command:
    """Return the command that reads pages of compacted runs that are in no volume."""
    ahead = cursor.parts[cursor.index : cursor.index + _RUNS_AT_ONCE * pages]
    runs = " ".join(map(str, takewhile(lambda part: part > 0, ahead)))
    script = scripts.READ_HISTORY
    return (script, cursor.thread, names.processes, cursor.offset, room, runs, pages)


def _paged_runs(cursor: Cursor, found: list[Any]) -> list[Batch] | None:
    if found[0] == b"gone":
        return None
    batches = []
    for read, offset, data in zip(found[::3], found[1::3], found[2::3], strict=True):
        behind = cursor.at(cursor.index + read, offset)
        batches.append(Batch(data, behind, behind.part is None))
    return batches


def _read_volumes(
    names: Names, cursor: Cursor, room: int, pages: int
) -> RoundTrips[list[Batch] | None]:
    """Read pages of volumes that follow each other, without a script, which would copy them thrice.

    The command asks for as many volumes as fill the pages if each is half full, and for the first
    runs behind them, because these cost less than another round trip. So there may be more pages.
    """
    begin, most = cursor.index, room * pages
    ahead = cursor.parts[begin : begin + most * 2 // VOLUME_BYTES + 2]
    volumes = list(takewhile(lambda part: part > FIRST_VOLUME, ahead))
    loose = cursor.at(begin + len(volumes))
    has_loose = len(volumes) < len(ahead) and (loose.part or 0) > 0
    # A run that is longer than others is a volume alone, and is read on when it is the first.
    wanted = [(cursor.offset, most), *([(0, VOLUME_BYTES)] * (len(volumes) - 1))]
    keys = [f"{cursor.thread}:h:{volume}" for volume in volumes]
    commands: list[Command] = [
        ("GETRANGE", key, offset, offset + length - 1)
        for key, (offset, length) in zip(keys, wanted, strict=True)
    ]
    if has_loose:
        commands.append(_read_runs(names, loose, room, 1))
    texts = yield commands
    pieces: list[HistoryPiece] = []
    behind = cursor
    for index, (key, (offset, length), data) in enumerate(
        zip(keys, wanted, texts, strict=False), begin
    ):
        if not data:
            (is_there,) = yield [("EXISTS", key)]
            if not is_there:
                if index == begin:
                    return None
                break
        pieces.append(HistoryPiece(index, offset, data))
        behind = cursor.at(index + 1)
        if len(data) == length:
            # The next page begins inside of this volume, because a full page says that the volume
            # may go on.
            behind = cursor.at(index, offset + length)
            break
    batches = paged(pieces, behind, room)
    if has_loose and behind == loose:
        batches += _paged_runs(loose, texts[-1]) or []
        # Empty pages are left out, because the volumes may have been read to their end, and an
        # empty page would be taken for the end of the history.
        batches = [batch for batch in batches if batch.data] or batches[-1:]
    return batches


def _read_raw(
    names: Names, cursor: Cursor, room: int, chunks: list[bytes]
) -> RoundTrips[Cursor | Found | None]:
    """Read a run as it was appended; a :class:`Found` if it is open and has nothing more."""
    run = -cursor.parts[cursor.index]
    ((state, *found),) = yield [
        (scripts.READ_RUN, cursor.thread, names.processes, run, cursor.offset, room)
    ]
    if state == b"gone":
        return None
    size, data = found
    if data:
        chunks.append(data)
    offset = cursor.offset + len(data)
    if offset < size:
        return cursor.at(cursor.index, offset)
    if state in (b"0", b"lost"):
        lost = run if state == b"lost" and not chunks else None
        return Found(batch_of(chunks, cursor.at(cursor.index, offset)), lost)
    return cursor.at(cursor.index + 1)


# Threads


def text(names: Names, thread_id: str, field: str, owner: str | None) -> RoundTrips[bytes | None]:
    """The messages or the state of a thread; None if there are none."""
    thread = names.thread(thread_id)
    (value,) = yield [(scripts.TEXT, thread, names.processes, owner_to_bytes(owner), field)]
    return None if value is None else bytes(value)


def owner_of(names: Names, thread_id: str) -> RoundTrips[ThreadOwner | None]:
    """See :meth:`.OwnersStore.owner_of`."""
    ((there, owner),) = yield [("HMGET", names.thread(thread_id), "id", "owner")]
    return None if there is None else owner_from_bytes(owner)


def bytes_of(names: Names, owner: str) -> RoundTrips[int]:
    """See :meth:`.MeasuringStore.bytes_of`."""
    key, total, at = names.listed(owner_to_bytes(owner)), 0, 0
    while True:
        (members,) = yield [("ZRANGE", key, at, at + _THREADS_AT_ONCE - 1)]
        if not members:
            return total
        at += len(members)
        threads = [names.thread(from_bytes(member)) for member in members]
        sizes = yield [(scripts.SIZE, thread, names.processes) for thread in threads]
        total += sum(sizes)


def threads_of_all(names: Names, cursor: str | None, limit: int) -> RoundTrips[OwnedThreads]:
    """See :meth:`.AdministeredStore.threads_of_all`.

    :raises UnknownCursor: for a cursor that is none.
    """
    ((behind, found),) = yield [("ZSCAN", names.threads, number_of(cursor), "COUNT", limit)]
    threads = [from_bytes(from_owner_and_thread(member)[1]) for _, member in scored_members(found)]
    rows = (yield from _rows(names, threads)) if threads else []
    # The list may still name a thread that is gone, because a process died between the two steps.
    there = [row for row in rows if row[0] is not None and int(row[9] or 0) > 0]
    owned = tuple([(owner_from_bytes(row[8]).owner, record(row)) for row in there])
    return OwnedThreads(owned, str(int(behind)) if int(behind) else None)


def list_threads(names: Names, query: ThreadQuery) -> RoundTrips[ThreadPage]:
    """See :meth:`.ThreadStore.list_threads`.

    :raises UnknownCursor: for a cursor that is none.
    """
    owner = owner_to_bytes(query.owner)
    behind: tuple[float, bytes] | None = None
    begin = float("-inf")
    if query.cursor is not None:
        updated_at, thread_id = sort_key_at(query.cursor)
        begin = -updated_at
        behind = begin, to_bytes(thread_id)
    records: list[ThreadRecord] = []
    many = min(max(query.limit + 1, 10), _THREADS_AT_ONCE)
    skip = 0
    while len(records) <= query.limit:
        # A page begins with the first thread of the last score, and skips those that were read,
        # because several threads may share a score.
        (found,) = yield [
            (
                *("ZRANGEBYSCORE", names.listed(owner), repr(begin), "+inf", "WITHSCORES"),
                *("LIMIT", skip, many),
            )
        ]
        there = scored_members(found)
        news = [member for score, member in there if behind is None or (score, member) > behind]
        if news:
            rows = yield from _rows(names, map(from_bytes, news))
            # The list may still name a thread that is gone, because a process died between the two
            # steps.
            records += [record(row) for row in rows if _answers(row, owner, query)]
        if len(there) < many:
            break
        last = there[-1][0]
        same = sum(score == last for score, _ in there)
        skip = skip + same if last == begin else same
        begin = last
    return page_of(records, query.limit)


def _rows(names: Names, thread_ids: Iterable[str]) -> RoundTrips[list[list[Any]]]:
    """The fields of threads, as :func:`record` takes them."""
    asked = [(scripts.RECORD, names.thread(one)) for one in thread_ids]
    return list(map(unpacked, (yield asked)))


def scored_members(found: list[Any]) -> list[tuple[float, bytes]]:
    """Scores and members, as a reply has them in either version of the protocol."""
    if found and isinstance(found[0], list | tuple):
        return [(float(score), member) for member, score in found]
    return [(float(found[index + 1]), found[index]) for index in range(0, len(found), 2)]


def _answers(row: list[Any], owner: bytes, query: ThreadQuery) -> bool:
    """Whether ``query`` asks for a thread."""
    return (
        row[0] is not None
        and row[8] == owner
        and int(row[9] or 0) > 0
        and (query.agent_id is None or to_bytes(query.agent_id) == row[1])
        and (query.archived is None or query.archived == (row[5] == b"1"))
        and (query.waiting is None or query.waiting == (_waits(row) is not None))
    )


def record(row: list[Any]) -> ThreadRecord:
    """Return the line of a list that the fields of a thread stand for."""
    thread_id, agent_id, created_at, updated_at, name, archived = row[:6]
    return ThreadRecord(
        from_bytes(thread_id),
        from_bytes(agent_id),
        float(created_at),
        float(updated_at),
        None if name is None else from_bytes(name),
        archived == b"1",
        _waits(row),
    )


def _waits(row: list[Any]) -> bytes | None:
    """Return what a thread waits for; None while one of its runs is open."""
    waits: bytes | None = row[6] if row[7] is None else None
    return waits
