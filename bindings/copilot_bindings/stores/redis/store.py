"""RedisStore: threads in Redis or Valkey, for the processes of many machines.

What it models. A run is a string that grows, and a thread a few keys beside (:mod:`.library` has
all of them). Each process has one connection for what it asks (:mod:`..pipeline`), one for what it
is told (:mod:`.listener`), and the tails of the runs that are followed in it (:mod:`..tails`), so
that a thousand readers of a run cost the server one.

Four rules make it right:

- **What must be atomic is a script.** An append looks who owns the run, and adds, in one.
- **Nothing is told that the server has not taken.** How safe it is there, its settings say: with
  ``appendonly yes`` and ``appendfsync everysec`` a power failure costs a second, with ``always``
  nothing.
- **Time is the server's.** A lease is renewed by each append, and looked at by the clock of the
  server. Whoever takes a run over fences its former owner out.
- **A notification may be lost.** It carries frames, so that nothing is read twice; what it says is
  in the keys as well, and is looked for once a second.

A connection is never used in a fork of the process that has made it.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, Literal, TypeVar

import attrs
from msgspec import structs

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
from ..owners import OwnedRuns
from ..pipeline import Command, Pipeline, Steps
from ..retention import Retention
from ..tails import Tails, followed
from ..texts import from_bytes
from . import reads, threads
from .link import Link, connect
from .listener import Listener
from .names import Names
from .runs import Runs

logger = logging.getLogger(__name__)

T = TypeVar("T")

_CLOSE_SECONDS = 5.0
_SLOTS = 32


class _Engine:
    """What one process has of a server: its connections, its threads and the tails."""

    def __init__(self, store: RedisStore, evictions: Evictions) -> None:
        self.names = Names(store.prefix)
        self._retention = store.retention
        self.tails = Tails(on_follow=self._followed)
        self.ahead = Ahead()
        self.owned = OwnedRuns[tuple[str, int]]()
        process = uuid.uuid4().hex
        self.runs = Runs(
            self.names,
            process,
            self.owned,
            self.tails,
            store.retention,
            store.on_concurrent_run == "supersede",
            int(store.lease * 1000),
        )
        link = Link(connect(store.url), store.shown)
        self.pipeline = Pipeline("copilot-redis", link.send, link.close)
        self._tidying = Tidying(self.tidy)
        self._evictions = evictions
        self.listener = Listener(
            *(connect(store.url, reconnects=True), self.pipeline, self.names, process),
            *(self.owned, self.tails, self._tick),
        )

    def submit(self, steps: Steps[T]) -> Future[T]:
        return self.pipeline.submit(steps)

    def tidy(self) -> Future[bool]:
        return self.submit(threads.retire(self.runs, self._evictions))

    def _followed(self) -> None:
        self.listener.wake()

    def _tick(self) -> None:
        if self._retention.drops_threads:
            self._tidying.look()

    def close(self) -> bool:
        ended = self.listener.close(_CLOSE_SECONDS)
        return self.pipeline.close(_CLOSE_SECONDS) and ended


def _seconds(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 15:
        raise ValueError(f"{attribute.name} must be 1 to 15 seconds, got {value!r}")


def _prefix(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, str) or not value or set(value) & set("{} \n"):
        raise ValueError(f"{attribute.name} must be a text without braces or spaces, got {value!r}")


@attrs.define(eq=False, on_setattr=attrs.setters.frozen)
class RedisStore:
    """Threads in Redis (6.2 or later) or Valkey: in one server, and not in a cluster of several.

    :param url: of the server: ``redis://``, ``rediss://`` or ``unix://``, as redis-py takes it.
    :param prefix: what all keys begin with, so that several stores share a server.
    :param on_concurrent_run: what a second run on a busy thread does; see
        :class:`~sansio_copilot.MemoryStore`.
    :param retention: what is kept, and for how long; by default everything. ``max_bytes`` is
        compared with what the whole server takes.
    :param lease: seconds after which the owner of a run is taken for dead; 1 to 15.
    :raises ValueError: for an argument that makes no sense.
    """

    url: str = attrs.field(repr=False, validator=attrs.validators.instance_of(str))
    prefix: str = attrs.field(default="copilot", kw_only=True, validator=_prefix)
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
        connect(self.url).close()

    @property
    def shown(self) -> str:
        """The store as errors name it, without a password."""
        return f"RedisStore({self.url.rpartition('@')[2]!r})"

    # Its life

    def open(self) -> Future[None]:
        """Connect.

        :raises StoreUnavailable: if there is no connection to be had for now.
        :raises StoreError: if it is one of several servers of a cluster.
        """
        engine = self._engine()

        def steps() -> Steps[None]:
            # The keys are in as many slots, of which a cluster has some elsewhere.
            yield [("EXISTS", f"{engine.names.prefix}:{number}") for number in range(_SLOTS)]
            yield [self._checking(engine)]

        return engine.submit(steps())

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
            yield [self._checking(engine)]

        return engine.submit(steps())

    def _checking(self, engine: _Engine) -> Command:
        return "SET", f"{engine.names.prefix}:checked", time.time(), "PX", 60_000

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
        return engine.submit(engine.runs.open(request))

    def append(
        self, key: RunKey, at: int, frames: bytes, result: RunResult | None = None
    ) -> Future[Signal]:
        engine = self._engine()
        return engine.submit(engine.runs.append(key, at, frames, result))

    def close_run(
        self, key: RunKey, at: int, frames: bytes, result: RunResult | None
    ) -> Future[bool]:
        engine = self._engine()
        return engine.submit(engine.runs.close(key, at, frames, result))

    def renew(self, key: RunKey) -> Future[Signal]:
        engine = self._engine()
        return engine.submit(engine.runs.renew(key))

    def request_stop(
        self, thread_id: str, run_id: str | None, owner: str | None = None
    ) -> Future[bool | Orphan]:
        engine = self._engine()
        return engine.submit(engine.runs.stop(thread_id, run_id, owner))

    def watch_run(self, key: RunKey, notify: NotifyOwner) -> Cancel:
        engine = self._engine()
        return engine.owned.watch((engine.names.thread(key.thread_id), key.seq), notify)

    def orphans(self, limit: int) -> Future[list[Orphan]]:
        engine = self._engine()
        return engine.submit(engine.runs.orphans(limit))

    # Readers

    def open_cursor(
        self, thread_id: str, after: str | None, owner: str | None = None
    ) -> Future[Cursor]:
        engine = self._engine()
        return engine.submit(reads.open_cursor(engine.names, thread_id, after, owner))

    def read(self, cursor: Cursor, max_bytes: int) -> Batch | LogGone | Future[Batch | LogGone]:
        engine = self._engine()
        known = followed(engine.tails, cursor, max_bytes, lambda run: (cursor.thread, run))
        if isinstance(known, Batch):
            return known
        page = engine.ahead.take(known, max_bytes)
        if isinstance(page, Batch):
            return page
        return engine.submit(self._read(engine, known, max_bytes, page))

    def _read(
        self, engine: _Engine, cursor: Cursor, max_bytes: int, pages: int
    ) -> Steps[Batch | LogGone]:
        found = yield from reads.read(engine.names, cursor, max_bytes, pages)
        if isinstance(found.batch, LogGone):
            return found.batch
        if found.lost is None:
            return engine.ahead.keep((found.batch, *found.ahead))
        engine.tails.found((cursor.thread, found.lost))
        (thread_id,) = yield [("HGET", cursor.thread, "id")]
        if thread_id is None:
            return found.batch
        orphan = yield from engine.runs.claim(from_bytes(thread_id), found.lost)
        return structs.replace(found.batch, orphan=orphan)

    def watch(self, cursor: Cursor, notify: Notify) -> Cancel:
        part = cursor.part
        if part is None or part > 0:
            notify()
            return nothing_to_cancel
        return self._engine().tails.watch((cursor.thread, -part), cursor.offset, notify)

    # Threads

    def list_threads(self, query: ThreadQuery = EVERY_THREAD) -> Future[ThreadPage]:
        engine = self._engine()
        return engine.submit(reads.list_threads(engine.names, query))

    def read_history(
        self, thread_id: str, kind: Kind, cursor: Any, max_bytes: int, owner: str | None = None
    ) -> Batch | Future[Batch | LogGone]:
        if isinstance(cursor, Whole):
            return cursor.page(max_bytes)
        engine = self._engine()
        names = engine.names

        def steps() -> Steps[Batch | LogGone]:
            if kind == "frames":
                place = cursor
                if place is None:
                    place = yield from reads.history_cursor(names, thread_id, owner)
                found = yield from reads.read(names, place, max_bytes)
                return found.batch
            whole = yield from reads.text(names, thread_id, kind, owner)
            return Whole(whole or (b"" if kind == "state" else b"[]")).page(max_bytes)

        return engine.submit(steps())

    def update_thread(
        self, thread_id: str, changes: Mapping[str, Any], owner: str | None = None
    ) -> Future[ThreadRecord | None]:
        engine = self._engine()
        return engine.submit(threads.update(engine.names, thread_id, changes, owner))

    def delete_thread(self, thread_id: str, owner: str | None = None) -> Future[bool]:
        engine = self._engine()
        engine.ahead.forget()
        return engine.submit(threads.delete(engine.runs, thread_id, owner))

    def clear(self, owner: str | None = None) -> Future[None]:
        engine = self._engine()
        engine.ahead.forget()
        return engine.submit(threads.clear(engine.runs, owner))

    def owner_of(self, thread_id: str) -> Future[ThreadOwner | None]:
        engine = self._engine()
        return engine.submit(reads.owner_of(engine.names, thread_id))

    def threads_of_all(self, cursor: str | None, limit: int) -> Future[OwnedThreads]:
        engine = self._engine()
        return engine.submit(reads.threads_of_all(engine.names, cursor, limit))

    def claim_thread(self, thread_id: str, owner: str) -> Future[bool]:
        engine = self._engine()
        return engine.submit(threads.claim(engine.names, thread_id, owner))

    def bytes_of(self, owner: str) -> Future[int]:
        engine = self._engine()
        return engine.submit(reads.bytes_of(engine.names, owner))
