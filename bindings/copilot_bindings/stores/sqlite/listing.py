"""Lists of the threads in the file: those of one owner, those of all, and one line of them."""

from __future__ import annotations

import sqlite3
from typing import Any

from sansio_copilot.stores.list_cursors import page_of, sort_key_at
from sansio_copilot.stores.protocol import OwnedThreads, ThreadPage, ThreadQuery, ThreadRecord

from ..database_values import from_text, number_of, record_of_row, to_text

_HAS_OPEN = (
    "EXISTS (SELECT 1 FROM run INDEXED BY run_open WHERE run.thread = thread.id AND run.state = 0)"
)
_RECORD = (
    "thread_id, agent_id, created_at, updated_at, name, archived,"
    f" CASE WHEN waits_for IS NULL OR {_HAS_OPEN} THEN NULL ELSE waits_for END"
)


def list_threads(db: sqlite3.Connection, query: ThreadQuery) -> ThreadPage:
    """See :meth:`.ThreadStore.list_threads`.

    :raises UnknownCursor: for a cursor that is none.
    """
    conditions = ["owner IS ?", "dead = 0", "runs > 0"]
    values: list[Any] = [None if query.owner is None else to_text(query.owner)]
    if query.agent_id is not None:
        conditions.append("agent_id = ?")
        values.append(to_text(query.agent_id))
    if query.archived is not None:
        conditions.append("archived = ?")
        values.append(int(query.archived))
    if query.waiting is not None:
        waits = f"waits_for IS NOT NULL AND NOT {_HAS_OPEN}"
        conditions.append(waits if query.waiting else f"NOT ({waits})")
    if query.cursor is not None:
        updated_at, thread_id = sort_key_at(query.cursor)
        conditions.append("updated_at <= ? AND (updated_at < ? OR thread_id > ?)")
        values += [updated_at, updated_at, to_text(thread_id)]
    rows = db.execute(
        f"SELECT {_RECORD} FROM thread WHERE {' AND '.join(conditions)}"
        " ORDER BY updated_at DESC, thread_id LIMIT ?",
        (*values, query.limit + 1),
    ).fetchall()
    return page_of(list(map(record, rows)), query.limit)


def threads_of_all(db: sqlite3.Connection, cursor: str | None, limit: int) -> OwnedThreads:
    """See :meth:`.AdministeredStore.threads_of_all`.

    :raises UnknownCursor: for a cursor that is none.
    """
    rows = db.execute(
        f"SELECT {_RECORD}, owner, id FROM thread WHERE id > ? AND dead = 0 AND runs > 0"
        " ORDER BY id LIMIT ?",
        (number_of(cursor), limit),
    ).fetchall()
    found = tuple(
        [(None if row[-2] is None else from_text(row[-2]), record(row[:-2])) for row in rows]
    )
    return OwnedThreads(found, str(rows[-1][-1]) if len(rows) == limit else None)


def record(row: tuple[Any, ...]) -> ThreadRecord:
    """Return the line of a list that a row of a thread stands for."""
    return record_of_row(row, from_text)


def record_of(db: sqlite3.Connection, thread: int) -> ThreadRecord | None:
    """Return a thread's line of a list; None if it has no history."""
    row = db.execute(
        f"SELECT {_RECORD} FROM thread WHERE id = ? AND runs > 0", (thread,)
    ).fetchone()
    return None if row is None else record(row)
