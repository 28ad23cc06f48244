"""An owner of runs that knows how much of each it has stored, as a Run does."""

from __future__ import annotations

from collections import Counter
from typing import Any
from weakref import WeakKeyDictionary

import attrs

from sansio_copilot.stores.protocol import (
    Batch,
    RunKey,
    RunResult,
    Signal,
    ThreadQuery,
    ThreadRecord,
)

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
    """What a thread's ended runs have left, whole."""

    frames: bytes = b""
    messages: bytes = b"[]"
    state: bytes | None = None


def history_of(store: Any, thread_id: str, owner: str | None = None) -> ThreadHistory:
    """The history that a plain store has of a thread."""
    parts = [_read(store, thread_id, kind, owner) for kind in ("frames", "messages", "state")]
    return ThreadHistory(parts[0], parts[1], parts[2] or None)


def threads_of(store: Any, query: ThreadQuery | None = None) -> list[ThreadRecord]:
    """The threads that a plain store lists."""
    query = query or ThreadQuery(limit=500)
    records: list[ThreadRecord] = []
    while True:
        page = store.list_threads(query)
        assert len(page.threads) <= query.limit
        records += page.threads
        if page.next_cursor is None:
            return records
        query = attrs.evolve(query, cursor=page.next_cursor)


def _read(store: Any, thread_id: str, kind: str, owner: str | None) -> bytes:
    data, cursor = b"", None
    while True:
        page = store.read_history(thread_id, kind, cursor, 1000, owner)
        assert isinstance(page, Batch)
        assert len(page.data) <= 1000
        data, cursor = data + page.data, page.cursor
        if page.ended:
            return data
        assert page.data
