"""The context variables of one exchange (PEP 567).

A context variable that a hook sets is seen by the later parts of the same exchange, and by its
agent, but by no other exchange. For that each exchange has a context of its own. All functions of
the application are called in it, in whatever thread or task. The binding's own code stays outside,
because a context cannot be entered twice.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Awaitable, Callable, Generator
from contextvars import Context, ContextVar, copy_context
from functools import partial
from typing import Any, TypeVar

from msgspec import Struct

T = TypeVar("T")


CONTAINED: ContextVar[bool] = ContextVar("sansio_copilot_contained", default=False)
"""Whether tasks that are made in the current context are the application's."""


class CallContext(Struct, eq=False):
    """The context in which the parts of one exchange, or of one run, are called one after the
    other.

    :param current: the context in which the next part is to be called.
    """

    current: Context

    @classmethod
    def of_now(cls) -> CallContext:
        """Make one that begins with a copy of the current context."""
        context = copy_context()
        context.run(CONTAINED.set, True)
        return cls(context)

    def bound(self, function: Callable[..., T]) -> Callable[..., T]:
        """Bind ``function`` to the present context, so that it is called in that."""
        return partial(self.current.run, function)

    def leave(self) -> None:
        """Leave the context to the function that is running in it; the next part gets a copy."""
        self.current = self.current.copy()

    def awaitable(self, awaitable: Awaitable[Any]) -> ContextAwaitable:
        """Wrap ``awaitable`` so that each of its steps is made in this context."""
        return ContextAwaitable(awaitable, self.current)


class Dropped(BaseException):
    """The awaited coroutine has been left behind without its result."""


class ContextAwaitable:
    """An awaitable that is driven step by step in a context.

    This works with every async library, because the steps belong to the present task. A new task in
    that context would be enough for asyncio but not for trio, which gives each task a copy.

    :param awaitable: the awaitable.
    :param context: the context in which each step is made.
    """

    __slots__ = ("_awaitable", "_context", "_given_up", "_keeps_trying", "_step")

    def __init__(self, awaitable: Awaitable[Any], context: Context) -> None:
        self._context = context
        self._awaitable = awaitable
        # A coroutine is driven directly. A coroutine around it would be closed although the inner
        # one refuses to be closed.
        self._step: Any = awaitable if inspect.iscoroutine(awaitable) else _awaiting(awaitable)
        self._given_up = False
        self._keeps_trying = True

    def give_up(self, *, keep_trying: bool) -> None:
        """End the awaitable at its next step, even if it has swallowed its cancellation.

        :param keep_trying: whether to go on driving a coroutine that cannot be closed either.
        """
        self._given_up = True
        self._keeps_trying = keep_trying

    def close(self) -> None:
        """Close the coroutine without awaiting it, so that Python does not warn that it never
        was."""
        is_new = inspect.getcoroutinestate(self._step) == inspect.CORO_CREATED
        for each in (self._step, self._awaitable) if is_new else (self._step,):
            if (close := getattr(each, "close", None)) is not None:
                with contextlib.suppress(BaseException):
                    self._context.run(close)

    def __await__(self) -> Generator[Any, Any, Any]:
        run = self._context.run
        send, throw = self._step.send, self._step.throw
        step: Callable[[Any], Any] = send
        value: Any = None
        while True:
            try:
                waits_for = run(step, value)
            except StopIteration as stop:
                return stop.value
            try:
                value = yield waits_for
                step = send
            except BaseException as error:
                step, value = throw, error
            # The flag is checked after every step, because trio sends a cancellation as a value,
            # which looks like any other value here.
            if self._given_up:
                self.close()
                if inspect.getcoroutinestate(self._step) == inspect.CORO_CLOSED:
                    raise Dropped
                if not self._keeps_trying:
                    keep_for_ever(self._step)
                    raise Dropped


async def _awaiting(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def keep_for_ever(coroutine: object) -> None:
    """Keep Python from ever collecting ``coroutine`` or its task, which cannot be ended.

    Python would close it again at the end of the process, when no loop runs any more. Each await
    fails there at once, so that a coroutine which catches everything would go on for ever.
    """
    # ctypes is imported here, because few servers ever have such a coroutine. Other interpreters
    # than CPython lack the function, and close no coroutine at their end.
    import ctypes

    with contextlib.suppress(AttributeError):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(coroutine))
