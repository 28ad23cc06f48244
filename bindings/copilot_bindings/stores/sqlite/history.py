"""The rows that ended runs leave in the tables, and their removal."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable

import attrs

from sansio_copilot.stores.protocol import RunResult

from ..compacted_frames import VOLUME_RUNS, pieces
from ..database_values import to_text
from ..retention import Evictions, Retention
from . import volumes
from .schema import OVER
from .writer import Transaction

_AT_ONCE = 256
"""The runs of a deleted thread that are removed in one transaction."""


def add_result(tx: Transaction, run: int, result: RunResult) -> None:
    """Store the result that a run would have if it ended now; it counts when the run has ended.

    The result that was stored before has been withdrawn.
    """
    db = tx.db
    base = run << 32
    for at, piece in pieces(result.frames):
        db.execute("INSERT INTO history (id, data) VALUES (?, ?)", (base | at, piece))
    ids = json.dumps(sorted(result.message_ids), separators=(",", ":"))
    db.execute(
        "INSERT INTO outcome (run, conversation, state, message_ids, ended_at, waits_for)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (run, result.messages, result.state, ids, result.ended_at, result.waits_for),
    )


def withdraw_result(tx: Transaction, run: int) -> None:
    """Remove the result of a run that goes on."""
    base = run << 32
    tx.db.execute("DELETE FROM history WHERE id >= ? AND id < ?", (base, (run + 1) << 32))
    tx.db.execute("DELETE FROM outcome WHERE run = ?", (run,))


@attrs.frozen
class Left:
    """The part of a run's result that is not its frames.

    :param has_conversation: whether the run has left messages.
    """

    has_conversation: bool
    has_state: bool
    message_ids: Iterable[str]
    ended_at: float
    waits_for: bytes | None

    @classmethod
    def by(cls, result: RunResult) -> Left:
        """Return what the run of ``result`` has left."""
        return cls(
            result.messages is not None,
            result.state is not None,
            result.message_ids,
            result.ended_at,
            result.waits_for,
        )

    @classmethod
    def stored(cls, db: sqlite3.Connection, run: int) -> Left:
        """Read this part of the result that was stored together with the terminal event."""
        conversation, state, ids, ended_at, waits_for = db.execute(
            "SELECT conversation IS NOT NULL, state IS NOT NULL, message_ids, ended_at, waits_for"
            " FROM outcome WHERE run = ?",
            (run,),
        ).fetchone()
        return cls(bool(conversation), bool(state), json.loads(ids), ended_at, waits_for)


def keep(tx: Transaction, thread: int, run: int, left: Left, retention: Retention) -> None:
    """Make a run that has ended a part of its thread's history, with the result ``left``."""
    db = tx.db
    runs, bound, created_at, updated_at, conversation_run, state_run, agent_id, last = db.execute(
        "SELECT t.runs, t.bound_runs, t.created_at, t.updated_at, t.conversation_run, t.state_run,"
        " r.agent_id,"
        " (SELECT MAX(id) FROM run WHERE thread = t.id AND state = 1)"
        " FROM thread t, run r WHERE t.id = ? AND r.id = ?",
        (thread, run),
    ).fetchone()
    if not runs:
        created_at = updated_at = left.ended_at
    changes: dict[str, object] = {
        "runs": runs + 1,
        "created_at": created_at,
        "updated_at": max(updated_at, left.ended_at),
    }
    if last == run:
        changes["agent_id"] = agent_id
        changes["waits_for"] = left.waits_for
        if left.has_conversation:
            _drop_text(db, "conversation", conversation_run)
            changes["conversation_run"] = run
        if left.has_state:
            _drop_text(db, "state", state_run)
            changes["state_run"] = run
    else:
        # The run was superseded, and has ended after its successor, whose texts are newer.
        _drop_text(db, "conversation", run)
        _drop_text(db, "state", run)
    assignments = ", ".join([f"{name} = ?" for name in changes])
    db.execute(f"UPDATE thread SET {assignments} WHERE id = ?", (*changes.values(), thread))
    db.executemany(
        "INSERT OR IGNORE INTO message (thread, message_id, run) VALUES (?, ?, ?)",
        [(thread, to_text(one), run) for one in left.message_ids],
    )
    if runs + 1 > retention.resumable_runs:
        _let_raw_frames_go(db, thread, retention)
    if runs + 1 > retention.max_runs_per_thread:
        drop_oldest(tx, thread, int(runs + 1 - retention.max_runs_per_thread), retention)
    elif retention.most_runs == 0 and runs + 1 - bound >= VOLUME_RUNS:
        volumes.bind(db, thread)


