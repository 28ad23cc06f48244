"""Where threads live: what a store must do, and the one that keeps everything in memory."""

from __future__ import annotations

from .calls import StoreCall
from .memory import MemoryStore
from .protocol import (
    Batch,
    Cancel,
    Kind,
    Log,
    LogGone,
    Notify,
    NotifyOwner,
    Orphan,
    PositionGap,
    RunKey,
    RunOpened,
    RunRequest,
    RunResult,
    Signal,
    ThreadBusy,
    ThreadOfAnother,
    ThreadOwner,
    ThreadPage,
    ThreadQuery,
    ThreadRecord,
    ThreadStore,
    UnknownCursor,
    news_in,
)

__all__ = [
    "Batch",
    "Cancel",
    "Kind",
    "Log",
    "LogGone",
    "MemoryStore",
    "Notify",
    "NotifyOwner",
    "Orphan",
    "PositionGap",
    "RunKey",
    "RunOpened",
    "RunRequest",
    "RunResult",
    "Signal",
    "StoreCall",
    "ThreadBusy",
    "ThreadOfAnother",
    "ThreadOwner",
    "ThreadPage",
    "ThreadQuery",
    "ThreadRecord",
    "ThreadStore",
    "UnknownCursor",
    "news_in",
]
