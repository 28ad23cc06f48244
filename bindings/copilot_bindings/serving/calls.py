"""Calling the application's functions and the store, whether they are plain, async or blocking.

An async function is called, and its result awaited, on the event loop. A method of a store that
does not block is called at once. Everything else is called in an operating system thread, because
it may block. Each kind of function has threads of its own (:attr:`.Call.pool`), so that a function
that hangs, such as one that makes titles, takes no thread from another kind. Each function is
called in the context of its exchange (:mod:`.context`), and has a time limit (:class:`Limits`). At
the limit the call fails for its caller. Its task is cancelled, and left behind if it ignores the
cancellation; its thread is left alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from sansio_copilot import CopilotRuntime
from sansio_copilot.actions import Call, StoreCall
from sansio_copilot.functions import is_async

from .backend import Backend
from .context import CallContext
from .failures import contained, raise_failure
from .pending_call import CallTimeout, Pending, StoreTimeout
from .pool import CallPool
from .store_watches import lock_of

if TYPE_CHECKING:
    from .asyncio_backend import AsyncioBackend
    from .asyncio_thread import AsyncioThread


class Calls:
    """Makes the calls of one server to what the application brought.

    :param runtime: gives the store and the limits.
    """

    def __init__(self, runtime: CopilotRuntime) -> None:
        limits = runtime.limits
        self.lock = lock_of(runtime.store)
        self._seconds = {
            "hook": limits.hook_seconds,
            "store": limits.store_seconds,
            "service": limits.service_seconds,
        }
        self._size = int(limits.call_threads)
        self._pools: dict[str, CallPool] = {}
        self._pending: set[Pending] = set()
        self._thread: AsyncioThread | None = None

    def begin(
        self,
        action: Call,
        context: CallContext,
        backend: Callable[[], Backend],
        *,
        own: bool = False,
    ) -> Any:
        """Make the call; returns its outcome, or a :class:`Pending` one.

        :param backend: returns the backend on which to await; called if there is something to
            await.
        :param own: whether this thread belongs to the caller alone, so that a call without a time
            limit may block it.
        :raises Exception: the error of a plain function.
        """
        if action.loop is not None and backend().library != action.loop:
            from .asyncio_thread import for_asyncio

            backend = self.asyncio_backend
            context = CallContext(for_asyncio(context.current))
        function = action.function
        if isinstance(action, StoreCall) and not action.blocking:
            # The function is called right here and not by contained(), because a run and its
            # readers make this call for nearly every event.
            try:
                with self.lock.held:
                    outcome = context.current.run(function, *action.args)
            except Exception:
                raise
            except BaseException as error:
                raise_failure(error)
        elif is_async(function) or (own and self._seconds[action.part] == math.inf):
            outcome = context.current.run(contained, function, *action.args)
        else:
            pending = self._new_pending(action, context, backend)
            pending.begin_in_thread(self._pool(action), function, *action.args)
            return pending
        if not isinstance(outcome, Future) and not hasattr(outcome, "__await__"):
            return outcome
        pending = self._new_pending(action, context, backend)
        pending.begin_to_wait(outcome)
        return pending

    def give_up(self) -> list[str]:
        """Make each call that has not returned fail, at the end of a server; return their names."""
        pending = [call for call in list(self._pending) if not call.done]
        for call in pending:
            call.give_up(RuntimeError(f"{call.name} was given up at the end of the server"))
        return [call.name for call in pending]

    def drop(self) -> None:
        """End at once the tasks that were cancelled and have not ended."""
        for call in list(self._pending):
            call.drop()

    def release(self) -> None:
        """End the threads, at the end of a server; those that hang are left alone."""
        for pool in list(self._pools.values()):
            pool.release()
        if self._thread is not None:
            self._thread.end()
            self._thread = None

    def asyncio_backend(self) -> AsyncioBackend:
        """The backend of an asyncio loop in a thread, for calls that need one where the binding has
        none."""
        if self._thread is None:
            # The import stands here, because most trio programs need no asyncio.
            from .asyncio_thread import AsyncioThread

            self._thread = AsyncioThread()
        return self._thread.backend

    def _pool(self, action: Call) -> CallPool:
        """The pool of threads for the kind of function that ``action`` calls."""
        kind = action.pool
        if (pool := self._pools.get(kind)) is None:
            # Two threads may make a pool at the same time; setdefault() gives both the same one.
            made = CallPool(kind, self._size, self._seconds[action.part])
            pool = self._pools.setdefault(kind, made)
        return pool

    def _new_pending(
        self, action: Call, context: CallContext, backend: Callable[[], Backend]
    ) -> Pending:
        return Pending(
            action.name or repr(action.function),
            self._seconds[action.part],
            isinstance(action, StoreCall),
            StoreTimeout if action.part == "store" else CallTimeout,
            *(context, backend, self._pending),
        )
