"""A store whose data are in a server: the choice of the connection for each call's round trips.

The modules of each kind of store have the calls as round trips (:mod:`.round_trips`). The class
here hands them to a connection; :class:`~.durable.DurableStore` answers what needs no server.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, Generic, Protocol, TypeVar

import attrs

from sansio_copilot.stores.protocol import (
    EVERY_THREAD,
    Batch,
    Kind,
    LogGone,
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
)

from .cursors import Cursor, Whole
from .durable import DurableStore, Engine
from .reader_pages import Found
from .round_trips import PipelineThread, RoundTrips

logger = logging.getLogger(__name__)

_CLOSE_SECONDS = 5.0

T = TypeVar("T")
Namespace = TypeVar("Namespace", contravariant=True)
P = TypeVar("P")
R = TypeVar("R", bound="RunCalls")
R_contra = TypeVar("R_contra", contravariant=True)
E = TypeVar("E", bound="RemoteEngine[Any, Any]")


class RunCalls(Protocol):
    """The calls that concern runs."""

    def open(self, request: RunRequest, /) -> RoundTrips[Opened]: ...
    def append(
        self, key: RunKey, at: int, frames: bytes, result: RunResult | None, /
    ) -> RoundTrips[Signal]: ...
    def close(
        self, key: RunKey, at: int, frames: bytes, result: RunResult | None, /
    ) -> RoundTrips[bool]: ...
    def renew(self, key: RunKey, /) -> RoundTrips[Signal]: ...
    def stop(
        self, thread_id: str, run_id: str | None, owner: str | None, /
    ) -> RoundTrips[bool | Orphan]: ...
    def orphans(self, limit: int, /) -> RoundTrips[list[Orphan]]: ...
    def adopted(self, cursor: Cursor, lost: int, /) -> RoundTrips[Orphan | None]: ...


class Reads(Protocol[Namespace]):
    """The calls that read. A namespace is the part of the server that has the store's data."""

    def open_cursor(
        self,
        namespace: Namespace,
        thread_id: str,
        after: str | None,
        owner: str | None,
        room: int,
        /,
    ) -> RoundTrips[tuple[Cursor, Batch | None]]:
        """Return the place where a reader begins, and its first page of at most ``room`` bytes.

        The page is None if it would take another round trip.
        """
        ...

    def history_cursor(
        self, namespace: Namespace, thread_id: str, owner: str | None, /
    ) -> RoundTrips[Cursor]: ...
    def read(
        self, namespace: Namespace, cursor: Cursor, max_bytes: int, pages: int = 1, /
    ) -> RoundTrips[Found]: ...
    def text(
        self, namespace: Namespace, thread_id: str, kind: str, owner: str | None, /
    ) -> RoundTrips[bytes | None]: ...
    def list_threads(
        self, namespace: Namespace, query: ThreadQuery, /
    ) -> RoundTrips[ThreadPage]: ...
    def owner_of(
        self, namespace: Namespace, thread_id: str, /
    ) -> RoundTrips[ThreadOwner | None]: ...
    def threads_of_all(
        self, namespace: Namespace, cursor: str | None, limit: int, /
    ) -> RoundTrips[OwnedThreads]: ...
    def bytes_of(self, namespace: Namespace, owner: str, /) -> RoundTrips[int]: ...


class Changes(Protocol[Namespace, R_contra]):
    """The calls that change threads."""

    def update(
        self, namespace: Namespace, thread_id: str, changes: Mapping[str, Any], owner: str | None, /
    ) -> RoundTrips[ThreadRecord | None]: ...
    def claim(self, namespace: Namespace, thread_id: str, owner: str, /) -> RoundTrips[bool]: ...
    def delete(self, runs: R_contra, thread_id: str, owner: str | None, /) -> RoundTrips[bool]: ...
    def clear(self, runs: R_contra, owner: str | None, /) -> RoundTrips[None]: ...


class Subscriber(Protocol):
    """Receives the notifications of the server in an operating system thread of its own."""

    def wake(self) -> None:
        """Look now which runs are followed."""
        ...

    def close(self, seconds: float) -> bool:
        """End; returns whether the operating system thread has ended in time."""
        ...


class RemoteEngine(Engine, Generic[P, R]):
    """A process's part of a server.

    :ivar namespace: the part of the server that has the store's data: a schema or a prefix.
    :ivar pipelines: the connections; the first one writes, and the last one reads.
    """

    namespace: P
    runs: R
    reads: Reads[P]
    changes: Changes[P, R]
    pipelines: tuple[PipelineThread, ...]
    subscriber: Subscriber

    def write(self, work: RoundTrips[T]) -> Future[T]:
        """Have round trips made that change the store."""
        return self.pipelines[0].submit(work)

    def read(self, work: RoundTrips[T]) -> Future[T]:
        """Have round trips made that change nothing, or whose changes nobody waits for."""
        return self.pipelines[-1].submit(work)

    def _followed(self) -> None:
        self.subscriber.wake()

    def close(self) -> bool:
        """End the operating system threads; returns whether they have ended in time."""
        ended = self.subscriber.close(_CLOSE_SECONDS)
        for pipeline in reversed(self.pipelines):
            ended = pipeline.close(_CLOSE_SECONDS) and ended
        return ended


