"""Tasks that the application's functions make, on a loop that they must not end.

asyncio lets a SystemExit of any task out of its loop, which ends the server with all its runs. An
agent's or a hook's own is caught where it is awaited; one of a task that it has made is not, so
the loop's task factory has such a task fail instead, as by any exception.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

from .calls import passing, raise_failure
from .context import contain_tasks, is_contained

logger = logging.getLogger(__name__)


async def guarded(function: Callable[..., Awaitable[object]], args: tuple[Any, ...]) -> None:
    """What a task of ours does: it calls ``function``, whose failure is logged."""
    contain_tasks()
    task = current_task()
    try:
        await function(*args)
    except passing(asyncio.CancelledError):
        raise
    except BaseException:
        if current_task() is not task:
            raise
        logger.exception("a task of the server failed")
    finally:
        # The task keeps its cancellation, whose traceback has this frame.
        del task


def current_task() -> asyncio.Task[Any] | None:
    """The task that runs now; None if no loop does."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def may_be_dropped(task: asyncio.Future[Any]) -> None:
    """Say nothing if ``task`` is collected before it has ended.

    An application may be dropped with its loop at any time, as by a test client; what is in the
    task then ends by itself.
    """
    # The flag silences a warning that asyncio itself turns off for tasks that it does not await.
    with contextlib.suppress(AttributeError):
        task._log_destroy_pending = False  # type: ignore[attr-defined]


def install(loop: asyncio.AbstractEventLoop) -> None:
    """Have ``loop`` make tasks by a :class:`TaskFactory`, in front of what it has."""
    former = loop.get_task_factory()
    if not isinstance(former, TaskFactory):
        loop.set_task_factory(TaskFactory(former))


class TaskFactory:
    """A task factory that contains what :func:`contain_tasks` tells of; else as before."""

    def __init__(self, former: Callable[..., asyncio.Future[Any]] | None) -> None:
        self._former = former

    def __call__(
        self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
    ) -> asyncio.Future[Any]:
        # A guarded coroutine is contained already, and wrapping its steps again costs time.
        if is_contained() and getattr(coroutine, "cr_code", None) is not guarded.__code__:
            coroutine = ContainedCoroutine(coroutine)
        if self._former is None:
            return asyncio.Task(coroutine, loop=loop, **options)
        return self._former(loop, coroutine, **options)


class ContainedCoroutine(Coroutine[Any, Any, Any]):
    """A coroutine whose SystemExit is an Exception. In all else it is the one that it stands for.

    A KeyboardInterrupt in the main thread is left: it is the user's.
    """

    __slots__ = ("_coroutine",)

    def __init__(self, coroutine: Any) -> None:
        self._coroutine = coroutine

    def __getattr__(self, name: str) -> Any:
        # Tools that show where a task is ask for the members of its coroutine.
        return getattr(self._coroutine, name)

    def __await__(self) -> Generator[Any, Any, Any]:
        return self

    def send(self, value: Any) -> Any:
        try:
            return self._coroutine.send(value)
        except (SystemExit, KeyboardInterrupt) as error:
            raise_failure(error)

    def throw(self, *error: Any) -> Any:
        try:
            return self._coroutine.throw(*error)
        except (SystemExit, KeyboardInterrupt) as raised:
            raise_failure(raised)

    def close(self) -> None:
        self._coroutine.close()
