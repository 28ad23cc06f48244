"""The operations that the shared parts need of an async library; asyncio and trio have one each.

The interface is small on purpose. anyio offers most of it, but cancels as trio does on every
library, and an agent that was written for asyncio expects the cancellation of asyncio.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol


class Task(Protocol):
    """A task of :meth:`Backend.spawn`."""

    def cancel(self) -> object:
        """Cancel the task, in the way of the library."""
        ...


class Flag(Protocol):
    """A flag that tasks can wait for, as an ``asyncio.Event`` is; it is set once."""

    def set(self) -> object:
        """Wake the tasks that wait.

        To be called on the library's own thread; other threads use :meth:`Backend.soon`.
        """
        ...

    async def wait(self) -> object:
        """Wait until the flag is set."""
        ...


class Scope(Protocol):
    """A block that can be cancelled alone; the block is then left, and no exception leaves it."""

    async def __aenter__(self) -> Scope: ...

    async def __aexit__(self, *exc: Any) -> bool | None: ...

    def cancel(self) -> object:
        """Cancel the present await of the block. To be called once at most, before it is left."""
        ...


class Backend(Protocol):
    """An async library, and the place where tasks live in it."""

    @property
    def library(self) -> str:
        """The name of the library, as agents that need a certain library name it."""
        ...

    @property
    def cancelled(self) -> type[BaseException]:
        """The exception that a cancellation raises."""
        ...

    @property
    def leave_behind(self) -> Callable[[Any], object] | None:
        """Leaves a task that does not end when it is cancelled, so that nothing waits for it.

        This is None if the library cannot leave a task, or a coroutine that a task awaits, behind.
        """
        ...

    def current(self) -> object:
        """The task that runs now.

        A coroutine that Python closes, because its loop was dropped, does not run in its own task.
        """
        ...

    def is_told_to_end(self) -> bool:
        """Whether the task that runs now has been cancelled, even if it has caught the
        exception."""
        ...

    def soon(self, callback: Callable[..., object], *args: Any) -> bool:
        """Call ``callback`` in a later turn of the loop; may be called from any thread.

        :returns: False if the loop has ended, so that nothing will be called.
        """
        ...

    def promptly(self, callback: Callable[..., object], *args: Any) -> None:
        """Call ``callback``: at once on the library's own thread, and by :meth:`soon` elsewhere."""
        ...

    def later(self, seconds: float, callback: Callable[..., object], *args: Any) -> Task:
        """Call ``callback`` after so many seconds, unless the returned task is cancelled."""
        ...

    def spawn(self, function: Callable[..., Awaitable[object]], *args: Any, name: str = "") -> Task:
        """Begin a task that outlives the present one. Its failure is logged, and ends no other
        task.

        :param name: the task's name in the log; the name of ``function`` if empty.
        """
        ...

    def cancel_all(self) -> list[str]:
        """Cancel every task of :meth:`spawn` that has not ended; returns their names."""
        ...

    def flag(self) -> Flag:
        """A new flag."""
        ...

    def scope(self) -> Scope:
        """A new scope, for the task that runs now."""
        ...

    async def wait_for(self, flag: Any, seconds: float) -> bool:
        """Wait for a flag of :meth:`flag`; returns False if it is not set in so many seconds."""
        ...

    async def wait_through(
        self, flag: Any, seconds: float, on_cancel: Callable[[], object]
    ) -> None:
        """Wait for a flag, even if the task is cancelled meanwhile.

        :param seconds: how long to wait at most. On asyncio a cancellation ends the wait too.
        :param on_cancel: see :meth:`seen_through`.
        """
        ...

    async def checkpoint(self) -> None:
        """Let other tasks have their turn."""
        ...

    async def seen_through(
        self, function: Callable[[], Awaitable[Any]], on_cancel: Callable[[], object] | None = None
    ) -> Any:
        """Await an operation that a cancellation must not cut short, and do not raise the
        cancellation.

        :param function: begins the operation. It is called again if the loop ends and cancels all
            its tasks, so that the operation must allow to be begun twice.
        :param on_cancel: called at a cancellation, if the library would otherwise forget it.
        """
        ...
