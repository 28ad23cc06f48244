"""The backend for trio: the operations that the shared parts need of an async library."""

from __future__ import annotations

import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import trio

from .failures import passing

logger = logging.getLogger(__name__)

StartSoon: TypeAlias = Callable[..., object]


class _Scope:
    """The scope of :class:`~copilot_bindings.serving.backend.Scope`, by a ``trio.CancelScope``."""

    def __init__(self) -> None:
        self._scope = trio.CancelScope()

    async def __aenter__(self) -> _Scope:
        self._scope.__enter__()
        return self

    async def __aexit__(self, *exc: Any) -> bool | None:
        return self._scope.__exit__(*exc)

    def cancel(self) -> None:
        self._scope.cancel()


class TrioBackend:
    """The :class:`~copilot_bindings.serving.backend.Backend` for trio.

    Each task has a shielded scope of its own, because a cancellation of the server must end the
    tasks in the order of a shutdown, and not all at once.

    :param start_soon: starts a task: that of a nursery, or ``trio.lowlevel.spawn_system_task``.
    """

    library = "trio"
    cancelled = trio.Cancelled
    leave_behind = None
    """Always None, because a nursery waits for all of its tasks, and an awaited coroutine may hold
    one."""

    def __init__(self, start_soon: StartSoon) -> None:
        self._start_soon = start_soon
        self._token = trio.lowlevel.current_trio_token()
        self._tasks: dict[trio.CancelScope, str] = {}
        self._thread = threading.get_ident()

    def current(self) -> object:
        return trio.lowlevel.current_task()

    def is_told_to_end(self) -> bool:
        # The answer is False, because a task is in a shielded scope, so that only this backend can
        # cancel it.
        return False

    def soon(self, callback: Callable[..., object], *args: Any) -> bool:
        try:
            self._token.run_sync_soon(callback, *args)
        except trio.RunFinishedError:
            return False
        return True

    def promptly(self, callback: Callable[..., object], *args: Any) -> None:
        if threading.get_ident() == self._thread:
            callback(*args)
        else:
            self.soon(callback, *args)

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

    def spawn(
        self, function: Callable[..., Awaitable[object]], *args: Any, name: str = ""
    ) -> trio.CancelScope:
        scope = trio.CancelScope(shield=True)
        self._tasks[scope] = name or function.__qualname__
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

    def flag(self) -> trio.Event:
        return trio.Event()

    def scope(self) -> _Scope:
        return _Scope()

    async def wait_for(self, flag: trio.Event, seconds: float) -> bool:
        with trio.move_on_after(seconds):
            await flag.wait()
        return flag.is_set()

    async def wait_through(
        self, flag: trio.Event, seconds: float, on_cancel: Callable[[], object]
    ) -> None:
        # ``on_cancel`` is not called, because trio delivers a cancellation again behind the shield.
        with trio.CancelScope(shield=True):
            await self.wait_for(flag, seconds)

    async def checkpoint(self) -> None:
        with trio.CancelScope(shield=True):
            await trio.lowlevel.checkpoint()

    async def seen_through(
        self, function: Callable[[], Awaitable[Any]], on_cancel: Callable[[], object] | None = None
    ) -> Any:
        # ``on_cancel`` is not called, because trio delivers a cancellation again behind the shield.
        with trio.CancelScope(shield=True):
            return await function()
        raise RuntimeError("what was waited for was cancelled")
