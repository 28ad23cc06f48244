"""Connections to the file, and the threads that have them."""

from __future__ import annotations

import logging
import os
import queue
import sqlite3
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Literal, TypeVar

import attrs

from sansio_copilot import StoreUnavailable

from ..errors import StoreError
from .errors import named, translated

logger = logging.getLogger(__name__)

T = TypeVar("T")
Synchronous = Literal["normal", "full"]

_BUSY_SECONDS = 5.0
_MOST_AT_ONCE = 512
_CHECKPOINT_PAGES = 2000


class _Busy:
    """Whether a thread is inside SQLite, where a fork must not find it.

    The library has locks for the whole process. A fork copies them as they are, and not the thread
    that would let go of them. So a fork waits until no thread of a store is there.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _all_busy.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()


_all_busy: weakref.WeakSet[_Busy] = weakref.WeakSet()
_held_busy: list[_Busy] = []


def _before_fork() -> None:
    for busy in list(_all_busy):
        busy.__enter__()
        _held_busy.append(busy)


def _after_fork() -> None:
    while _held_busy:
        _held_busy.pop().__exit__()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork
    )


def connect(path: str, synchronous: Synchronous, *, reads: bool = False) -> sqlite3.Connection:
    """A connection to the file, with the settings that this store needs.

    :param reads: whether it may only read.
    :raises sqlite3.Error: if there is none to be had.
    """
    db = sqlite3.connect(
        path,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    try:
        db.execute(f"PRAGMA synchronous = {synchronous}")
        db.execute("PRAGMA temp_store = memory")
        if reads:
            db.execute("PRAGMA query_only = 1")
        else:
            db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            db.execute("PRAGMA cache_size = -16000")
    except BaseException:
        db.close()
        raise
    return db


def prepare(path: str, synchronous: Synchronous) -> sqlite3.Connection:
    """The first connection to the file, which is made if there is none.

    :raises StoreError: if it cannot be used.
    :raises StoreUnavailable: if it cannot be used for now.
    """
    directory = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(directory):
        raise StoreError(named(path), f"there is no directory {directory!r}")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise StoreError(named(path), f"its directory {directory!r} cannot be written")
    try:
        db = connect(path, synchronous)
    except sqlite3.Error as error:
        raise translated(path, error) from error
    try:
        mode = db.execute("PRAGMA journal_mode = wal").fetchone()[0]
        if mode != "wal":
            raise StoreError(
                named(path), f"it cannot have a write-ahead log (journal mode {mode!r})"
            )
    except sqlite3.Error as error:
        db.close()
        raise translated(path, error) from error
    except BaseException:
        db.close()
        raise
    return db


@attrs.define(eq=False)
class Transaction:
    """What is committed together: the calls of many runs.

    :ivar sizes: of the logs that it has changed.
    """

    db: sqlite3.Connection
    sizes: dict[int, int] = attrs.field(factory=dict)
    _then: list[Callable[[], object]] = attrs.field(factory=list)
    _otherwise: list[Callable[[], object]] = attrs.field(factory=list)

    def then(self, function: Callable[[], object]) -> None:
        """Call ``function`` when it is committed, and before anybody is told."""
        self._then.append(function)

    def otherwise(self, function: Callable[[], object]) -> None:
        """Call ``function`` if it is not committed."""
        self._otherwise.append(function)

    def rolled_back(self) -> None:
        """Nothing of it is in the file."""
        for function in reversed(self._otherwise):
            function()

    def committed(self) -> None:
        """It is in the file."""
        for function in self._then:
            try:
                function()
            except Exception:
                logger.exception("a notification failed")


@attrs.frozen(eq=False)
class _Job:
    work: Callable[[Any], Any]
    future: Future[Any]


class Writer:
    """The one thread that writes, and commits what waits for it in one transaction.

    A commit costs about the same for one append as for a hundred. So whatever comes while one is
    being written goes into the next, and the busier a store is, the less each append costs.

    :param path: the file, for errors.
    :param db: its connection.
    :param look: called between two transactions; returns the seconds after which to call it again,
        None for not before the next transaction.
    """

    def __init__(self, path: str, db: sqlite3.Connection, look: Callable[[], float | None]) -> None:
        self._path = path
        self._db = db
        self._look = look
        self._busy = _Busy()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._live, name="copilot-sqlite", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[Transaction], T]) -> Future[T]:
        """Have ``work`` done in a transaction; done when that is committed.

        What raises an exception of its own must have changed nothing before.
        """
        future: Future[T] = Future()
        self._jobs.put(_Job(work, future))
        return future

    def wake(self) -> None:
        """Have it look now."""
        self._jobs.put(_Job(lambda tx: None, Future()))

    def close(self, seconds: float) -> bool:
        """Do what was submitted, then end; returns whether it has ended in time."""
        self._jobs.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _live(self) -> None:
        pause: float | None = None
        ended = False
        while not ended:
            jobs: list[_Job] = []
            job: _Job | None = None
            try:
                job = self._jobs.get(timeout=pause)
                while job is not None:
                    jobs.append(job)
                    if len(jobs) >= _MOST_AT_ONCE:
                        break
                    job = self._jobs.get_nowait()
                ended = job is None
            except queue.Empty:
                pass
            self._commit([job for job in jobs if job.future.set_running_or_notify_cancel()])
            # Nothing of what was done is kept while nothing is to be done.
            del jobs, job
            pause = self._looked()
        self._db.close()

    def _looked(self) -> float | None:
        try:
            with self._busy:
                return self._look()
        except sqlite3.Error as error:
            logger.warning("%s", translated(self._path, error))
        except Exception:
            logger.exception("SQLiteStore(%r) could not look for news", self._path)
        return 1.0

    def _commit(self, jobs: list[_Job]) -> None:
        if not jobs:
            return
        tx = Transaction(self._db)
        done: list[tuple[_Job, Any, Exception | None]] = []
        try:
            with self._busy:
                self._db.execute("BEGIN IMMEDIATE")
                for job in jobs:
                    try:
                        done.append((job, job.work(tx), None))
                    except sqlite3.Error:
                        raise
                    except Exception as error:
                        done.append((job, None, error))
                self._db.execute("COMMIT")
        except BaseException as error:
            with self._busy:
                self._roll_back()
            tx.rolled_back()
            failed = translated(self._path, error) if isinstance(error, sqlite3.Error) else error
            if len(jobs) > 1 and not isinstance(failed, StoreUnavailable):
                # Each job is committed alone now, because one that fails must not fail the others.
                for job in jobs:
                    self._commit([job])
            else:
                for job in jobs:
                    job.future.set_exception(failed)
            return
        tx.committed()
        for job, outcome, failure in done:
            if failure is None:
                job.future.set_result(outcome)
            else:
                job.future.set_exception(failure)

    def _roll_back(self) -> None:
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error as error:
            logger.error("%s", translated(self._path, error))


class Readers:
    """A few threads that read, each with a connection of its own.

    :param path: the file.
    :param size: how many.
    """

    def __init__(self, path: str, synchronous: Synchronous, size: int) -> None:
        self._path = path
        self._synchronous: Synchronous = synchronous
        self._size = size
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads: deque[threading.Thread] = deque()
        self._waiting = 0

    def submit(self, work: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """Have ``work`` done in a read transaction."""
        future: Future[T] = Future()
        with self._lock:
            if self._waiting <= 0 and len(self._threads) < self._size:
                thread = threading.Thread(
                    target=self._live, name="copilot-sqlite-reader", daemon=True
                )
                thread.start()
                self._threads.append(thread)
            self._waiting -= 1
        self._jobs.put(_Job(work, future))
        return future

    def close(self, seconds: float) -> bool:
        """Do what was submitted, then end; returns whether all have ended in time."""
        until = time.monotonic() + seconds
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join(max(until - time.monotonic(), 0))
        return not any(thread.is_alive() for thread in self._threads)

    def _live(self) -> None:
        db: sqlite3.Connection | None = None
        busy = _Busy()
        while True:
            with self._lock:
                self._waiting += 1
            job = self._jobs.get()
            if job is None:
                break
            if job.future.set_running_or_notify_cancel():
                try:
                    with busy:
                        if db is None:
                            db = connect(self._path, self._synchronous, reads=True)
                        outcome = self._read(db, job.work)
                    job.future.set_result(outcome)
                    del outcome
                except sqlite3.Error as error:
                    job.future.set_exception(translated(self._path, error))
                except BaseException as error:
                    job.future.set_exception(error)
            del job
        if db is not None:
            db.close()

    def _read(self, db: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
        db.execute("BEGIN")
        try:
            return work(db)
        finally:
            db.execute("COMMIT")
