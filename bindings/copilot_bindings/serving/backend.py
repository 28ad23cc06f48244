"""What the shared parts of the bindings need of an async library; asyncio and trio have one each.

It is small on purpose. anyio would do for most of it, but its cancellation is trio's on every
library, and an agent written for asyncio expects asyncio's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol


class Task(Protocol):
    """A task of :meth:`Backend.spawn`."""

    def cancel(self) -> object:
        """Cancel it, in the manner of the library."""
        ...


class Event(Protocol):
    """Something to wait for; set once."""

    def set(self) -> object:
        """Wake who waits. On the library's own thread; elsewhere through :meth:`Backend.soon`."""
        ...

    async def wait(self) -> object:
        """Wait until it is set."""
        ...


class Scope(Protocol):
    """Around what may have to be cancelled by itself: its block is left then, by no exception."""

    async def __aenter__(self) -> Scope: ...

    async def __aexit__(self, *exc: Any) -> bool | None: ...

    def cancel(self) -> object:
        """Cancel what is awaited in the block. To be called once at most, before it is left."""
        ...


class Backend(Protocol):
    """An async library, and where tasks live in it."""

    @property
    def cancelled(self) -> type[BaseException]:
        """What a cancellation raises."""
        ...

    @property
    def may_drop(self) -> bool:
        """Whether a task may end that leaves behind what it was awaiting."""
        ...

    def current(self) -> object:
        """The task that runs now. It is not the one of a coroutine that is only being closed,
        because the loop was dropped and Python collects what is left of it."""
        ...

    def is_told_to_end(self) -> bool:
        """Whether somebody has cancelled the task that runs now, which does not tell its tasks."""
        ...

    def soon(self, callback: Callable[..., object], *args: Any) -> bool:
        """Call ``callback`` in a turn of its own. From any thread; False if all is over."""
        ...

    def promptly(self, callback: Callable[..., object], *args: Any) -> None:
        """Call ``callback`` at once on the library's own thread, and soon from another."""
        ...

    def later(self, seconds: float, callback: Callable[..., object], *args: Any) -> Task:
        """Call ``callback`` after so many seconds, unless cancelled."""
        ...

    def spawn(self, function: Callable[..., Awaitable[object]], *args: Any, name: str = "") -> Task:
        """Begin a task that outlives its maker. Its failure is logged, and hurts no other.

        :param name: for the log; that of ``function`` unless given.
        """
        ...

    def cancel_all(self) -> list[str]:
        """Cancel every task of :meth:`spawn` that has not ended; returns their names."""
        ...

    def event(self) -> Event:
        """A new event."""
        ...

    def scope(self) -> Scope:
        """A new scope, for the task that runs now."""
        ...

    async def wait_for(self, event: Any, seconds: float) -> bool:
        """Wait for an event of :meth:`event`; False if it is not set in time."""
        ...

    async def wait_through(
        self, event: Any, seconds: float, on_cancel: Callable[[], object]
    ) -> None:
        """The same, whatever is cancelled meanwhile; see :meth:`seen_through`."""
        ...

    async def checkpoint(self) -> None:
        """Let other tasks have their turn. What was cancelled goes on."""
        ...

    async def seen_through(
        self, awaitable: Awaitable[Any], on_cancel: Callable[[], object] | None = None
    ) -> Any:
        """Await what a cancellation must not cut short; the cancellation is not raised here.

        :param on_cancel: told of one that came meanwhile, where the library forgets it otherwise.
        """
        ...
