"""Stores whose threads outlive the process: SQLite on one machine.

``cursors``, ``tails``, ``owners``, ``pages``, ``retention`` and ``texts`` have what every store
needs that lies outside of its process, whatever keeps its bytes.
"""

from __future__ import annotations

from .retention import Retention
from .sqlite import SQLiteStore, StoreError

__all__ = ["Retention", "SQLiteStore", "StoreError"]
