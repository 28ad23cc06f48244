"""Threads with a long history, made without a run."""

from __future__ import annotations

from typing import Any

from sansio_copilot import MemoryStore, json_codec
from sansio_copilot.sse import COMPACTED_FRAME
from sansio_copilot.stores.protocol import RunOpened, RunRequest, RunResult


def fill(
    store: MemoryStore,
    thread_id: str,
    events: list[Any],
    messages: list[Any] | None = None,
    state: Any = None,
) -> None:
    """Give the thread an ended run with what is listed."""
    opened = store.open_run(RunRequest(thread_id, "r", "default"))
    assert isinstance(opened, RunOpened)
    frames = b"".join(
        COMPACTED_FRAME % (b"1.00000000", place, json_codec.encode(event))
        for place, event in enumerate(events)
    )
    told = json_codec.encode([] if messages is None else messages), json_codec.encode(state)
    store.close_run(opened.key, 0, frames, RunResult(frames, *told))
