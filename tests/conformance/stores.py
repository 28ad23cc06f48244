"""Thread stores that take their time: one whose methods are async, one whose methods block."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import anyio.lowlevel

from sansio_copilot import MemoryStore


class _SlowStore:
    """A MemoryStore behind a lock of its own: the ``watch`` methods come from any thread."""

    def __init__(self) -> None:
        self._memory = MemoryStore()
        self._lock = threading.RLock()

    def _locked(self, name: str, *args: Any) -> Any:
        with self._lock:
            return getattr(self._memory, name)(*args)

    def watch(self, *args: Any) -> Any:
        return self._cancel(self._locked("watch", *args))

    def watch_run(self, *args: Any) -> Any:
        return self._cancel(self._locked("watch_run", *args))

    def _cancel(self, cancel: Any) -> Any:
        def locked() -> None:
            with self._lock:
                cancel()

        return locked


class AsyncStore(_SlowStore):
    """Each answer comes a turn of the loop later."""

    blocking = False

    def __getattr__(self, name: str) -> Any:
        async def later(*args: Any) -> Any:
            await anyio.lowlevel.checkpoint()
            outcome = self._locked(name, *args)
            await anyio.lowlevel.checkpoint()
            return outcome

        return later


class BlockingStore(_SlowStore):
    """Methods that block, and so must not be called on an event loop's thread."""

    blocking = True

    def __getattr__(self, name: str) -> Any:
        def locked(*args: Any) -> Any:
            assert not in_event_loop(), f"{name} blocks an event loop"
            return self._locked(name, *args)

        return locked


def in_event_loop() -> bool:
    """Whether this thread is one that an event loop runs in, and now runs us."""
    try:
        anyio.get_current_task()
    except (anyio.NoEventLoopError, RuntimeError):
        return False
    return True
