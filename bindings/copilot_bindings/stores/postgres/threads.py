"""The calls that change threads, and the tidying, as round trips: statements out, rows in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sansio_copilot.stores.protocol import ThreadRecord

from ..database_values import owner_to_bytes, to_bytes
from ..retention import Evictions
from ..round_trips import RoundTrips
from .names import lock_of
from .reads import columns, record
from .runs import Runs

_AT_ONCE = 100
_FEW = 8


def update(
    schema: str, thread_id: str, changes: Mapping[str, Any], owner: str | None
) -> RoundTrips[ThreadRecord | None]:
    """See :meth:`.ThreadStore.update_thread`."""
    assignments = ["runs = runs"]
    values: list[Any] = []
    if "name" in changes:
        assignments.append("name = %s::bytea")
        values.append(None if changes["name"] is None else to_bytes(changes["name"]))
    if "archived" in changes:
        assignments.append("archived = %s")
        values.append(bool(changes["archived"]))
    thread = to_bytes(thread_id)
    (rows,) = yield [
        (
            f"UPDATE {schema}.thread SET {', '.join(assignments)}"
            f" WHERE thread_id = %s AND owner = %s AND runs > 0 RETURNING {columns(schema)}",
            (*values, thread, owner_to_bytes(owner)),
            lock_of(thread),
        )
    ]
    return record(rows[0]) if rows else None


def claim(schema: str, thread_id: str, owner: str) -> RoundTrips[bool]:
    """See :meth:`.AdministeredStore.claim_thread`."""
    thread, whose = to_bytes(thread_id), owner_to_bytes(owner)
    (rows,) = yield [
        (
            f"UPDATE {schema}.thread SET owner = %s WHERE thread_id = %s AND owner IN (%s, %s)"
            " RETURNING 1",
            (whose, thread, owner_to_bytes(None), whose),
            lock_of(thread),
        )
    ]
    return bool(rows)


def delete(runs: Runs, thread_id: str, owner: str | None) -> RoundTrips[bool]:
    """See :meth:`.ThreadStore.delete_thread`."""
    thread = to_bytes(thread_id)
    return (yield from _delete(runs, thread, owner_to_bytes(owner), False, False))


def clear(runs: Runs, owner: str | None) -> RoundTrips[None]:
    """See :meth:`.ThreadStore.clear`."""
    key = owner_to_bytes(owner)
    while True:
        (rows,) = yield [
            (
                f"SELECT thread_id FROM {runs.schema}.thread"
                " WHERE owner = %s AND runs > 0 LIMIT %s",
                (key, _AT_ONCE),
                0,
            )
        ]
        if not rows:
            return
        for (thread_id,) in rows:
            yield from _delete(runs, thread_id, key, True, False)


def _delete(
    runs: Runs, thread_id: bytes, owner: bytes, keeps_open: bool, spares_open: bool
) -> RoundTrips[bool]:
    lock = lock_of(thread_id)
    (((there,),),) = yield [
        (
            f"SELECT {runs.schema}.delete_thread(%s, %s::bytea, %s::bytea, %s, %s, %s)",
            (lock, thread_id, owner, keeps_open, spares_open, runs.resume),
            lock,
        )
    ]
    return bool(there)


def tidy(runs: Runs, evictions: Evictions) -> RoundTrips[bool]:
    """Do a step of the tidying; returns whether there is more to do.

    Raw frames go when their time has come, and so do threads that are too old or too many.
    """
    more = yield from _drop_raw_frames(runs.schema)
    if runs.retention.drops_threads:
        more = (yield from _retire(runs, evictions)) or more
    return more


def _drop_raw_frames(schema: str) -> RoundTrips[bool]:
    (((count,),),) = yield [
        (
            f"WITH due AS (SELECT id, state FROM {schema}.run WHERE raw_until < now()"
            " ORDER BY raw_until LIMIT %s FOR UPDATE SKIP LOCKED),"
            f" frames AS (DELETE FROM {schema}.frame f USING due WHERE f.run = due.id),"
            f" over AS (DELETE FROM {schema}.run r USING due"
            " WHERE r.id = due.id AND due.state = 2),"
            # A time that never comes stands for "no raw frames".
            f" kept AS (UPDATE {schema}.run r SET raw_until = 'infinity' FROM due"
            " WHERE r.id = due.id AND due.state = 1) SELECT count(*) FROM due",
            (_AT_ONCE,),
            0,
        )
    ]
    return bool(count == _AT_ONCE)


def _retire(runs: Runs, evictions: Evictions) -> RoundTrips[bool]:
    bounds, schema = runs.retention, runs.schema
    ((count,),), ((taken,),), rows, ((now,),) = yield [
        (f"SELECT count(*) FROM {schema}.thread WHERE runs > 0", (), 0),
        (f"SELECT coalesce(sum(size), 0) FROM {schema}.run WHERE state < 2", (), 0),
        (
            f"SELECT thread_id, owner, updated_at FROM {schema}.thread t WHERE runs > 0 AND NOT"
            f" EXISTS (SELECT 1 FROM {schema}.run r WHERE r.thread = t.id AND r.state = 0)"
            " ORDER BY updated_at LIMIT %s",
            (_AT_ONCE,),
            0,
        ),
        ("SELECT extract(epoch FROM now())::double precision", (), 0),
    ]
    goes = max(count - bounds.max_threads, 0) if bounds.max_threads < math.inf else 0
    if taken > bounds.max_bytes:
        # The loop drops a few threads and measures again, because the size of a thread is not known
        # before.
        goes = max(goes, _FEW)
    gone = 0
    for index, (thread_id, owner, updated_at) in enumerate(rows):
        if index < goes or updated_at < now - bounds.max_age:
            gone += yield from _delete(runs, thread_id, owner, True, True)
    evictions.add(gone)
    return gone > 0
