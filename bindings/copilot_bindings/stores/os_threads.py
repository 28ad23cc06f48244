"""The operating system threads of a durable store."""

from __future__ import annotations

import threading
from collections.abc import Callable

from sansio_copilot import StoreUnavailable


def begin_os_thread(name: str, live: Callable[[], object]) -> threading.Thread:
    """Begin an operating system thread that does not keep the process alive.

    :param live: the work of the thread.
    :raises StoreUnavailable: if no further operating system thread begins now.
    """
    thread = threading.Thread(target=live, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise StoreUnavailable(f"no operating system thread {name!r}: {error}") from error
    return thread
