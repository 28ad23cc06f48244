"""The tasks of asyncio that are the server's own: they begin where they are made.

A task of asyncio gets its first turn in the loop's next round. If several requests arrive together,
all of them would be parsed before the first agent is asked for an event. These tasks begin at once,
so that an agent's first events leave in the turn of the loop in which its request has arrived: by
``eager_start`` from Python 3.12 on, and by the same steps on Python 3.11.

An error of a task's function is logged where the task ends, because nobody awaits the task.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from functools import partial
from typing import Any

from .context import CONTAINED
from .failures import passing

logger = logging.getLogger(__name__)


def begun_task(
    coroutine: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop, **options: Any
) -> asyncio.Task[None]:
    """Make a task whose coroutine has run up to its first wait.

    :param loop: the loop of this thread. If it does not run, the task begins once it does.
    :param options: the options of ``asyncio.Task``.
    """
    if sys.version_info >= (3, 12):
        # The option is overridden, because uvloop gives its own value of it to a task factory.
        options["eager_start"] = True
        return asyncio.Task(coroutine, loop=loop, **options)
    attributes: dict[str, Any] | None = getattr(loop, "__dict__", None)
    if attributes is None or not loop.is_running():
        return asyncio.Task(coroutine, loop=loop, **options)
    steps: list[Callable[[], object]] = []

    def call_soon(step: Callable[..., object], *args: Any, context: Context) -> None:
        steps.append(partial(context.run, step, *args))

    # The constructor hands the first step of the task to the loop's call_soon(). Nothing else
    # calls this method meanwhile, because other threads and signals use other methods. A tool
    # that watches the loop may have replaced the method before.
    before = attributes.get("call_soon")
    attributes["call_soon"] = call_soon
    try:
        task = asyncio.Task(coroutine, loop=loop, **options)
    finally:
        del attributes["call_soon"]
        if before is not None:
            attributes["call_soon"] = before
    outer = asyncio.current_task(loop)
    # The present task is left, because asyncio refuses to enter the new task within it. Both
    # functions are among those by which asyncio may be extended ("Extending" in its
    # documentation).
    if outer is not None:
        asyncio.tasks._leave_task(loop, outer)  # noqa: SLF001
    try:
        for step in steps:
            step()
    finally:
        if outer is not None:
            asyncio.tasks._enter_task(loop, outer)  # noqa: SLF001
    return task


async def guarded(function: Callable[..., Awaitable[object]], args: tuple[Any, ...]) -> None:
    """The coroutine of each task of the server: it calls ``function``, and logs its failure."""
    CONTAINED.set(True)
    task = asyncio.current_task()
    try:
        await function(*args)
    except passing(asyncio.CancelledError) as error:
        if task is not None and not isinstance(error, asyncio.CancelledError):
            # The interrupt leaves the loop. The callback retrieves it from the task, because
            # asyncio would otherwise log it as an exception that was never retrieved.
            task.add_done_callback(asyncio.Task.exception)
        raise
    except BaseException:
        if current_task() is not task:
            raise
        logger.exception("a task of the server failed")
    finally:
        # The name is deleted to break a cycle of references: the task keeps its cancellation, whose
        # traceback has this frame.
        del task


def current_task() -> asyncio.Task[Any] | None:
    """The task that runs now; None if no loop runs."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def may_be_dropped(task: asyncio.Future[Any]) -> None:
    """Have asyncio log nothing if ``task`` is collected before it has ended.

    An application may be dropped with its loop at any time, as test clients do; Python then closes
    the coroutine of the task.
    """
    # The flag silences a warning that asyncio itself turns off for tasks that it does not await.
    with contextlib.suppress(AttributeError):
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001
