"""PostgresStore: threads in PostgreSQL, for the processes of many machines.

What it models. The tables and functions are in :mod:`.schema`. Each process has one connection for
what it writes and one for what it reads (:mod:`..pipeline`), one for what it is told
(:mod:`.listener`), and the tails of the runs that are followed in it (:mod:`..tails`), so that a
thousand readers of a run cost the server one.

Four rules make it right:

- **What must be done alone is a function**, and what waits at one time is one transaction.
- **Nothing is told that is not committed.** How safe that is, the server's settings say: with
  ``synchronous_commit = on``, which is the default, a power failure costs nothing.
- **Time is the server's.** A lease is renewed by each append, and looked at by the clock of the
  server. Whoever takes a run over fences its former owner out.
- **A notification may be lost.** It carries frames, so that nothing is read twice; what it says is
  in the tables as well, and is looked for once a second.

No lock is held longer than a transaction, and no statement is prepared, so that all connections but
that of the listener may go through a proxy that pools transactions. A connection is never used in a
fork of the process that has made it.
"""

from __future__ import annotations

import contextlib
import logging
import re
import uuid
from collections.abc import Mapping
from concurrent.futures import Future
from datetime import timedelta
from typing import Any, Literal, TypeVar

import attrs
import psycopg
from msgspec import structs
from psycopg.conninfo import conninfo_to_dict

from sansio_copilot.stores.protocol import (
    EVERY_THREAD,
    Batch,
    Cancel,
    Kind,
    LogGone,
    Notify,
    NotifyOwner,
    Opened,
    Orphan,
    OwnedThreads,
    RunKey,
    RunRequest,
    RunResult,
    Signal,
    ThreadOwner,
    ThreadPage,
    ThreadQuery,
    ThreadRecord,
    nothing_to_cancel,
)

from ..ahead import Ahead
from ..cursors import Cursor, Whole
from ..engines import Engines, Evictions, Tidying
from ..errors import StoreError
from ..owners import OwnedRuns
from ..pipeline import Pipeline, Steps
from ..retention import Retention
from ..tails import Tails, followed
from . import reads, threads
from .link import Link, connect, translated
from .listener import Listener
from .runs import Runs
from .schema import NewerSchemaError, migrate

logger = logging.getLogger(__name__)

T = TypeVar("T")

_CLOSE_SECONDS = 5.0


class _Engine:
    """What one process has of a server: its connections, its threads and the tails."""

    def __init__(self, store: PostgresStore, evictions: Evictions) -> None:
        self._prepare(store)
        self.schema = store.schema
        self.tails = Tails(on_follow=self._followed)
        self.ahead = Ahead()
        self.owned = OwnedRuns[int]()
        process = uuid.uuid4().hex[:16]
        self.runs = Runs(
            store.schema,
            process,
            self.owned,
            self.tails,
            store.retention,
            store.on_concurrent_run == "supersede",
            timedelta(seconds=store.lease),
        )
        writer, reader = (Link(store.url, store.shown) for _ in range(2))
        self.writer = Pipeline("copilot-pg", writer.send, writer.close)
        self.reader = Pipeline("copilot-pg-reader", reader.send, reader.close)
        self._tidying = Tidying(self.tidy)
        self._evictions = evictions
        self.listener = Listener(
            *(store.listen_url or store.url, store.shown, self.reader, store.schema, process),
            *(self.owned, self.tails, self._tick),
        )

    def _prepare(self, store: PostgresStore) -> None:
        try:
            with contextlib.closing(connect(store.url, is_patient=True)) as db:
                migrate(db, store.schema)
        except NewerSchemaError as error:
            raise StoreError(store.shown, str(error)) from None
        except psycopg.Error as error:
            raise translated(store.shown, error) from error

    def write(self, steps: Steps[T]) -> Future[T]:
        return self.writer.submit(steps)

    def read(self, steps: Steps[T]) -> Future[T]:
        return self.reader.submit(steps)

    def tidy(self) -> Future[bool]:
        return self.read(threads.tidy(self.runs, self._evictions))

    def _followed(self) -> None:
        self.listener.wake()

    def _tick(self) -> None:
        self._tidying.look()

    def close(self) -> bool:
        ended = self.listener.close(_CLOSE_SECONDS)
        for pipeline in (self.reader, self.writer):
            ended = pipeline.close(_CLOSE_SECONDS) and ended
        return ended