def _drop_text(db: sqlite3.Connection, column: str, run: int | None) -> None:
    if run is not None:
        db.execute(f"UPDATE outcome SET {column} = NULL WHERE run = ?", (run,))
        db.execute(
            "DELETE FROM outcome WHERE run = ? AND conversation IS NULL AND state IS NULL"
            " AND message_ids = '[]'",
            (run,),
        )


def _let_raw_frames_go(db: sqlite3.Connection, thread: int, retention: Retention) -> None:
    """Keep the raw frames of the last runs, and for a while those of other runs for their
    readers."""
    db.execute(
        "UPDATE run SET raw_until = ? WHERE id IN (SELECT id FROM run"
        " WHERE thread = ? AND state = 1 AND raw_until IS NULL"
        " ORDER BY id DESC LIMIT -1 OFFSET ?)",
        (time.time() + retention.resume_seconds, thread, int(retention.resumable_runs)),
    )


def drop_oldest(tx: Transaction, thread: int, count: int, retention: Retention) -> None:
    """Forget the first ``count`` runs of a thread's history."""
    db = tx.db
    runs = volumes.drop_oldest(db, thread, min(count, _AT_ONCE))
    until = time.time() + retention.resume_seconds
    for run in runs:
        found = db.execute("SELECT message_ids FROM outcome WHERE run = ?", (run,)).fetchone()
        db.executemany(
            "DELETE FROM message WHERE thread = ? AND message_id = ? AND run = ?",
            [(thread, to_text(one), run) for one in json.loads(found[0] if found else "[]")],
        )
        db.execute("DELETE FROM history WHERE id >= ? AND id < ?", (run << 32, (run + 1) << 32))
        # The outcome stays as long as it has the thread's messages or state.
        db.execute(
            "DELETE FROM outcome WHERE run = ? AND conversation IS NULL AND state IS NULL", (run,)
        )
        db.execute("UPDATE outcome SET message_ids = '[]' WHERE run = ?", (run,))
        db.execute("UPDATE run SET state = ?, raw_until = ? WHERE id = ?", (OVER, until, run))
    db.execute("UPDATE thread SET runs = runs - ? WHERE id = ?", (len(runs), thread))


def waited_before(db: sqlite3.Connection, thread: int, run: int) -> bytes | None:
    """Return what a thread has waited for before a run; None if an earlier run is still open."""
    found = db.execute(
        "SELECT waits_for FROM thread WHERE id = ? AND NOT EXISTS"
        " (SELECT 1 FROM run WHERE thread = ? AND state = 0 AND id < ?)",
        (thread, thread, run),
    ).fetchone()
    return None if found is None else found[0]


def messages_of(db: sqlite3.Connection, thread: int) -> bytes:
    """The messages of a thread, a JSON array."""
    return _text_of(db, thread, "conversation") or b"[]"


def state_of(db: sqlite3.Connection, thread: int) -> bytes:
    """The state of a thread as JSON; empty if it has none."""
    return _text_of(db, thread, "state") or b""


def _text_of(db: sqlite3.Connection, thread: int, column: str) -> bytes | None:
    found = db.execute(
        f"SELECT o.{column} FROM thread t JOIN outcome o ON o.run = t.{column}_run WHERE t.id = ?",
        (thread,),
    ).fetchone()
    return None if found is None else found[0]


# Letting go, a small step at a time, so that no append waits long


def tidy(tx: Transaction, retention: Retention, evictions: Evictions) -> bool:
    """Do a step of the tidying; returns whether there is more to do.

    Raw frames go when their time has come, and so do threads that are too old or too many. The rows
    of deleted threads are removed. A step is small, so that no append waits long for it.
    """
    now = time.time()
    more = _drop_raw_frames(tx.db, now)
    # The bounds are checked last, because the other parts of the step change what is counted.
    return _take_apart(tx.db, now) or more or _retire(tx, retention, now, evictions)


