"""The threads of bindings, which must have ended when a test has."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_others: set[threading.Thread] = set()


def begun() -> list[str]:
    """The names of the threads that bindings have begun in this test, and that have not ended."""
    threads = set(threading.enumerate()) - _others
    return [thread.name for thread in threads if thread.name.startswith("copilot-")]


@contextmanager
def no_thread_is_left() -> Iterator[None]:
    """Threads that are begun within the context end soon after it."""
    # An application of another module may have left some, which end when they have been idle.
    _others.clear()
    _others.update(threading.enumerate())
    yield
    deadline = time.monotonic() + 30
    while left := begun():
        assert time.monotonic() < deadline, left
        time.sleep(0.005)
