"""What a store has of threads and connections: one engine for each process, and none in its forks.

A fork has its parent's objects and not its threads, and its sockets, files and locks are still the
parent's. So a process finds out by its id whether an engine is its own, and begins anew if not. The
parent's stays referred to, because closing it in the fork would touch what the parent uses.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

E = TypeVar("E")

_TIDY_SECONDS = 20.0


class Engines(Generic[E]):
    """The engines of one store. May be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._engines: list[tuple[int, E]] = []

    def get(self, begin: Callable[[], E]) -> E:
        """The engine of this process, which ``begin`` makes if there is none."""
        engines = self._engines
        if engines and engines[-1][0] == os.getpid():
            return engines[-1][1]
        with self._lock:
            if not engines or engines[-1][0] != os.getpid():
                engines.append((os.getpid(), begin()))
            return engines[-1][1]

    def take(self) -> E | None:
        """The engine of this process, which is to be closed; None if there is none."""
        with self._lock:
            if not self._engines or self._engines[-1][0] != os.getpid():
                return None
            return self._engines.pop()[1]


class Evictions:
    """How many threads a store has let go, in this process, to stay within its bounds."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, count: int) -> None:
        """So many more have gone. To be called by one thread at a time."""
        self.count += count


class Tidying:
    """When a step is due of what a store does from time to time.

    :param step: begins a step; its future says whether there is more to do.
    """

    def __init__(self, step: Callable[[], Future[bool]]) -> None:
        self._step = step
        self._next = time.monotonic() + _TIDY_SECONDS

    def look(self) -> float:
        """Begin a step if it is time; returns the seconds until the next look."""
        now = time.monotonic()
        if now >= self._next:
            self._next = math.inf
            self._step().add_done_callback(self._done)
        return min(max(self._next - now, 0.0), _TIDY_SECONDS)

    def _done(self, step: Future[bool]) -> None:
        more = step.exception() is None and step.result()
        self._next = time.monotonic() + (0.0 if more else _TIDY_SECONDS)
