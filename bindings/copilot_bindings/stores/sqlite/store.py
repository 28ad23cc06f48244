"""SQLiteStore: threads in one file, for the processes of one machine.

A file has the threads, runs and frames of all processes that use it. Each process has one operating
system thread that writes (:class:`.writer.Writer`), a few that read, and the tails of the runs that
are followed in it (:mod:`..tails`). A call that needs only memory returns at once; any other call
returns a future, which is done when its transaction is committed, or when the file was read.

Four rules make it right:

- **Readers and owners are told only of commits.** Readers are woken, owners signalled and futures
  done by the functions that a transaction hands to :meth:`.Transaction.then`.
- **The file says who owns a run**, and each append looks there, in its own transaction. So a run
  that another process has sealed, stopped or taken over is never written to by its former owner.
- **A lock says whether an owner lives** (:mod:`.liveness`). The operating system keeps the lock,
  and no lease has to run out.
- **Large data are removed little by little.** A thread that is deleted is dead at once, and its
  rows are removed in steps that no append waits for.

A connection is never used in a fork of the process that has opened it: a process finds out by its
id (:meth:`SQLiteStore.engine`), and begins anew.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

import attrs
from msgspec import structs

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

from ..cursors import Cursor, Whole
from ..durable import DurableStore
from . import history, listing, reads, threads
from .connection import Synchronous
from .engine import Engine
from .errors import named
from .other_processes import renewed
from .writer import Transaction


def _seconds(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 15:
        raise ValueError(f"{attribute.name} must be a number of seconds up to 15, got {value!r}")


def _path(value: str | os.PathLike[str]) -> str:
    path = os.fspath(value)
    if not isinstance(path, str) or not path or path == ":memory:" or path.startswith("file:"):
        raise ValueError(f"SQLiteStore needs the path of a file, not {path!r}; see MemoryStore")
    # The path is made absolute, because a process may change its directory.
    return os.path.abspath(path)


@attrs.define(eq=False, on_setattr=attrs.setters.frozen)
class SQLiteStore(DurableStore[Engine]):
    """Threads in a file. They outlive the processes that use it; several processes of one machine
    may.

    The file is made if there is none. Beside it are its log (``-wal``, ``-shm``) and a file for
    each process (``-owner-1``); all must be on a disk of this machine, not on one of the network.

    :param path: the file.
    :param synchronous: "normal": frames that were sent survive the end of a process, at any moment
        and in any way. "full": they also survive the end of the machine, as by a power failure, for
        an ``fsync`` each time.
    :param on_concurrent_run: what a second run on a busy thread does; see
        :class:`~sansio_copilot.MemoryStore`.
    :param retention: what is kept, and for how long; by default everything.
    :param lease: where the system has no locks that tell (Windows), the seconds after which a
        process that has not been heard of is taken for dead; at most 15.
    :raises ValueError: for an argument that makes no sense.
    """

    path: str = attrs.field(converter=_path)
    synchronous: Synchronous = attrs.field(
        default="normal", kw_only=True, validator=attrs.validators.in_(("normal", "full"))
    )
    lease: float = attrs.field(default=15.0, kw_only=True, validator=_seconds)

    @property
    def shown(self) -> str:
        """The store as errors name it."""
        return named(self.path)

    # Its life

    def open(self) -> None:
        """Open the file, and bring it to the version of this release.

        :raises StoreError: if it cannot be used.
        :raises StoreUnavailable: if it cannot be used for now.
        """
        self.engine()

    def close(self) -> None:
        """Finish the calls that were begun, and close the file. A later call opens it again."""
        engine = self._engines.take()
        if engine is None:
            return
        engine.close()

    def check(self) -> Future[None]:
        """Write something, and so find out whether the store can be used.

        :raises StoreUnavailable: if it cannot be used for now.
        """

        def write(tx: Transaction) -> None:
            tx.db.execute("UPDATE process SET seen_at = ? WHERE id = 0", (time.time(),))

        return self.engine().write(write)

    def _begin(self) -> Engine:
        supersedes = self.on_concurrent_run == "supersede"
        return Engine(
            *(self.path, self.synchronous, self.retention, self.lease, self._evictions),
            supersedes=supersedes,
        )

    # Runs

    def open_run(self, request: RunRequest) -> Future[Opened]:
        engine = self.engine()
        return engine.write(lambda tx: engine.runs.open(tx, request))

    def append(
        self, key: RunKey, at: int, frames: bytes, result: RunResult | None = None
    ) -> Future[Signal]:
        engine = self.engine()
        return engine.write(lambda tx: engine.runs.append(tx, key, at, frames, result))

    def close_run(
        self, key: RunKey, at: int, frames: bytes, result: RunResult | None
    ) -> Future[bool]:
        engine = self.engine()
        return engine.write(lambda tx: engine.runs.close(tx, key, at, frames, result))

    def renew(self, key: RunKey) -> Future[Signal]:
        engine = self.engine()

        def renew(tx: Transaction) -> Signal:
            renewed(engine.runs, tx)
            return engine.runs.renew(tx, key)

        return engine.write(renew)

    def request_stop(
        self, thread_id: str, run_id: str | None, owner: str | None = None
    ) -> Future[bool | Orphan]:
        engine = self.engine()
        return engine.write(lambda tx: engine.runs.stop(tx, thread_id, run_id, owner))

    def orphans(self, limit: int) -> Future[list[Orphan]]:
        engine = self.engine()
        return engine.write(lambda tx: engine.runs.orphans(tx, limit))

    # Readers

    def open_cursor(
        self, thread_id: str, after: str | None, owner: str | None = None
    ) -> Future[Cursor]:
        return self.engine().read(lambda db: reads.open_cursor(db, thread_id, after, owner))

    def _read(
        self, engine: Engine, cursor: Cursor, max_bytes: int, pages: int
    ) -> Future[Batch | LogGone]:
        """Read from the file; a run whose owner has died is handed out with the frames read."""
        done: Future[Batch | LogGone] = Future()

        def read(db: sqlite3.Connection) -> tuple[Batch | LogGone, int | None]:
            found = reads.read_pages(db, cursor, max_bytes, pages)
            blocked = found.blocked
            if isinstance(found.batch, Batch) and blocked is None:
                return engine.ahead.keep((found.batch, *found.ahead), pages), None
            if blocked is None or engine.runs.process.is_alive(blocked.process, db):
                return found.batch, None
            return found.batch, blocked.run

        def was_read(outcome: Future[tuple[Batch | LogGone, int | None]]) -> None:
            if (error := outcome.exception()) is not None:
                done.set_exception(error)
                return
            batch, lost = outcome.result()
            if lost is None or isinstance(batch, LogGone):
                done.set_result(batch)
                return
            engine.tails.found(lost)
            claim = engine.write(lambda tx: engine.runs.claim(tx, lost))
            claim.add_done_callback(lambda claimed: was_claimed(batch, claimed))

        def was_claimed(batch: Batch, outcome: Future[Orphan | None]) -> None:
            if (error := outcome.exception()) is not None:
                done.set_exception(error)
            else:
                done.set_result(structs.replace(batch, orphan=outcome.result()))

        # The future cannot be cancelled, because the caller may only give up the call as a whole.
        done.set_running_or_notify_cancel()
        engine.read(read).add_done_callback(was_read)
        return done

    # Threads

    def list_threads(self, query: ThreadQuery = EVERY_THREAD) -> Future[ThreadPage]:
        return self.engine().read(lambda db: listing.list_threads(db, query))

    def read_history(
        self, thread_id: str, kind: Kind, cursor: Any, max_bytes: int, owner: str | None = None
    ) -> Batch | Future[Batch | LogGone]:
        if isinstance(cursor, Whole):
            return cursor.page(max_bytes)

        def read(db: sqlite3.Connection) -> Batch | LogGone:
            if kind == "frames":
                place = cursor or reads.history_cursor(db, thread_id, owner)
                return reads.read(db, place, max_bytes).batch
            thread = reads.thread_of(db, thread_id, owner)
            if kind == "state":
                whole = b"" if thread is None else history.state_of(db, thread)
            else:
                whole = b"[]" if thread is None else history.messages_of(db, thread)
            return Whole(whole).page(max_bytes)

        return self.engine().read(read)

    def update_thread(
        self, thread_id: str, changes: Mapping[str, Any], owner: str | None = None
    ) -> Future[ThreadRecord | None]:
        return self.engine().write(lambda tx: threads.update(tx, thread_id, changes, owner))

    def delete_thread(self, thread_id: str, owner: str | None = None) -> Future[bool]:
        engine = self.engine()
        return self._deleting(engine, lambda tx: threads.delete(tx, engine.runs, thread_id, owner))

    def clear(self, owner: str | None = None) -> Future[None]:
        return self._deleting(self.engine(), lambda tx: threads.clear(tx, owner))

    def owner_of(self, thread_id: str) -> Future[ThreadOwner | None]:
        return self.engine().read(lambda db: reads.owner_of(db, thread_id))

    def threads_of_all(self, cursor: str | None, limit: int) -> Future[OwnedThreads]:
        return self.engine().read(lambda db: listing.threads_of_all(db, cursor, limit))

    def claim_thread(self, thread_id: str, owner: str) -> Future[bool]:
        return self.engine().write(lambda tx: threads.claim(tx, thread_id, owner))

    def bytes_of(self, owner: str) -> Future[int]:
        return self.engine().read(lambda db: reads.bytes_of(db, owner))
