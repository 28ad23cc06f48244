"""An owner of runs that knows how much of each it has stored, as a Run does."""

from __future__ import annotations

from collections import Counter
from typing import Any
from weakref import WeakKeyDictionary

import attrs

from sansio_copilot.stores.protocol import (
    RunKey,
    RunResult,
    Signal,
    ThreadQuery,
    ThreadRecord,
)
from sansio_copilot.testing.loopless import run_awaitable
from sansio_copilot.testing.stores.driven import Driven

_PAGE_BYTES = 1000
_stored: WeakKeyDictionary[Any, Counter[RunKey]] = WeakKeyDictionary()


def append(store: Any, key: RunKey, frames: bytes, result: RunResult | None = None) -> Signal:
    """Append behind what has been appended before."""
    sizes = _stored.setdefault(store, Counter())
    signal: Signal = store.append(key, sizes[key], frames, result)
    sizes[key] += len(frames)
    return signal


def close(store: Any, key: RunKey, frames: bytes, result: RunResult | None) -> None:
    """Close the run behind what has been appended to it."""
    store.close_run(key, _stored.setdefault(store, Counter())[key], frames, result)


@attrs.frozen
class ThreadHistory:
    """The history that a thread's ended runs have left, whole."""

    frames: bytes = b""
    messages: bytes = b"[]"
    state: bytes | None = None


def history_of(store: Any, thread_id: str, owner: str | None = None) -> ThreadHistory:
    """The history that a plain store has of a thread."""
    driven = Driven(store, run_awaitable)
    frames = driven.history(thread_id, "frames", owner, _PAGE_BYTES)
    messages = driven.history(thread_id, "messages", owner, _PAGE_BYTES)
    state = driven.history(thread_id, "state", owner, _PAGE_BYTES)
    return ThreadHistory(frames, messages, state or None)


def threads_of(store: Any, query: ThreadQuery | None = None) -> list[ThreadRecord]:
    """The threads that a plain store lists."""
    return Driven(store, run_awaitable).listed(query or ThreadQuery(limit=500))
