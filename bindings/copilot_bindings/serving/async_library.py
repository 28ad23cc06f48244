"""The async library that runs now, for code that is called under asyncio and under trio."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Callable
from typing import Any

from .backend import Backend


def running_loop() -> object:
    """The loop that runs now: asyncio's, or the token of trio's.

    :raises RuntimeError: if none runs.
    """
    if "trio" in sys.modules:
        import trio

        if trio.lowlevel.in_trio_task():
            return trio.lowlevel.current_trio_token()
    return asyncio.get_running_loop()


def running_library() -> tuple[Backend, Callable[..., object]]:
    """The backend for the async library that runs now, and a function that starts a task in it."""
    loop = running_loop()
    if isinstance(loop, asyncio.AbstractEventLoop):
        from .asyncio_backend import AsyncioBackend
        from .asyncio_own_tasks import may_be_dropped

        def create_task(function: Callable[..., Any], *args: Any) -> asyncio.Task[Any]:
            task = loop.create_task(function(*args))
            may_be_dropped(task)
            return task

        return AsyncioBackend(), create_task

    import trio

    from .trio_backend import TrioBackend

    def start_soon(function: Callable[..., Any], *args: Any) -> None:
        # The task is a system task, because no nursery outlives a request, unless the server sends
        # lifespan events.
        context = contextvars.copy_context()
        trio.lowlevel.spawn_system_task(function, *args, context=context)

    return TrioBackend(start_soon), start_soon
