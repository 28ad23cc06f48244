"""The events of an agent that lives in another thread than its run, as an async iterator."""

from __future__ import annotations

from collections import deque
from typing import Any, Final, Self

from .backend import Backend

_END: Final = object()


class EventsOfAnotherThread:
    """Events that the agent's thread puts, and the run's loop takes.

    :param here: the async library of the run.
    """

    def __init__(self, here: Backend) -> None:
        self._here = here
        self._ready: deque[tuple[Any, BaseException | None]] = deque()
        self._available = here.flag()
        self._over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if self._over:
            # A caller that drains the agent may ask once more after the end, and must not wait for
            # an event that never comes.
            raise StopAsyncIteration
        while not self._ready:
            self._available = self._here.flag()
            await self._available.wait()
        event, error = self._ready.popleft()
        self._took()
        self._over = error is not None or event is _END
        if error is not None:
            # A StopIteration must not be raised in a coroutine (PEP 479), and a SystemExit of the
            # agent must not end the server.
            ordinary = isinstance(error, Exception) and not isinstance(error, StopIteration)
            raise error if ordinary else RuntimeError(repr(error))
        if event is _END:
            raise StopAsyncIteration
        return event

    def _took(self) -> None:
        """Let the agent go on, if it waits for room."""
        raise NotImplementedError

    def _put(self, event: Any = _END, error: BaseException | None = None) -> bool:
        """Hand over an event, the error that the agent has ended by, or else its end.

        :returns: False if the run's loop has ended, so that nothing will take another event.
        """
        self._ready.append((event, error))
        # Only the first item wakes the run, because it takes all items that are ready.
        return len(self._ready) > 1 or self._here.soon(self._wake)

    def _wake(self) -> None:
        self._available.set()
