"""Connections to the file, and the locks that keep a fork out of SQLite."""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Literal, TypeVar

import attrs

from ..errors import StoreError
from .errors import named, translated

T = TypeVar("T")
Synchronous = Literal["normal", "full"]

BUSY_SECONDS = 5.0
"""The seconds for which a statement waits while another process has the file locked."""
_CHECKPOINT_PAGES = 2000


class Busy:
    """The lock of an operating system thread that is inside SQLite, so that the process does not
    fork meanwhile.

    SQLite has locks for the whole process. A fork copies the locks as they are, but not the
    operating system thread that would release them. So a fork waits until no such thread of a store
    is inside SQLite.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _all_busy.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()


_all_busy: weakref.WeakSet[Busy] = weakref.WeakSet()
_held_busy: list[Busy] = []


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
    """Return a connection to the file, with the settings that this store needs.

    :param reads: whether it may only read.
    :raises sqlite3.Error: if there is no connection to be had.
    """
    db = sqlite3.connect(
        path,
        timeout=BUSY_SECONDS,
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
    """Return the first connection to the file, which is made if there is no file.

    :raises StoreError: if the file cannot be used.
    :raises StoreUnavailable: if the file cannot be used for now.
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


@attrs.frozen(eq=False)
class ConnectionJob:
    """A function to be called by an operating system thread that has a connection, and its
    future."""

    work: Callable[[Any], Any]
    future: Future[Any]
