"""The tables of a SQLite store, and the migrations of older versions to them.

A run's place in the tables of frames is one number, ``run << 32 | offset``: so the frames of a run
lie together and in order, an append is one insertion at one place, a read is one range, and no
index is needed beside. A run has at most 4 GiB.

====== ============================================================================================
thread a conversation. A ``dead`` one was deleted or cleared: no call finds it, and its rows are
       removed little by little
run    ``state`` is 0 while it is open, 1 as history, 2 if it has left nothing. ``process`` owns it
       while it is open; 0 if it was handed out as an orphan. ``stop`` is the signal to its owner: 1
       to stop, 2 that it is sealed. ``raw_until`` is when its raw frames go
frame  the frames as they were appended; each row has whole frames
history the compacted frames of a run, or of all runs that are bound in a volume, cut into pieces at
       the ends of frames
volume the oldest runs of a long thread; see :mod:`.volumes`
outcome the other parts of a run's result, such as the ids of its messages. Only the last messages
       and the last state of a thread are kept
message the ids of the messages that the history of a thread has
process the processes that use the file; see :mod:`.liveness`
====== ============================================================================================
"""

from __future__ import annotations

import logging
import sqlite3

from ..errors import StoreError, newer
from .errors import named

logger = logging.getLogger(__name__)

APPLICATION_ID = 0x61677569
"""The number that distinguishes the file from other databases ("agui")."""

OPEN, HISTORY, OVER = 0, 1, 2
FIRST_VOLUME = 1 << 30
"""The first number of a volume; the numbers of runs are lower."""
TOLD_TO_STOP, TOLD_SEALED = 1, 2
NOBODY = 0
MOST_BYTES = 1 << 32
"""The most bytes that the frames of one run may have."""

# A migration is a list of statements that are executed in one transaction. The version of a file is
# the number of migrations that it has seen. A published migration is never changed.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE thread (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            thread_id TEXT NOT NULL,
            owner TEXT,
            agent_id TEXT NOT NULL DEFAULT '',
            created_at REAL NOT NULL DEFAULT 0,
            updated_at REAL NOT NULL DEFAULT 0,
            name TEXT,
            archived INTEGER NOT NULL DEFAULT 0,
            runs INTEGER NOT NULL DEFAULT 0,
            conversation_run INTEGER,
            state_run INTEGER,
            dead INTEGER NOT NULL DEFAULT 0
        )""",
        "CREATE UNIQUE INDEX thread_by_id ON thread (thread_id) WHERE dead = 0",
        """CREATE INDEX thread_listed
            ON thread (owner, updated_at DESC, thread_id, archived, agent_id)
            WHERE dead = 0 AND runs > 0""",
        "CREATE INDEX thread_by_age ON thread (updated_at) WHERE dead = 0 AND runs > 0",
        "CREATE INDEX thread_dead ON thread (id) WHERE dead = 1",
        """CREATE TABLE run (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            thread INTEGER NOT NULL,
            run_id TEXT NOT NULL,
            agent_id TEXT NOT NULL,
            state INTEGER NOT NULL DEFAULT 0,
            process INTEGER,
            stop INTEGER NOT NULL DEFAULT 0,
            sealable INTEGER NOT NULL DEFAULT 0,
            opened_at REAL NOT NULL,
            size INTEGER NOT NULL DEFAULT 0,
            raw_until REAL
        )""",
        "CREATE INDEX run_by_thread ON run (thread, id, state)",
        "CREATE INDEX run_open ON run (thread, id) WHERE state = 0",
        "CREATE INDEX run_owned ON run (process) WHERE state = 0",
        "CREATE INDEX run_told ON run (process) WHERE stop > 0 AND process > 0",
        "CREATE INDEX run_raw ON run (thread, id) WHERE state = 1 AND raw_until IS NULL",
        "CREATE INDEX run_to_go ON run (raw_until) WHERE raw_until > 0",
        "CREATE TABLE frame (id INTEGER PRIMARY KEY, data BLOB NOT NULL)",
        "CREATE TABLE history (id INTEGER PRIMARY KEY, data BLOB NOT NULL)",
        """CREATE TABLE outcome (
            run INTEGER PRIMARY KEY,
            conversation BLOB,
            state BLOB,
            message_ids TEXT NOT NULL,
            ended_at REAL NOT NULL
        )""",
        """CREATE TABLE message (
            thread INTEGER NOT NULL,
            message_id TEXT NOT NULL,
            run INTEGER NOT NULL,
            PRIMARY KEY (thread, message_id, run)
        ) WITHOUT ROWID""",
        "CREATE TABLE process (id INTEGER PRIMARY KEY AUTOINCREMENT, seen_at REAL NOT NULL)",
    ),
    (
        "ALTER TABLE thread ADD COLUMN waits_for BLOB",
        "ALTER TABLE outcome ADD COLUMN waits_for BLOB",
        """CREATE INDEX thread_waiting ON thread (owner, updated_at DESC, thread_id)
            WHERE dead = 0 AND runs > 0 AND waits_for IS NOT NULL""",
    ),
    (
        """CREATE TABLE volume (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            thread INTEGER NOT NULL,
            runs TEXT NOT NULL
        )""",
        "CREATE INDEX volume_by_thread ON volume (thread, id)",
        f"INSERT INTO sqlite_sequence (name, seq) VALUES ('volume', {FIRST_VOLUME})",
        "ALTER TABLE thread ADD COLUMN bound INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE thread ADD COLUMN bound_runs INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE run ADD COLUMN volume INTEGER",
        "ALTER TABLE run ADD COLUMN volume_from INTEGER",
        "ALTER TABLE run ADD COLUMN volume_to INTEGER",
    ),
)


def migrate(db: sqlite3.Connection, path: str) -> None:
    """Bring the file to the version of this module.

    :raises StoreError: if the file has a newer version, or is not the file of a store.
    """
    if _version(db) == len(MIGRATIONS) and _application(db) == APPLICATION_ID:
        return
    # The transaction lets one process migrate if several begin at once, while the others wait.
    db.execute("BEGIN IMMEDIATE")
    try:
        version, application = _version(db), _application(db)
        tables = db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
        if application != APPLICATION_ID and tables:
            raise StoreError(named(path), "it is a database of something else")
        if version > len(MIGRATIONS):
            raise StoreError(named(path), newer("its schema has", version, len(MIGRATIONS)))
        for migration in MIGRATIONS[version:]:
            for statement in migration:
                db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        db.execute("COMMIT")
        logger.info("%s: brought from version %d to %d", named(path), version, len(MIGRATIONS))
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _application(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA application_id").fetchone()[0])
