"""Tasks that agents and hooks make on the server's loop, which must not end the loop.

asyncio lets a SystemExit of any task leave its loop, which would end the server with all its runs.
A SystemExit of an agent or a hook is caught where the agent or hook is awaited. But a task that an
agent or hook has made is not awaited there. So the loop gets a task factory, by which such a task
fails as with any other exception.

The factory also has the server's own tasks begin where they are made (:mod:`.asyncio_own_tasks`). A
user's own factory decides for itself, and so does the loop for everybody else's tasks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from .asyncio_own_tasks import begun_task, guarded
from .context import CONTAINED
from .failures import raise_failure


def install(loop: asyncio.AbstractEventLoop) -> None:
    """Put a :class:`TaskFactory` in front of the task factory of ``loop``, unless that is done."""
    former = loop.get_task_factory()
    if not isinstance(former, TaskFactory):
        loop.set_task_factory(TaskFactory(former))


class TaskFactory:
    """A task factory that wraps the coroutines of agents and hooks in :class:`ContainedCoroutine`.

    These are the coroutines of tasks made in a context in which ``CONTAINED`` is set.

    :param former: makes the tasks; None for ``asyncio.Task``.
    """

    def __init__(self, former: Callable[..., asyncio.Future[Any]] | None) -> None:
        self._former = former

    def __call__(
        self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
    ) -> asyncio.Future[Any]:
        is_own = getattr(coroutine, "cr_code", None) is guarded.__code__
        # A guarded coroutine is contained already, and wrapping its steps again costs time.
        if CONTAINED.get() and not is_own:
            coroutine = ContainedCoroutine(coroutine)
        if self._former is None:
            make = begun_task if is_own else asyncio.Task
            return make(coroutine, loop=loop, **options)
        return self._former(loop, coroutine, **options)


class ContainedCoroutine(Coroutine[Any, Any, Any]):
    """Wraps a coroutine, and turns a SystemExit that it raises into an Exception.

    A KeyboardInterrupt in the main thread is left as it is, because it comes from the user. In
    everything else this object behaves as the wrapped coroutine.
    """

    __slots__ = ("_coroutine",)

    def __init__(self, coroutine: Any) -> None:
        self._coroutine = coroutine

    def __getattr__(self, name: str) -> Any:
        # Other members are those of the wrapped coroutine, because tools read them to show where a
        # task is.
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
