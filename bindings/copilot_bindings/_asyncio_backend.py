"""The shared parts' needs, by asyncio."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from typing import Any

from ._asyncio_tasks import current_task, guarded, install, may_be_dropped
from ._call import Pending


class AsyncioBackend:
    """Tasks of the running loop. See :class:`._backend.Backend`."""

    cancelled = asyncio.CancelledError

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        install(self._loop)
        self._tasks: set[asyncio.Task[None]] = set()
        # Made once: a stream that waits would keep its own.
        self._forget = self._tasks.discard
        self._context = contextvars.copy_context()
        self._calls: dict[asyncio.Future[Any], Pending] = {}

    def current(self) -> object:
        return current_task()

    def is_told_to_end(self) -> bool:
        task = current_task()
        return task is not None and task.cancelling() > 0

    def soon(self, callback: Callable[..., object], *args: Any) -> bool:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            # It is closed.
            return False
        return True

    def later(
        self, seconds: float, callback: Callable[..., object], *args: Any
    ) -> asyncio.TimerHandle:
        return self._loop.call_later(seconds, callback, *args)

    def spawn(self, function: Callable[..., Awaitable[object]], *args: Any) -> asyncio.Task[None]:
        task = self._loop.create_task(guarded(function, args), name=function.__qualname__)
        self._tasks.add(task)
        may_be_dropped(task)
        # Not by the task itself, since one that is cancelled early never begins.
        task.add_done_callback(self._forget, context=self._context)
        return task

    def cancel_all(self) -> list[str]:
        for task in self._tasks:
            task.cancel()
        return [task.get_name() for task in self._tasks]

    def event(self) -> asyncio.Event:
        return asyncio.Event()

    async def wait_for(self, event: asyncio.Event, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return False
        return True

    async def checkpoint(self) -> None:
        await asyncio.sleep(0)

    async def in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.to_thread(function, *args)

    async def seen_through(
        self, awaitable: Awaitable[Any], on_cancel: Callable[[], object] | None = None
    ) -> Any:
        task = asyncio.ensure_future(awaitable)
        may_be_dropped(task)
        if isinstance(awaitable, Pending):
            self.see_through(task, awaitable)
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:
                if on_cancel is not None:
                    on_cancel()
        if task.cancelled():
            raise RuntimeError("what was waited for was cancelled")
        return task.result()

    def see_through(self, task: asyncio.Future[Any], call: Pending) -> None:
        """Know of the task in which ``call`` is seen through."""
        self._calls[task] = call
        task.add_done_callback(lambda task: self._calls.pop(task, None))

    def give_up(self) -> list[str]:
        for task in self._calls:
            task.cancel()
        return [repr(call) for call in self._calls.values()]
