"""Thread stores that take their time: one whose methods are async, one whose methods block.

And stores that are made in a way that leaves them without a hash or a weak reference.
"""

from __future__ import annotations

import atexit
import dataclasses
import tempfile
import threading
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import attrs
from support.histories import fill

from copilot_bindings.stores import SQLiteStore
from sansio_copilot import MemoryStore, StoreUnavailable

from .control import gates

_MIB = 1024**2
LONG_EVENTS: list[Any] = [{"type": "CUSTOM", "name": "é", "value": "x" * _MIB}] * 32
"""The events of each thread of LongHistories, which are more than a server and a system buffer."""
LONG_MESSAGES: list[Any] = [{"id": "1", "role": "user", "content": "y" * (_MIB // 4)}] * 8
LONG_STATE: Any = {"rows": ["z" * (_MIB // 4)] * 8}


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


class LongHistories(MemoryStore):
    """Every thread has a long history, of which each page that is read is counted."""

    def __init__(self) -> None:
        super().__init__()
        self._filling, self._filled = threading.Lock(), set[str]()

    def read_history(self, *args: Any) -> Any:
        thread_id = args[0]
        with self._filling:
            if thread_id not in self._filled:
                self._filled.add(thread_id)
                fill(self, thread_id, LONG_EVENTS, LONG_MESSAGES, LONG_STATE)
        gates[thread_id].pages += 1
        return super().read_history(*args)


class AwayStore(MemoryStore):
    """A store that says that it cannot be used."""

    async def check(self) -> None:
        await anyio.lowlevel.checkpoint()
        raise StoreUnavailable("no route to db.internal")


class AsyncStore(_SlowStore):
    """Each answer comes a turn of the loop later."""

    blocking = False

    def __getattr__(self, name: str) -> Any:
        # The attribute is looked up here, so that a method which the store lacks is missing.
        getattr(self._memory, name)

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
        # The attribute is looked up here, so that a method which the store lacks is missing.
        getattr(self._memory, name)

        def locked(*args: Any) -> Any:
            assert not in_event_loop(), f"{name} blocks an event loop"
            return self._locked(name, *args)

        return locked


@dataclasses.dataclass
class _DataclassStore(MemoryStore):
    """A store that has the hash of no object, and is equal to others."""

    name: str = "a store"

    def __post_init__(self) -> None:
        super().__init__()


@attrs.define(slots=False)
class _AttrsStore(MemoryStore):
    """The same by attrs."""

    name: str = "a store"

    def __attrs_post_init__(self) -> None:
        super().__init__()


class _SlottedStore:
    """A store that has no weak references, and is equal to everything."""

    __slots__ = ("_memory", "blocking")

    def __init__(self) -> None:
        self._memory = MemoryStore()
        self.blocking = False

    def __eq__(self, other: object) -> bool:
        return True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._memory, name)


ODD_STORES = {
    "dataclass-store": _DataclassStore(),
    "attrs-store": _AttrsStore(),
    "slotted-store": _SlottedStore(),
}


def in_a_file() -> SQLiteStore:
    """A store in a file of its own, which is closed and goes when the process ends."""
    directory = tempfile.TemporaryDirectory(prefix="sansio-copilot-")
    store = SQLiteStore(Path(directory.name, "threads.db"))
    # atexit calls first what was registered last.
    atexit.register(directory.cleanup)
    atexit.register(store.close)
    return store


def in_event_loop() -> bool:
    """Return whether this thread is one that an event loop runs in, and now runs us."""
    try:
        anyio.get_current_task()
    except (anyio.NoEventLoopError, RuntimeError):
        return False
    return True
