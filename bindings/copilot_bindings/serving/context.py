"""The context variables of one exchange (PEP 567).

What a hook sets, the later parts of its exchange see, its agent among them, and nobody else. For
that each exchange has a context of its own, in which everything of the application's is called,
whatever the thread or the task. The binding's own code stays outside, since a context cannot be
entered twice.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Awaitable, Callable, Generator
from contextvars import Context, ContextVar, copy_context
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


_contained: ContextVar[bool] = ContextVar("sansio_copilot_contained", default=False)


def contain_tasks() -> None:
    """From here on, what this context makes tasks of is the application's."""
    _contained.set(True)


def is_contained() -> bool:
    """Whether what this context makes tasks of is the application's."""
    return _contained.get()


class CallContext:
    """Where the parts of one exchange, or of one run, are called, one after the other.

    :param context: becomes the exchange's own; a copy of the current one unless given.
    """

    __slots__ = ("current",)

    def __init__(self, context: Context | None = None) -> None:
        if context is None:
            context = copy_context()
            context.run(contain_tasks)
        self.current = context
        """What the next part is to be called in."""

    def bound(self, function: Callable[..., T]) -> Callable[..., T]:
        """``function``, called in what is the context now."""
        return partial(self.current.run, function)

    def copy(self) -> CallContext:
        """Another that begins with the same values."""
        return CallContext(self.current.copy())

    def leave(self) -> None:
        """Leave the context to what is running in it; what comes next has a copy."""
        self.current = self.current.copy()

    def steps(self, awaitable: Awaitable[Any]) -> Steps:
        """``awaitable``, whoever awaits it, with each of its steps made in this context."""
        return Steps(awaitable, self.current)


class Dropped(BaseException):
    """What was awaited has been left behind."""


class Steps:
    """An awaitable that is driven step by step in a context.

    That works for every async library, as it sees the task that it knows. A task of its own in
    that context would do for asyncio, but not for trio, whose tasks have copies.
    """

    __slots__ = ("_awaitable", "_context", "_given_up", "_keeps_trying", "_step")

    def __init__(self, awaitable: Awaitable[Any], context: Context) -> None:
        self._context = context
        self._awaitable = awaitable
        self._step = _awaiting(awaitable)
        self._given_up = False
        self._keeps_trying = True

    def give_up(self, *, keep_trying: bool) -> None:
        """End it at its next step, even if it has swallowed its cancellation.

        :param keep_trying: go on to drive what does not let itself be closed either.
        """
        self._given_up = True
        self._keeps_trying = keep_trying

    def close(self) -> None:
        """Never await it. Python warns of a coroutine that nobody awaits, unless it is closed."""
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
            # trio sends a cancellation as a value, so that it is not told from anything else here.
            if self._given_up:
                self.close()
                is_closed = inspect.getcoroutinestate(self._step) == inspect.CORO_CLOSED
                if is_closed or not self._keeps_trying:
                    raise Dropped


async def _awaiting(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
