"""The thread in which a plain agent runs, and the way of its events from there to their run."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import threading
from collections.abc import Iterator
from typing import Any

from .backend import Backend
from .events_of_another_thread import EventsOfAnotherThread

logger = logging.getLogger(__name__)

_BACKLOG = 256
"""The number of events that a plain agent may be ahead of its run before its thread waits."""


class ThreadedIterator(EventsOfAnotherThread):
    """An async iterator over a plain iterator that may block.

    Each iterator has its own thread and not a thread of a pool, because the size of a pool would
    limit the number of runs, and an agent that blocks would occupy a place in the pool for ever.
    The thread is a daemon, because nothing can end an agent that blocks, and the process must be
    able to end.

    :param iterator: pulled only in the new thread.
    :param backend: the async library that receives the events.
    """

    def __init__(self, iterator: Iterator[Any], backend: Backend) -> None:
        super().__init__(backend)
        self._iterator = iterator
        self._room = threading.Semaphore(_BACKLOG)
        self._closed = False
        context = contextvars.copy_context()
        threading.Thread(
            target=context.run, args=(self._pull_all,), name="copilot-agent", daemon=True
        ).start()

    def _took(self) -> None:
        self._room.release()

    async def aclose(self) -> None:
        """Have the thread close the iterator when that yields its next event; do not wait for
        it."""
        self._closed = True
        self._room.release()
        self._log_untaken()

    def _pull_all(self) -> None:
        try:
            for event in self._iterator:
                self._room.acquire()
                if self._closed:
                    break
                if not self._put(event):
                    self._closed = True
            close = getattr(self._iterator, "close", None)
            if close is not None:
                close()
        except BaseException as error:
            if not self._put(None, error) or self._closed:
                self._log_untaken()
        else:
            self._put()

    def _log_untaken(self) -> None:
        """Log a failure that will not be received any more. Both threads may call this at any
        time."""
        while self._ready:
            # The error is suppressed, because the other thread may have taken the last item, and
            # logs it.
            with contextlib.suppress(IndexError):
                _, error = self._ready.popleft()
                if error is not None:
                    logger.error("an agent failed while it cleaned up", exc_info=error)
