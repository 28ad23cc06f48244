"""The operating system thread that writes, and its transactions, which commit many runs' calls."""

from __future__ import annotations

import logging
import queue
import sqlite3
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import attrs

from sansio_copilot import StoreUnavailable

from ..os_threads import begin_os_thread
from .connection import Busy, ConnectionJob
from .errors import translated

logger = logging.getLogger(__name__)

T = TypeVar("T")

_MOST_AT_ONCE = 512


@attrs.define(eq=False)
class Transaction:
    """A transaction that commits the calls of many runs together.

    :ivar sizes: the new sizes of the logs that it has changed.
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
        """Call the functions for a transaction of which nothing is in the file."""
        for function in reversed(self._otherwise):
            function()

    def committed(self) -> None:
        """Call the functions for a transaction that is in the file."""
        for function in self._then:
            try:
                function()
            except Exception:
                logger.exception("a notification failed")


class Writer:
    """The one operating system thread that writes. It commits all calls that wait in one
    transaction.

    A commit costs about the same for one append as for a hundred. So the calls that come during a
    commit go into the next one, and the busier a store is, the less each append costs.

    :param path: the file, for errors.
    :param db: its connection.
    :param look: called between two transactions; returns the seconds after which to call it again,
        None for not before the next transaction.
    :raises StoreUnavailable: if no further operating system thread begins now.
    """

    def __init__(self, path: str, db: sqlite3.Connection, look: Callable[[], float | None]) -> None:
        self._path = path
        self._db = db
        self._look = look
        self._busy = Busy()
        self._jobs: queue.SimpleQueue[ConnectionJob | None] = queue.SimpleQueue()
        self._thread = begin_os_thread("copilot-sqlite", self._live)

    def submit(self, work: Callable[[Transaction], T]) -> Future[T]:
        """Do ``work`` in a transaction; returns a future that is done when it is committed.

        If ``work`` raises an exception of its own, it must not have changed anything before.
        """
        future: Future[T] = Future()
        self._jobs.put(ConnectionJob(work, future))
        return future

    def wake(self) -> None:
        """Make the thread call ``look`` now."""
        self._jobs.put(ConnectionJob(lambda tx: None, Future()))

    def close(self, seconds: float) -> bool:
        """Do the work that was submitted, then end; returns whether it has ended in time."""
        self._jobs.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _live(self) -> None:
        pause: float | None = None
        ended = False
        while not ended:
            jobs: list[ConnectionJob] = []
            job: ConnectionJob | None = None
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
            # The operating system thread forgets its jobs before it waits, so that nothing of them
            # is kept meanwhile.
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

    def _commit(self, jobs: list[ConnectionJob]) -> None:
        if not jobs:
            return
        tx = Transaction(self._db)
        done: list[tuple[ConnectionJob, Any, Exception | None]] = []
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
                # Each job is committed alone now, because a job that fails must not fail the
                # others.
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
