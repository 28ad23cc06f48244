"""What a store has of threads and connections: one engine for each process, and none in its forks.

A fork has its parent's objects and not its threads, and its sockets, files and locks are still the
parent's. So a process finds out by its id whether an engine is its own, and begins anew if not. The
parent's stays referred to, because closing it in the fork would touch what the parent uses.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

E = TypeVar("E")


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
