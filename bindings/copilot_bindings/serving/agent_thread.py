"""The thread in which a plain agent runs, and the way of its events from there to their run."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

from .backend import Backend

logger = logging.getLogger(__name__)

_BACKLOG = 256
"""The number of events that a plain agent may be ahead of its run before its thread waits."""

_END: Final = object()


class ThreadedIterator:
    """An async iterator over a plain iterator that may block.

    Each iterator has its own thread and not a thread of a pool, because the size of a pool would
    limit the number of runs, and an agent that blocks would occupy a place in the pool for ever.
    The thread is a daemon, because nothing can end an agent that blocks, and the process must be
    able to end.

    :param iterator: pulled only in the new thread.
    :param backend: the async library that receives the events.
    """

    def __init__(self, iterator: Iterator[Any], backend: Backend) -> None:
        self._iterator = iterator
        self._backend = backend
        self._ready: deque[tuple[Any, BaseException | None]] = deque()
        self._available = backend.event()
        self._room = threading.Semaphore(_BACKLOG)
        self._closed = False
        self._ended = False
        context = contextvars.copy_context()
        threading.Thread(
            target=context.run, args=(self._pull_all,), name="copilot-agent", daemon=True
        ).start()

    def __aiter__(self) -> ThreadedIterator:
        return self

    async def __anext__(self) -> Any:
        if self._ended:
            # A caller that drains the agent may ask once more after the end, and must not wait for
            # an event that never comes.
            raise StopAsyncIteration
        while not self._ready:
            self._available = self._backend.event()
            await self._available.wait()
        event, error = self._ready.popleft()
        self._room.release()
        self._ended = error is not None or event is _END
        if error is not None:
            # A StopIteration must not be raised in a coroutine (PEP 479), and a SystemExit of the
            # agent must not end the server.
            ordinary = isinstance(error, Exception) and not isinstance(error, StopIteration)
            raise error if ordinary else RuntimeError(repr(error))
        if event is _END:
            raise StopAsyncIteration
        return event

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
                self._put(event, None)
            close = getattr(self._iterator, "close", None)
            if close is not None:
                close()
        except BaseException as error:
            self._put(None, error)
            if self._closed:
                self._log_untaken()
        else:
            self._put(_END, None)

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

    def _put(self, event: Any, error: BaseException | None) -> None:
        self._ready.append((event, error))
        # Only the first item wakes the receiver, because it takes all items that are ready.
        if len(self._ready) == 1 and not self._backend.soon(self._wake):
            # The loop has ended, so that nothing will receive another event.
            self._closed = True

    def _wake(self) -> None:
        self._available.set()