def _drop_raw_frames(db: sqlite3.Connection, now: float) -> bool:
    rows = db.execute(
        "SELECT id, state FROM run WHERE raw_until > 0 AND raw_until <= ? ORDER BY raw_until"
        " LIMIT ?",
        (now, _AT_ONCE),
    ).fetchall()
    for run, state in rows:
        db.execute("DELETE FROM frame WHERE id >= ? AND id < ?", (run << 32, (run + 1) << 32))
        if state == OVER:
            db.execute("DELETE FROM run WHERE id = ?", (run,))
        else:
            # A time that is over for good stands for "no raw frames".
            db.execute("UPDATE run SET raw_until = 0 WHERE id = ?", (run,))
    return len(rows) == _AT_ONCE


def _take_apart(db: sqlite3.Connection, now: float) -> bool:
    """Delete the rows of a thread that is dead, as far as nobody reads them."""
    found = db.execute(
        "SELECT id FROM thread t WHERE dead = 1 AND NOT EXISTS (SELECT 1 FROM run r"
        " WHERE r.thread = t.id AND (r.state = 0 OR r.raw_until > ?)) LIMIT 1",
        (now,),
    ).fetchone()
    if found is None:
        return False
    (thread,) = found
    if volumes.drop_some(db, thread):
        return True
    rows = db.execute(
        "SELECT id FROM run WHERE thread = ? ORDER BY id LIMIT ?", (thread, _AT_ONCE)
    ).fetchall()
    for (run,) in rows:
        bounds = (run << 32, (run + 1) << 32)
        db.execute("DELETE FROM frame WHERE id >= ? AND id < ?", bounds)
        db.execute("DELETE FROM history WHERE id >= ? AND id < ?", bounds)
        db.execute("DELETE FROM outcome WHERE run = ?", (run,))
        db.execute("DELETE FROM run WHERE id = ?", (run,))
    if len(rows) < _AT_ONCE:
        for column in ("conversation_run", "state_run"):
            # The run of this row was dropped before its thread was deleted.
            db.execute(
                f"DELETE FROM outcome WHERE run = (SELECT {column} FROM thread WHERE id = ?)",
                (thread,),
            )
        db.execute("DELETE FROM message WHERE thread = ?", (thread,))
        db.execute("DELETE FROM thread WHERE id = ?", (thread,))
    return True


def _retire(tx: Transaction, retention: Retention, now: float, evictions: Evictions) -> bool:
    """Evict the threads that were not updated for the longest time, if the bounds are exceeded."""
    if not retention.drops_threads:
        return False
    db = tx.db
    (threads,) = db.execute("SELECT COUNT(*) FROM thread WHERE dead = 0 AND runs > 0").fetchone()
    count = max(threads - retention.max_threads, 0)
    size = taken(db)
    if not count and size > retention.max_bytes:
        # The loop drops half of the threads that would be too many if all had the same size, and
        # measures again, because the size of a thread is not known before.
        count = max(threads * (size - retention.max_bytes) / size / 2, 1)
    oldest = now - retention.max_age
    rows = db.execute(
        "SELECT id, updated_at FROM thread t WHERE dead = 0 AND runs > 0 AND NOT EXISTS"
        " (SELECT 1 FROM run r WHERE r.thread = t.id AND r.state = 0)"
        " ORDER BY updated_at LIMIT ?",
        (_AT_ONCE,),
    ).fetchall()
    goes = [
        thread
        for index, (thread, updated_at) in enumerate(rows)
        if index < count or updated_at < oldest
    ]
    db.executemany("UPDATE thread SET dead = 1 WHERE id = ?", [(thread,) for thread in goes])
    tx.then(lambda: evictions.add(len(goes)))
    return bool(goes)


def taken(db: sqlite3.Connection) -> int:
    """Return the bytes of the file that are in use."""
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    (free,) = db.execute("PRAGMA freelist_count").fetchone()
    (size,) = db.execute("PRAGMA page_size").fetchone()
    return int((pages - free) * size)
