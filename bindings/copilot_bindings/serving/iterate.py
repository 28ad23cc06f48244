"""Plain iterators for async code: a worker thread pulls, the async library's thread receives."""

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
"""Events a plain agent may be ahead of the log before its thread waits."""

_END: Final = object()


class ThreadedIterator:
    """An async iterator over a plain one that may block: it is pulled in a thread of its own.

    A thread each, rather than one of a pool: a pool's size would be a limit on concurrent runs that
    nobody asked for, and a blocked agent would take a place in it for ever. The thread is a
    daemon, because nothing can end an agent that blocks and a process must be able to.
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
            # Whoever drains an agent may ask once more: nothing would ever come.
            raise StopAsyncIteration
        while not self._ready:
            self._available = self._backend.event()
            await self._available.wait()
        event, error = self._ready.popleft()
        self._room.release()
        self._ended = error is not None or event is _END
        if error is not None:
            # A StopIteration must not be raised in a coroutine (PEP 479), and a SystemExit of
            # the agent's is not the server's.
            ordinary = isinstance(error, Exception) and not isinstance(error, StopIteration)
            raise error if ordinary else RuntimeError(repr(error))
        if event is _END:
            raise StopAsyncIteration
        return event

    async def aclose(self) -> None:
        """Let go of the iterator: its thread closes it when it next yields."""
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
        """Log the failure that nobody is going to take. Both threads come here, in any order."""
        while self._ready:
            # The deque may be empty by now, because the other thread took the last and logs it.
            with contextlib.suppress(IndexError):
                _, error = self._ready.popleft()
                if error is not None:
                    logger.error("an agent failed while it cleaned up", exc_info=error)

    def _put(self, event: Any, error: BaseException | None) -> None:
        self._ready.append((event, error))
        # One wake-up for all that has not been taken yet.
        if len(self._ready) == 1 and not self._backend.soon(self._wake):
            # The loop is gone, and with it whoever would take another.
            self._closed = True

    def _wake(self) -> None:
        self._available.set()