def _seconds(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 15:
        raise ValueError(f"{attribute.name} must be 1 to 15 seconds, got {value!r}")


def _schema(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, str) or not re.fullmatch("[a-z_][a-z0-9_]{0,30}", value):
        raise ValueError(
            f"{attribute.name} must be a name of small letters, digits and _, got {value!r}"
        )


@attrs.define(eq=False, on_setattr=attrs.setters.frozen)
class PostgresStore:
    """Threads in PostgreSQL (14 or later).

    :param url: of the database, as libpq takes it.
    :param schema: of the tables, which is made if there is none; several stores share a database.
    :param listen_url: of the server itself, if ``url`` is that of a proxy that pools transactions.
    :param on_concurrent_run: what a second run on a busy thread does; see
        :class:`~sansio_copilot.MemoryStore`.
    :param retention: what is kept, and for how long; by default everything. ``max_bytes`` is
        compared with what the frames of runs take as they were appended.
    :param lease: seconds after which the owner of a run is taken for dead; 1 to 15.
    :raises ValueError: for an argument that makes no sense.
    """

    url: str = attrs.field(repr=False, validator=attrs.validators.instance_of(str))
    schema: str = attrs.field(default="copilot", kw_only=True, validator=_schema)
    listen_url: str | None = attrs.field(default=None, kw_only=True, repr=False)
    on_concurrent_run: Literal["reject", "supersede"] = attrs.field(
        default="reject", kw_only=True, validator=attrs.validators.in_(("reject", "supersede"))
    )
    retention: Retention = attrs.field(
        factory=Retention, kw_only=True, validator=attrs.validators.instance_of(Retention)
    )
    lease: float = attrs.field(default=15.0, kw_only=True, validator=_seconds)
    _engines: Engines[_Engine] = attrs.field(factory=Engines, init=False, repr=False)
    _evictions: Evictions = attrs.field(factory=Evictions, init=False, repr=False)

    blocking = False

    def __attrs_post_init__(self) -> None:
        try:
            conninfo_to_dict(self.url)
        except psycopg.Error as error:
            raise ValueError(f"PostgresStore needs the URL of a database: {error}") from None

    @property
    def shown(self) -> str:
        """The store as errors name it, without a password."""
        parts = conninfo_to_dict(self.url)
        host, name = parts.get("host", ""), parts.get("dbname", "")
        return f"PostgresStore({name!r} at {host!r})"

    # Its life

    def open(self) -> None:
        """Connect, and bring the schema to the version of this release.

        :raises StoreUnavailable: if there is no connection to be had for now.
        :raises StoreError: if the schema cannot be used.
        """
        self._engine()

    def close(self) -> None:
        """Finish what was begun, and end the connections. A later call makes new ones."""
        engine = self._engines.take()
        if engine is None:
            return
        if not engine.close():
            logger.warning("%s: left threads that do not end", self.shown)

    def check(self) -> Future[None]:
        """Find out whether the server takes what is written.

        :raises StoreUnavailable: if it does not, for now.
        """
        engine = self._engine()

        def steps() -> Steps[None]:
            yield [(f"UPDATE {engine.schema}.version SET version = version RETURNING 1", (), 0)]

        return engine.write(steps())

    def tidy(self) -> Future[bool]:
        """Do now a step of what is done from time to time: let go what need not be kept.

        :returns: whether there is more to do.
        """
        return self._engine().tidy()

    @property
    def evictions(self) -> int:
        """How many threads this process has let go, to stay within the retention's bounds."""
        return self._evictions.count

    def _engine(self) -> _Engine:
        return self._engines.get(self._begin)

    def _begin(self) -> _Engine:
        return _Engine(self, self._evictions)

    # Runs

    def open_run(self, request: RunRequest) -> Future[Opened]:
        engine = self._engine()
        return engine.write(engine.runs.open(request))

    def append(
        self, key: RunKey, at: int, frames: bytes, result: RunResult | None = None
    ) -> Future[Signal]:
        engine = self._engine()
        return engine.write(engine.runs.append(key, at, frames, result))

    def close_run(
        self, key: RunKey, at: int, frames: bytes, result: RunResult | None
    ) -> Future[bool]:
        engine = self._engine()
        return engine.write(engine.runs.close(key, at, frames, result))

    def renew(self, key: RunKey) -> Future[Signal]:
        engine = self._engine()
        return engine.write(engine.runs.renew(key))

    def request_stop(
        self, thread_id: str, run_id: str | None, owner: str | None = None
    ) -> Future[bool | Orphan]:
        engine = self._engine()
        return engine.write(engine.runs.stop(thread_id, run_id, owner))

    def watch_run(self, key: RunKey, notify: NotifyOwner) -> Cancel:
        engine = self._engine()
        return engine.owned.watch(key.seq, notify)

    def orphans(self, limit: int) -> Future[list[Orphan]]:
        engine = self._engine()
        return engine.write(engine.runs.orphans(limit))

    # Readers

    def open_cursor(
        self, thread_id: str, after: str | None, owner: str | None = None
    ) -> Future[Cursor]:
        engine = self._engine()
        return engine.read(reads.open_cursor(engine.schema, thread_id, after, owner))

    def read(self, cursor: Cursor, max_bytes: int) -> Batch | LogGone | Future[Batch | LogGone]:
        engine = self._engine()
        known = followed(engine.tails, cursor, max_bytes)
        if isinstance(known, Batch):
            return known
        page = engine.ahead.take(known, max_bytes)
        if isinstance(page, Batch):
            return page
        return engine.read(self._read(engine, known, max_bytes, page))

    def _read(
        self, engine: _Engine, cursor: Cursor, max_bytes: int, pages: int
    ) -> Steps[Batch | LogGone]:
        found = yield from reads.read(engine.schema, cursor, max_bytes, pages)
        if isinstance(found.batch, LogGone):
            return found.batch
        if found.lost is None:
            return engine.ahead.keep((found.batch, *found.ahead))
        engine.tails.found(found.lost)
        orphan = yield from engine.runs.claim(found.lost)
        return structs.replace(found.batch, orphan=orphan)

    def watch(self, cursor: Cursor, notify: Notify) -> Cancel:
        part = cursor.part
        if part is None or part > 0:
            notify()
            return nothing_to_cancel
        return self._engine().tails.watch(-part, cursor.offset, notify)

    # Threads

    def list_threads(self, query: ThreadQuery = EVERY_THREAD) -> Future[ThreadPage]:
        engine = self._engine()
        return engine.read(reads.list_threads(engine.schema, query))

    def read_history(
        self, thread_id: str, kind: Kind, cursor: Any, max_bytes: int, owner: str | None = None
    ) -> Batch | Future[Batch | LogGone]:
        if isinstance(cursor, Whole):
            return cursor.page(max_bytes)
        engine = self._engine()
        schema = engine.schema

        def steps() -> Steps[Batch | LogGone]:
            if kind == "frames":
                place = cursor
                if place is None:
                    place = yield from reads.open_cursor(
                        schema, thread_id, None, owner, with_open=False
                    )
                found = yield from reads.read(schema, place, max_bytes)
                return found.batch
            whole = yield from reads.text(schema, thread_id, kind, owner)
            return Whole(whole or (b"" if kind == "state" else b"[]")).page(max_bytes)

        return engine.read(steps())

    def update_thread(
        self, thread_id: str, changes: Mapping[str, Any], owner: str | None = None
    ) -> Future[ThreadRecord | None]:
        engine = self._engine()
        return engine.write(threads.update(engine.schema, thread_id, changes, owner))

    def delete_thread(self, thread_id: str, owner: str | None = None) -> Future[bool]:
        engine = self._engine()
        engine.ahead.forget()
        return engine.write(threads.delete(engine.runs, thread_id, owner))

    def clear(self, owner: str | None = None) -> Future[None]:
        engine = self._engine()
        engine.ahead.forget()
        return engine.write(threads.clear(engine.runs, owner))

    def owner_of(self, thread_id: str) -> Future[ThreadOwner | None]:
        engine = self._engine()
        return engine.read(reads.owner_of(engine.schema, thread_id))

    def threads_of_all(self, cursor: str | None, limit: int) -> Future[OwnedThreads]:
        engine = self._engine()
        return engine.read(reads.threads_of_all(engine.schema, cursor, limit))

    def claim_thread(self, thread_id: str, owner: str) -> Future[bool]:
        engine = self._engine()
        return engine.write(threads.claim(engine.schema, thread_id, owner))

    def bytes_of(self, owner: str) -> Future[int]:
        engine = self._engine()
        return engine.read(reads.bytes_of(engine.schema, owner))
