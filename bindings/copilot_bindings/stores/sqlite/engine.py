"""A process's part of a SQLite file: its connections, operating system threads, tails and lock."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from .. import durable
from ..errors import StoreError
from ..retention import Evictions, Retention
from . import history
from .connection import Synchronous, prepare
from .errors import named, translated
from .liveness import Process
from .other_processes import News, renewed
from .read_pool import ReadPool
from .runs import Runs
from .schema import migrate
from .writer import Transaction, Writer

logger = logging.getLogger(__name__)

T = TypeVar("T")

_CLOSE_SECONDS = 5.0
_READERS = 4


class Engine(durable.Engine):
    """A process's part of a file.

    :param path: the file; it is made if there is none.
    :param synchronous: see :class:`~.store.SQLiteStore`, as for ``retention`` and ``lease``.
    :param supersedes: whether a second run on a busy thread ends the first.
    :param evictions: counts the threads that are let go.
    :raises StoreError: if the file cannot be used.
    :raises StoreUnavailable: if it cannot be used for now.
    """

    def __init__(
        self,
        path: str,
        synchronous: Synchronous,
        retention: Retention,
        lease: float,
        evictions: Evictions,
        *,
        supersedes: bool,
    ) -> None:
        self.path = path
        with contextlib.ExitStack() as begun:
            db = prepare(path, synchronous)
            begun.callback(db.close)
            process = Process(path, lease)
            try:
                migrate(db, path)
                process.begin(db)
            except sqlite3.Error as error:
                raise translated(path, error) from error
            except OSError as error:
                raise StoreError(named(path), f"no lock can be had beside it: {error}") from error
            begun.callback(process.end)
            super().__init__(evictions)
            self.runs = Runs(process, self.owned, self.tails, retention, supersedes, lease)
            self.news = News(db, self.runs)
            self.read_pool = ReadPool(path, synchronous, _READERS)
            self.writer = Writer(path, db, self._look)
            # The stack is emptied, because the engine is complete: from here on its close() gives
            # back the connection and the lock of the process.
            begun.pop_all()

    def write(self, work: Callable[[Transaction], T]) -> Future[T]:
        return self.writer.submit(work)

    def read(self, work: Callable[[sqlite3.Connection], T]) -> Future[T]:
        return self.read_pool.submit(work)

    def tidy(self) -> Future[bool]:
        """Do a step of the tidying; see :func:`.history.tidy`."""

        def step(tx: Transaction) -> bool:
            renewed(self.runs, tx)
            return history.tidy(tx, self.runs.retention, self._evictions)

        return self.write(step)

    def _followed(self) -> None:
        self.news.ask()
        self.writer.wake()

    def _look(self) -> float:
        until = self._tidying.look()
        pause = self.news.look()
        return until if pause is None else min(pause, until)

    def close(self) -> None:
        """End the operating system threads, and let go of the lock."""
        number = self.runs.process.number
        self.write(lambda tx: self.runs.process.bury(number, tx.db))
        ended = self.writer.close(_CLOSE_SECONDS)
        ended = self.read_pool.close(_CLOSE_SECONDS) and ended
        self.runs.process.end()
        if not ended:
            logger.warning(
                "SQLiteStore(%r): left operating system threads that do not end", self.path
            )
