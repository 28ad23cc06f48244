"""The processes that use one file, and whether each of them still lives.

A process takes a number, and for as long as it lives a lock on a file of its own beside the
database (``threads.db-owner-17``). The operating system releases the lock at the moment at which
the process ends, for whatever reason. So a process that finds a run of process 17 tries that lock,
and knows at once whether the owner lives.

A lock of ``flock`` belongs to an open file and not to a process, so that several stores of one
process may use one database. A fork closes its copy (:func:`os.register_at_fork`), and so does not
keep the lock. Where there is no ``flock`` (Windows), a process writes down from time to time that
it lives, and counts as dead when it has not done so for the seconds of a lease.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
import weakref
from types import ModuleType

from .schema import NOBODY

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:
    fcntl = None

_held: weakref.WeakSet[Process] = weakref.WeakSet()


class Process:
    """This process among those that use a file.

    :param path: the database.
    :param lease: the seconds of a lease, where there are no locks.
    """

    def __init__(self, path: str, lease: float) -> None:
        self._path = path
        self._lease = lease
        self._file: int | None = None
        self.number = NOBODY
        self._seen_at = 0.0

    def begin(self, db: sqlite3.Connection) -> None:
        """Take a number, and the lock that goes with it."""
        # The transaction covers both steps, so that no other process sees the number before there
        # is a lock.
        db.execute("BEGIN IMMEDIATE")
        try:
            now = time.time()
            number = db.execute("INSERT INTO process (seen_at) VALUES (?)", (now,)).lastrowid
            assert number is not None
            self.number, self._seen_at = number, now
            if fcntl is not None:
                self._file = os.open(self._name(number), os.O_RDWR | os.O_CREAT, 0o600)
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _held.add(self)
            db.execute("COMMIT")
        except BaseException:
            self.forget()
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

    def end(self) -> None:
        """Release the lock."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._name(self.number))
            self.forget()

    def forget(self) -> None:
        """Close the file of the lock. If this process is a fork, its parent still has the lock."""
        file, self._file = self._file, None
        if file is not None:
            _held.discard(self)
            with contextlib.suppress(OSError):
                os.close(file)

    def is_alive(self, number: int | None, db: sqlite3.Connection) -> bool:
        """Whether the process of that number lives."""
        if not number:
            return False
        if number == self.number:
            return True
        if fcntl is None:
            row = db.execute("SELECT seen_at FROM process WHERE id = ?", (number,)).fetchone()
            return row is not None and time.time() < row[0] + self._lease
        try:
            file = os.open(self._name(number), os.O_RDWR)
        except FileNotFoundError:
            return False
        except OSError:
            # The process counts as alive, because it cannot be asked, perhaps for lack of file
            # descriptors.
            return True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(file)
        return False

    def bury(self, number: int, db: sqlite3.Connection) -> None:
        """Forget a process that has died, and owns no run any more."""
        db.execute("DELETE FROM process WHERE id = ?", (number,))
        with contextlib.suppress(OSError):
            os.unlink(self._name(number))

    def must_be_seen(self) -> bool:
        """Whether it is time for this process to write down that it lives."""
        return fcntl is None and time.time() >= self._seen_at + self._lease / 3

    def is_seen(self, db: sqlite3.Connection) -> None:
        """Write down that this process lives."""
        self._seen_at = time.time()
        db.execute("UPDATE process SET seen_at = ? WHERE id = ?", (self._seen_at, self.number))

    def _name(self, number: int) -> str:
        return f"{self._path}-owner-{number}"


def _forget_all() -> None:
    for process in list(_held):
        process.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
