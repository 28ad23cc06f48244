"""Changes of threads, each call a part of a transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sansio_copilot.stores.protocol import ThreadRecord

from ..database_values import to_text
from .listing import record_of
from .reads import thread_of
from .runs import Runs
from .writer import Transaction


def update(
    tx: Transaction, thread_id: str, changes: Mapping[str, Any], owner: str | None
) -> ThreadRecord | None:
    """See :meth:`.ThreadStore.update_thread`."""
    thread = thread_of(tx.db, thread_id, owner)
    if thread is None:
        return None
    if "name" in changes:
        name = changes["name"]
        tx.db.execute(
            "UPDATE thread SET name = ? WHERE id = ? AND runs > 0",
            (None if name is None else to_text(name), thread),
        )
    if "archived" in changes:
        tx.db.execute(
            "UPDATE thread SET archived = ? WHERE id = ? AND runs > 0",
            (int(changes["archived"]), thread),
        )
    return record_of(tx.db, thread)


def claim(tx: Transaction, thread_id: str, owner: str) -> bool:
    """See :meth:`.AdministeredStore.claim_thread`."""
    whose = to_text(owner)
    changed = tx.db.execute(
        "UPDATE thread SET owner = ? WHERE thread_id = ? AND dead = 0"
        " AND (owner IS NULL OR owner = ?)",
        (whose, to_text(thread_id), whose),
    )
    return changed.rowcount > 0


def delete(tx: Transaction, runs: Runs, thread_id: str, owner: str | None) -> bool:
    """See :meth:`.ThreadStore.delete_thread`. The rows of the thread go little by little."""
    thread = thread_of(tx.db, thread_id, owner)
    if thread is None:
        return False
    tx.db.execute("UPDATE thread SET dead = 1 WHERE id = ?", (thread,))
    runs.stop_all(tx, thread)
    return True


def clear(tx: Transaction, owner: str | None) -> None:
    """See :meth:`.ThreadStore.clear`."""
    db = tx.db
    whose = None if owner is None else to_text(owner)
    live = db.execute(
        "SELECT DISTINCT t.id, t.thread_id FROM run r JOIN thread t ON t.id = r.thread"
        " WHERE r.state = 0 AND t.owner IS ? AND t.dead = 0",
        (whose,),
    ).fetchall()
    db.execute("UPDATE thread SET dead = 1 WHERE owner IS ? AND dead = 0", (whose,))
    for thread, thread_id in live:
        # The open runs of a deleted thread go on in a new thread of the same id, which has no
        # history.
        new = db.execute(
            "INSERT INTO thread (thread_id, owner) VALUES (?, ?)", (thread_id, whose)
        ).lastrowid
        db.execute("UPDATE run SET thread = ? WHERE thread = ? AND state = 0", (new, thread))
