"""The shared parts' needs, by trio."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import trio

from ._call import Pending, passing

logger = logging.getLogger("sansio_copilot")

StartSoon: TypeAlias = Callable[..., object]


class TrioBackend:
    """Tasks of a nursery, or whatever ``start_soon`` puts them into. See
    :class:`._backend.Backend`.

    A task has a shielded scope of its own: what ends the server ends its tasks in order, and not
    all at once.
    """

    cancelled = trio.Cancelled

    def __init__(self, start_soon: StartSoon) -> None:
        self._start_soon = start_soon
        self._token = trio.lowlevel.current_trio_token()
        self._tasks: dict[trio.CancelScope, str] = {}
        self._calls: dict[trio.CancelScope, Pending] = {}

    def current(self) -> object:
        return trio.lowlevel.current_task()

    def is_told_to_end(self) -> bool:
        # What is shielded is cancelled by us.
        return False

    def soon(self, callback: Callable[..., object], *args: Any) -> bool:
        try:
            self._token.run_sync_soon(callback, *args)
        except trio.RunFinishedError:
            return False
        return True

    def later(
        self, seconds: float, callback: Callable[..., object], *args: Any
    ) -> trio.CancelScope:
        scope = trio.CancelScope(shield=True)

        async def wait() -> None:
            with scope:
                await trio.sleep(seconds)
                callback(*args)

        self._start_soon(wait)
        return scope

    def spawn(self, function: Callable[..., Awaitable[object]], *args: Any) -> trio.CancelScope:
        scope = trio.CancelScope(shield=True)
        self._tasks[scope] = function.__qualname__
        self._start_soon(self._live, scope, function, args)
        return scope

    async def _live(
        self,
        scope: trio.CancelScope,
        function: Callable[..., Awaitable[object]],
        args: tuple[Any, ...],
    ) -> None:
        try:
            with scope:
                await function(*args)
        except passing(trio.Cancelled):
            raise
        except BaseException:
            logger.exception("a task of the server failed")
        finally:
            del self._tasks[scope]

    def cancel_all(self) -> list[str]:
        for scope in self._tasks:
            scope.cancel()
        return list(self._tasks.values())

    def event(self) -> trio.Event:
        return trio.Event()

    async def wait_for(self, event: trio.Event, seconds: float) -> bool:
        with trio.move_on_after(seconds):
            await event.wait()
        return event.is_set()

    async def checkpoint(self) -> None:
        with trio.CancelScope(shield=True):
            await trio.lowlevel.checkpoint()

    async def in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        return await trio.to_thread.run_sync(functools.partial(function, *args))

    async def seen_through(
        self, awaitable: Awaitable[Any], on_cancel: Callable[[], object] | None = None
    ) -> Any:
        # trio remembers a cancellation until the shield is gone.
        with trio.CancelScope(shield=True) as scope:
            if isinstance(awaitable, Pending):
                self._calls[scope] = awaitable
            try:
                return await awaitable
            finally:
                self._calls.pop(scope, None)
        raise RuntimeError("what was waited for was cancelled")

    def give_up(self) -> list[str]:
        for scope in self._calls:
            scope.cancel()
        return [repr(call) for call in self._calls.values()]
