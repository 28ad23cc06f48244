"""The errors of a SQLite file, in words that name the store."""

from __future__ import annotations

import sqlite3

from sansio_copilot import StoreUnavailable

from ..errors import StoreError


def named(path: str) -> str:
    """The store of a file as errors name it."""
    return f"SQLiteStore({path!r})"


# These errors pass: other processes write, the disk is full until somebody makes room, memory or
# descriptors are short. Some file systems report a full disk as an I/O error.
_PASSING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_CANTOPEN,
    }
)
_WORDS = {
    sqlite3.SQLITE_BUSY: "another process keeps it locked",
    sqlite3.SQLITE_LOCKED: "another connection keeps it locked",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
    sqlite3.SQLITE_READONLY: "it, or its directory, cannot be written",
    sqlite3.SQLITE_CORRUPT: "it is damaged: restore a backup, or try `sqlite3 FILE .recover`",
    sqlite3.SQLITE_NOTADB: "it is no SQLite database",
    sqlite3.SQLITE_PERM: "it may not be accessed",
}


def translated(path: str, error: sqlite3.Error) -> Exception:
    """Return the error of a store for an error of its database."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    words = _WORDS.get(code)
    problem = f"{words} ({error})" if words else str(error)
    if code in _PASSING:
        return StoreUnavailable(f"{named(path)}: {problem}")
    return StoreError(named(path), problem)
