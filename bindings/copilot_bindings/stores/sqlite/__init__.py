"""Threads in a SQLite file, for the processes of one machine."""

from __future__ import annotations

from .store import SQLiteStore

__all__ = ["SQLiteStore"]
