"""Where threads live: what a store must do, and the one that keeps everything in memory."""

from __future__ import annotations

from .calls import StoreCall
from .memory import MemoryStore
from .protocol import (
    Batch,
    Cancel,
    Log,
    LogGone,
    Notify,
    Orphan,
    RunKey,
    RunOpened,
    RunRequest,
    RunResult,
    Signal,
    ThreadBusy,
    ThreadHistory,
    ThreadRecord,
    ThreadStore,
)

__all__ = [
    "Batch",
    "Cancel",
    "Log",
    "LogGone",
    "MemoryStore",
    "Notify",
    "Orphan",
    "RunKey",
    "RunOpened",
    "RunRequest",
    "RunResult",
    "Signal",
    "StoreCall",
    "ThreadBusy",
    "ThreadHistory",
    "ThreadRecord",
    "ThreadStore",
]
