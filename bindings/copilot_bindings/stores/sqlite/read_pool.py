"""The operating system threads that read from the file."""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from sansio_copilot import StoreUnavailable

from ..os_threads import begin_os_thread
from .connection import Busy, ConnectionJob, Synchronous, connect
from .errors import translated

T = TypeVar("T")


class ReadPool:
    """A few operating system threads that read, each with a connection of its own.

    :param path: the file.
    :param size: the number of threads.
    """

    def __init__(self, path: str, synchronous: Synchronous, size: int) -> None:
        self._path = path
        self._synchronous: Synchronous = synchronous
        self._size = size
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[ConnectionJob | None] = queue.SimpleQueue()
        self._threads: deque[threading.Thread] = deque()
        self._waiting = 0

    def submit(self, work: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """Have ``work`` done in a read transaction.

        :raises StoreUnavailable: if there is no operating system thread yet, and none begins now.
        """
        future: Future[T] = Future()
        with self._lock:
            if self._waiting <= 0 and len(self._threads) < self._size:
                try:
                    self._threads.append(begin_os_thread("copilot-sqlite-reader", self._live))
                except StoreUnavailable:
                    # The operating system threads that exist do the work when they have finished
                    # their present one.
                    if not self._threads:
                        raise
            self._waiting -= 1
        self._jobs.put(ConnectionJob(work, future))
        return future

    def close(self, seconds: float) -> bool:
        """Do the work that was submitted, then end; returns whether all threads have ended in
        time."""
        until = time.monotonic() + seconds
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join(max(until - time.monotonic(), 0))
        return not any(thread.is_alive() for thread in self._threads)

    def _live(self) -> None:
        db: sqlite3.Connection | None = None
        busy = Busy()
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
