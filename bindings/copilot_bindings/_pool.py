"""Threads that are used again, so many and no more."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable

logger = logging.getLogger("sansio_copilot")

_IDLE_SECONDS = 10.0


class ThreadPool:
    """Threads for work that may block for ever.

    Unlike those of ``concurrent.futures`` they are daemons, which a process does not wait for at
    its end, and there is no queue: what no thread is free for is not taken.

    :param size: how many threads there are at most.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._work: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._threads: set[threading.Thread] = set()
        self._idle = 0
        """Threads that wait for work which is not in the queue yet."""
        self._closed = False

    def submit(self, work: Callable[[], object]) -> bool:
        """Have a thread do ``work``; False if none is free, or can be made."""
        with self._lock:
            if self._closed:
                return False
            if self._idle:
                self._idle -= 1
            elif len(self._threads) >= self._size or not self._add_thread():
                return False
            self._work.put(work)
        return True

    def close(self, timeout: float) -> None:
        """End the threads, and wait for those whose work ends within ``timeout`` seconds."""
        with self._lock:
            self._closed = True
            threads = list(self._threads)
            for _ in range(self._idle):
                self._work.put(None)
            self._idle = 0
        deadline = time.monotonic() + timeout
        for thread in threads:
            thread.join(max(deadline - time.monotonic(), 0))
        if busy := sum(thread.is_alive() for thread in threads):
            logger.warning("left %d threads that do not end", busy)

    def _add_thread(self) -> bool:
        thread = threading.Thread(target=self._live, name="copilot-connection", daemon=True)
        self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError as error:
            # The system's limit on threads.
            logger.error("no thread for a connection: %s", error)
            self._threads.discard(thread)
            return False
        return True

    def _live(self) -> None:
        while (work := self._next()) is not None:
            try:
                work()
            except BaseException:
                logger.exception("a connection failed")
            # What it has done is not to live on while the thread waits.
            del work
            with self._lock:
                if self._closed:
                    break
                self._idle += 1
        with self._lock:
            self._threads.discard(threading.current_thread())

    def _next(self) -> Callable[[], object] | None:
        while True:
            try:
                return self._work.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                with self._lock:
                    # Otherwise there is work for everyone who waits, just put.
                    if self._idle:
                        self._idle -= 1
                        return None