def _seconds(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 15:
        raise ValueError(f"{attribute.name} must be 1 to 15 seconds, got {value!r}")


@attrs.define(eq=False, on_setattr=attrs.setters.frozen)
class RemoteStore(DurableStore[E]):
    """The base of the stores whose data are in a server."""

    lease: float = attrs.field(default=15.0, kw_only=True, validator=_seconds)

    @property
    def shown(self) -> str:
        """The store as errors name it, without a password."""
        raise NotImplementedError

    # Its life

    def close(self) -> None:
        """Finish what was begun, and end the connections. A later call makes new ones."""
        engine = self._engines.take()
        if engine is not None and not engine.close():
            logger.warning("%s: left operating system threads that do not end", self.shown)

    # Runs

    def open_run(self, request: RunRequest) -> Future[Opened]:
        engine = self.engine()
        return engine.write(engine.runs.open(request))

    def append(
        self, key: RunKey, at: int, frames: bytes, result: RunResult | None = None
    ) -> Future[Signal]:
        engine = self.engine()
        return engine.write(engine.runs.append(key, at, frames, result))

    def close_run(
        self, key: RunKey, at: int, frames: bytes, result: RunResult | None
    ) -> Future[bool]:
        engine = self.engine()
        closing = engine.write(engine.runs.close(key, at, frames, result))

        def closed(done: Future[bool]) -> None:
            # The owner may have lost its run, and then only the server can tell how the run ended.
            if done.cancelled() or done.exception() is not None:
                engine.tails.disown(engine.own_name(key))

        closing.add_done_callback(closed)
        return closing

    def renew(self, key: RunKey) -> Future[Signal]:
        engine = self.engine()
        return engine.write(engine.runs.renew(key))

    def request_stop(
        self, thread_id: str, run_id: str | None, owner: str | None = None
    ) -> Future[bool | Orphan]:
        engine = self.engine()
        return engine.write(engine.runs.stop(thread_id, run_id, owner))

    def orphans(self, limit: int) -> Future[list[Orphan]]:
        engine = self.engine()
        return engine.write(engine.runs.orphans(limit))

    # Readers

    def open_cursor(
        self, thread_id: str, after: str | None, owner: str | None = None
    ) -> Future[Cursor]:
        engine = self.engine()
        return engine.read(self._open(engine, thread_id, after, owner))

    def _open(
        self, engine: E, thread_id: str, after: str | None, owner: str | None
    ) -> RoundTrips[Cursor]:
        """Find the place where a reader begins, and read its first page, for which it asks next."""
        reads, namespace, room = engine.reads, engine.namespace, engine.ahead.room()
        cursor, page = yield from reads.open_cursor(namespace, thread_id, after, owner, room)
        if page is not None:
            engine.ahead.begin(cursor, (page,))
        elif room and (cursor.part or 0) > 0:
            found = yield from reads.read(namespace, cursor, room)
            if isinstance(found.batch, Batch) and found.lost is None:
                engine.ahead.begin(cursor, (found.batch, *found.ahead))
        return cursor

    def _read(
        self, engine: E, cursor: Cursor, max_bytes: int, pages: int
    ) -> Future[Batch | LogGone]:
        def trips() -> RoundTrips[Batch | LogGone]:
            found = yield from engine.reads.read(engine.namespace, cursor, max_bytes, pages)
            batch = found.batch
            if isinstance(batch, LogGone):
                return batch
            if found.lost is None:
                return engine.ahead.keep((batch, *found.ahead), pages)
            engine.tails.found(engine.name_of(cursor, found.lost))
            orphan = yield from engine.runs.adopted(cursor, found.lost)
            return Batch(batch.data, batch.cursor, batch.ended, orphan)

        return engine.read(trips())

    # Threads

    def list_threads(self, query: ThreadQuery = EVERY_THREAD) -> Future[ThreadPage]:
        engine = self.engine()
        return engine.read(engine.reads.list_threads(engine.namespace, query))

    def read_history(
        self, thread_id: str, kind: Kind, cursor: Any, max_bytes: int, owner: str | None = None
    ) -> Batch | Future[Batch | LogGone]:
        if isinstance(cursor, Whole):
            return cursor.page(max_bytes)
        engine = self.engine()
        reads, namespace = engine.reads, engine.namespace

        def trips() -> RoundTrips[Batch | LogGone]:
            if kind == "frames":
                begin = cursor
                if begin is None:
                    begin = yield from reads.history_cursor(namespace, thread_id, owner)
                found = yield from reads.read(namespace, begin, max_bytes)
                return found.batch
            whole = yield from reads.text(namespace, thread_id, kind, owner)
            return Whole(whole or (b"" if kind == "state" else b"[]")).page(max_bytes)

        return engine.read(trips())

    def update_thread(
        self, thread_id: str, changes: Mapping[str, Any], owner: str | None = None
    ) -> Future[ThreadRecord | None]:
        engine = self.engine()
        return engine.write(engine.changes.update(engine.namespace, thread_id, changes, owner))

    def delete_thread(self, thread_id: str, owner: str | None = None) -> Future[bool]:
        engine = self.engine()
        return self._deleting(engine, engine.changes.delete(engine.runs, thread_id, owner))

    def clear(self, owner: str | None = None) -> Future[None]:
        engine = self.engine()
        return self._deleting(engine, engine.changes.clear(engine.runs, owner))

    def owner_of(self, thread_id: str) -> Future[ThreadOwner | None]:
        engine = self.engine()
        return engine.read(engine.reads.owner_of(engine.namespace, thread_id))

    def threads_of_all(self, cursor: str | None, limit: int) -> Future[OwnedThreads]:
        engine = self.engine()
        return engine.read(engine.reads.threads_of_all(engine.namespace, cursor, limit))

    def claim_thread(self, thread_id: str, owner: str) -> Future[bool]:
        engine = self.engine()
        return engine.write(engine.changes.claim(engine.namespace, thread_id, owner))

    def bytes_of(self, owner: str) -> Future[int]:
        engine = self.engine()
        return engine.read(engine.reads.bytes_of(engine.namespace, owner))
