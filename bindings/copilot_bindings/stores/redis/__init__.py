"""Threads in Redis or Valkey, for the processes of many machines."""

from __future__ import annotations

from .store import RedisStore

__all__ = ["RedisStore"]
