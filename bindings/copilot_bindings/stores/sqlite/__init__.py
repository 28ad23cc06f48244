"""Threads in a SQLite file, for the processes of one machine."""

from __future__ import annotations

from .errors import StoreError
from .store import SQLiteStore

__all__ = ["SQLiteStore", "StoreError"]
