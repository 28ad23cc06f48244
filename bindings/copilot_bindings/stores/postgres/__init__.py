"""Threads in PostgreSQL, for the processes of many machines."""

from __future__ import annotations

from .store import PostgresStore

__all__ = ["PostgresStore"]
