"""The backend for asyncio: the operations that the shared parts need of an async library."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from .asyncio_own_tasks import current_task, guarded, may_be_dropped
from .asyncio_stray_tasks import install
from .context import keep_for_ever


class _Scope:
    """The scope of :class:`~copilot_bindings.serving.backend.Scope`, by ``asyncio.timeout``."""

    def __init__(self) -> None:
        # asyncio.timeout() is used, because it tells its own cancellation from one of the task,
        # which has to go on.
        self._timeout = asyncio.timeout(None)

    async def __aenter__(self) -> _Scope:
        await self._timeout.__aenter__()
        return self

    async def __aexit__(self, *exc: Any) -> bool | None:
        try:
            await self._timeout.__aexit__(*exc)
        except TimeoutError:
            return True
        return None

    def cancel(self) -> None:
        self._timeout.reschedule(0)


class AsyncioBackend:
    """The :class:`~copilot_bindings.serving.backend.Backend` for asyncio's running loop."""

    library = "asyncio"
    cancelled = asyncio.CancelledError

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        install(self._loop)
        self._tasks: set[asyncio.Task[None]] = set()
        # The bound method is made once and shared, because otherwise each task would keep its own.
        self._forget = self._tasks.discard
        self._context = contextvars.copy_context()
        self._thread = threading.get_ident()

    current = staticmethod(current_task)

    def is_told_to_end(self) -> bool:
        task = current_task()
        return task is not None and task.cancelling() > 0

    def soon(self, callback: Callable[..., object], *args: Any) -> bool:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            # The loop is closed, so nothing will be called.
            return False
        return True

    def promptly(self, callback: Callable[..., object], *args: Any) -> None:
        if threading.get_ident() == self._thread:
            callback(*args)
        else:
            self.soon(callback, *args)

    def later(
        self, seconds: float, callback: Callable[..., object], *args: Any
    ) -> asyncio.TimerHandle:
        return self._loop.call_later(seconds, callback, *args)

    def spawn(
        self, function: Callable[..., Awaitable[object]], *args: Any, name: str = ""
    ) -> asyncio.Task[None]:
        task = self._loop.create_task(guarded(function, args), name=name or function.__qualname__)
        if task.done():
            # A task that began where it was made may have ended there.
            return task
        self._tasks.add(task)
        may_be_dropped(task)
        # The task is forgotten by a callback and not by its own code, because a task that is
        # cancelled early never runs its code.
        task.add_done_callback(self._forget, context=self._context)
        return task

    def leave_behind(self, task: Any) -> None:
        self._tasks.discard(task)
        # asyncio.run() would wait for the task, as for every one that is registered.
        asyncio.tasks._unregister_task(task)  # noqa: SLF001
        keep_for_ever(task)

    def cancel_all(self) -> list[str]:
        for task in self._tasks:
            task.cancel()
        return [task.get_name() for task in self._tasks]

    def flag(self) -> asyncio.Event:
        return asyncio.Event()

    def scope(self) -> _Scope:
        return _Scope()

    async def wait_for(self, flag: asyncio.Event, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await flag.wait()
        except TimeoutError:
            return False
        return True

    async def wait_through(
        self, flag: asyncio.Event, seconds: float, on_cancel: Callable[[], object]
    ) -> None:
        try:
            await self.wait_for(flag, seconds)
        except asyncio.CancelledError:
            on_cancel()

    async def checkpoint(self) -> None:
        await asyncio.sleep(0)

    async def seen_through(
        self, function: Callable[[], Awaitable[Any]], on_cancel: Callable[[], object] | None = None
    ) -> Any:
        was_cancelled = True
        while was_cancelled:
            was_cancelled = False
            task = asyncio.ensure_future(function())
            may_be_dropped(task)
            while not task.done():
                try:
                    await asyncio.wait([task])
                except asyncio.CancelledError:
                    was_cancelled = True
                    if on_cancel is not None:
                        on_cancel()
            if not task.cancelled():
                return task.result()
            # The function is called again, because a loop that ends cancels every task, the inner
            # one as well, and then waits for them.
        raise RuntimeError("what was waited for was cancelled")
