"""The tables of a PostgreSQL store, and the migrations of older versions to them.

======= ===========================================================================================
thread  a conversation. ``owner`` is ``-`` for nobody, and otherwise ``o`` and the id
run     ``state`` is 0 while it is open, 1 as history, 2 if it left nothing. ``process`` owns it
        until ``lease``; "" if it was handed out as an orphan. ``stop`` is 1 if its owner is to
        stop. ``thread`` is null for an open run whose thread was deleted. ``followers`` are the
        processes that are told of appended frames. ``raw_until`` is when its raw frames go
frame   the frames as they were appended; each row has whole frames
history the compacted frames of a run, cut into pieces at the ends of frames; those that an open run
        would leave if it ended now; those of all runs that are bound in a volume
volume  the oldest runs of a long thread, bound because a row costs as much to read as kilobytes.
        No loose run is older than a bound one, and the last bound run is the thread's ``bound``, so
        that volumes followed by loose runs are the history. A run that is bound knows its
        ``volume``, and where it begins and ends there. No run has the number of a volume
message the ids of the messages that the history of a thread has
======= ===========================================================================================

The functions (:mod:`.functions`, :mod:`.volume_functions`, :mod:`.read_functions`) are made anew
with each version. If a function takes more arguments than before, these have defaults, so that the
runs of a process of the previous release come to their end. Such a process cannot read history any
more: it gets an error.
"""

from __future__ import annotations

import logging
from typing import Any

import psycopg

from ..compacted_frames import PIECE_BYTES, VOLUME_BYTES, VOLUME_RUNS
from ..errors import newer
from .functions import FUNCTIONS, LONGEST_PAYLOAD
from .names import FIRST_VOLUME, PARTS_AT_ONCE
from .read_functions import READING
from .volume_functions import BINDING

logger = logging.getLogger(__name__)

_TABLES = """
CREATE TABLE {s}.thread (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    thread_id bytea NOT NULL UNIQUE,
    owner bytea NOT NULL,
    agent_id bytea NOT NULL DEFAULT '',
    created_at double precision NOT NULL DEFAULT 0,
    updated_at double precision NOT NULL DEFAULT 0,
    name bytea,
    archived boolean NOT NULL DEFAULT false,
    runs integer NOT NULL DEFAULT 0,
    messages bytea,
    state bytea
);
CREATE INDEX ON {s}.thread (owner, updated_at DESC, thread_id) WHERE runs > 0;
CREATE INDEX ON {s}.thread (updated_at) WHERE runs > 0;
CREATE TABLE {s}.run (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    thread bigint REFERENCES {s}.thread ON DELETE SET NULL,
    lock bigint NOT NULL,
    thread_id bytea NOT NULL,
    run_id bytea NOT NULL,
    agent_id bytea NOT NULL,
    state smallint NOT NULL DEFAULT 0,
    process text NOT NULL,
    lease timestamptz NOT NULL,
    stop smallint NOT NULL DEFAULT 0,
    sealable boolean NOT NULL DEFAULT false,
    opened_at double precision NOT NULL,
    size bigint NOT NULL DEFAULT 0,
    followers text[] NOT NULL DEFAULT '{{}}',
    raw_until timestamptz,
    message_ids bytea[] NOT NULL DEFAULT '{{}}',
    ended_at double precision NOT NULL DEFAULT 0,
    messages bytea,
    json bytea
) WITH (fillfactor = 60);
CREATE INDEX ON {s}.run (thread, id);
CREATE INDEX ON {s}.run (thread, id) WHERE state = 0;
CREATE INDEX ON {s}.run (raw_until) WHERE raw_until IS NOT NULL;
CREATE TABLE {s}.frame (
    run bigint NOT NULL, at bigint NOT NULL, data bytea NOT NULL, PRIMARY KEY (run, at)
);
CREATE TABLE {s}.history (
    run bigint NOT NULL, at bigint NOT NULL, data bytea NOT NULL, PRIMARY KEY (run, at)
);
CREATE TABLE {s}.message (
    thread bigint NOT NULL REFERENCES {s}.thread ON DELETE CASCADE,
    message_id bytea NOT NULL,
    run bigint NOT NULL,
    PRIMARY KEY (thread, message_id, run)
);
"""

