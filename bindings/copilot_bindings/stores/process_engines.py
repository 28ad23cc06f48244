"""The engines of a store: one for each process, which a fork of the process does not take over.

A fork has its parent's objects but not its parent's threads, and shares its sockets, files and
locks. So a process compares its id with that of the engine, and makes an engine of its own if they
differ. It keeps a reference to the parent's engine, because closing that engine in the fork would
touch the sockets and files that the parent uses.
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