_WAITS = """
ALTER TABLE {s}.thread ADD COLUMN waits_for bytea;
ALTER TABLE {s}.run ADD COLUMN waits_for bytea;
CREATE INDEX ON {s}.thread (owner, updated_at DESC, thread_id)
    WHERE runs > 0 AND waits_for IS NOT NULL;
DROP FUNCTION IF EXISTS {s}.add_result(
    bigint, bigint[], bytea[], bytea, bytea, bytea[], double precision);
DROP FUNCTION IF EXISTS {s}.append(
    bigint, bigint, text, bigint, interval, bytea, boolean, bigint[], bytea[], bytea, bytea,
    bytea[], double precision);
DROP FUNCTION IF EXISTS {s}.close_run(
    bigint, bigint, bigint, bytea, interval, integer, integer, integer, bigint[], bytea[], bytea,
    bytea, bytea[], double precision);
"""

# This version only adds functions that read, so that no table changes.
_READS = ""

_VOLUMES = """
CREATE TABLE {s}.volume (
    id bigint GENERATED ALWAYS AS IDENTITY (START WITH {first_volume}) PRIMARY KEY,
    thread bigint NOT NULL REFERENCES {s}.thread ON DELETE CASCADE,
    runs bigint[] NOT NULL
);
CREATE INDEX ON {s}.volume (thread, id);
ALTER TABLE {s}.thread ADD COLUMN bound bigint NOT NULL DEFAULT 0;
ALTER TABLE {s}.thread ADD COLUMN bound_runs integer NOT NULL DEFAULT 0;
ALTER TABLE {s}.run ADD COLUMN volume bigint;
ALTER TABLE {s}.run ADD COLUMN volume_from bigint;
ALTER TABLE {s}.run ADD COLUMN volume_to bigint;
"""

# A process of an older release that calls a dropped function gets an error, because it would
# otherwise read a history without the bound runs.
_PARTS = """
DROP FUNCTION IF EXISTS {s}.read_history(bigint[], bigint, integer, integer);
DROP FUNCTION IF EXISTS {s}.bound_frames({s}.run);
DROP FUNCTION IF EXISTS {s}.joined(bytea[]);
"""

# This version only makes functions anew, which old processes go on to call as they did.
_ANSWERS = ""

MIGRATIONS: tuple[str, ...] = (_TABLES, _WAITS, _READS, _VOLUMES, _PARTS, _ANSWERS)
"""The version of a schema is the number of migrations that it has seen. A published migration never
changes."""
_MIGRATION_LOCK = 0x61677569


class NewerSchemaError(Exception):
    """A newer release has written the schema."""


def migrate(db: psycopg.Connection[Any], schema: str) -> None:
    """Bring the schema to the version of this module.

    :raises NewerSchemaError: if it is of a newer version.
    """
    with db.transaction(), db.cursor() as cursor:
        # The lock lets one process migrate if several begin at once, while the others wait for it.
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_MIGRATION_LOCK,))
        cursor.execute("SELECT to_regclass(%s)", (f"{schema}.version",))
        found = cursor.fetchone()
        if found is None or found[0] is None:
            _run(cursor, f"CREATE SCHEMA IF NOT EXISTS {schema}")
            _run(cursor, f"CREATE TABLE {schema}.version (version integer NOT NULL)")
            _run(cursor, f"INSERT INTO {schema}.version VALUES (0)")
        _run(cursor, f"SELECT version FROM {schema}.version")
        row = cursor.fetchone()
        version = row[0] if row else 0
        if version > len(MIGRATIONS):
            raise NewerSchemaError(newer("its schema has", version, len(MIGRATIONS)))
        if version == len(MIGRATIONS):
            return
        for statements in (*MIGRATIONS[version:], FUNCTIONS, BINDING, READING):
            _run(
                cursor,
                statements.format(
                    s=schema,
                    longest=LONGEST_PAYLOAD,
                    first_volume=FIRST_VOLUME,
                    volume_runs=VOLUME_RUNS,
                    volume_bytes=VOLUME_BYTES,
                    piece_bytes=PIECE_BYTES,
                    parts_at_once=PARTS_AT_ONCE,
                ),
            )
        _run(cursor, f"UPDATE {schema}.version SET version = {len(MIGRATIONS)}")
    logger.info("schema %s: brought from version %d to %d", schema, version, len(MIGRATIONS))


def _run(cursor: psycopg.Cursor[Any], statements: str) -> None:
    """Run statements of this module, in which only the name of the schema was filled in."""
    cursor.execute(statements.encode())
