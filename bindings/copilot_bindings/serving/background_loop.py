"""An event loop in the background, for bindings that answer requests in threads (sockets, WSGI).

A request is answered in its own thread. Runs, and all async functions, live on one asyncio loop,
which has a thread of its own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from anyio.from_thread import BlockingPortal

from sansio_copilot import CopilotRuntime, Run, RunRefused
from sansio_copilot.actions import WaitForFrames

from .admission import Closable
from .asyncio_backend import AsyncioBackend
from .asyncio_thread import run_to_its_end
from .body_limits import Bodies
from .calls import Calls
from .context import CallContext
from .service import SHUTDOWN, Service
from .shutdown import LoopEnded, serve_until_closed
from .store_life import NotStarted
from .store_watches import StoreLock, begin_watch, end_watch

logger = logging.getLogger(__name__)

T = TypeVar("T")

_LONGEST_JOIN_SECONDS = 0.5


class BackgroundLoop:
    """An event loop that owns the runs of ``runtime``. It begins at once, and ends by
    :meth:`close`.

    Its thread is a daemon, so that an agent which ignores its cancellation does not keep the
    process alive.

    :param runtime: the runtime that is served.
    :param grace_seconds: how many seconds responses and runs may go on once the loop closes.
    :param stop_listening: called on the loop when the shutdown begins.
    :param calls: makes the calls of the threads as well as those of the loop, so that the shutdown
        gives up calls that hang; the service makes its own if None.
    :raises NotStarted: if the runtime's store cannot be opened, if its ``on_start`` has failed, or
        if the system has no descriptor or thread for the loop.
    """

    def __init__(
        self,
        runtime: CopilotRuntime,
        grace_seconds: float,
        stop_listening: Callable[[], object] = lambda: None,
        calls: Calls | None = None,
    ) -> None:
        self.process = os.getpid()
        """The id of the process that has the loop's thread; a forked process does not have it."""
        self.failure: BaseException | None = None
        """The error that has ended the loop; None if there was none."""
        self.service: Service
        self.backend: AsyncioBackend
        self._portal: BlockingPortal
        self._over = False
        begun: Future[None] = Future()
        # anyio's start_blocking_portal() is not used, because its context manager is a generator:
        # in a forked process that would be finalized too, and wait for a thread of the parent.
        self._thread = threading.Thread(
            target=self._live,
            args=(runtime, grace_seconds, stop_listening, calls, begun),
            name="copilot-loop",
            daemon=True,
        )
        try:
            self._thread.start()
            begun.result()
        except (OSError, RuntimeError) as error:
            if isinstance(error, NotStarted):
                raise
            # The system has no descriptor or thread now, but may have one for the next request.
            raise NotStarted(f"the loop of the runs cannot begin: {error}") from error

    # Requests of other threads

    @property
    def runtime(self) -> CopilotRuntime:
        """The runtime that is served."""
        return self.service.runtime

    @property
    def calls(self) -> Calls:
        """The object that makes the calls of what the application brought."""
        return self.service.calls

    @property
    def bodies(self) -> Bodies:
        """The room for the bodies of requests."""
        return self.service.bodies

    @property
    def context(self) -> CallContext:
        """The context that each exchange gets a copy of."""
        return self.service.context

    @property
    def closing(self) -> bool:
        """Whether the shutdown has begun."""
        return self.service.closing

    def start_run(self, run: Run) -> bool:
        """Give ``run`` a home on the loop.

        To be called in the context of the exchange, because the agent gets a copy of that.

        :returns: whether the agent has had its first turn.
        :raises RunRefused: if the runs have been ended already, or if ``Limits.runs`` are live.
        """
        begun: bool = self._call(self.service.start_run, run)
        return begun

    def live_backend(self) -> AsyncioBackend:
        """The backend on which async functions are to be awaited.

        :raises RunRefused: if the loop has ended.
        """
        if self._over:
            raise RunRefused(SHUTDOWN)
        return self.backend

    def connection_ended(self, connection: Closable) -> None:
        """Remove a connection from those of the service, because it has ended."""
        # The connection is removed at once, because its thread may have the next connection before
        # the loop has a turn.
        self.service.forget(connection)
        self.backend.soon(self.service.connection_ended, connection)

    def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        return self._ask(self._portal.call, function, *args)

    def _ask(self, how: Callable[..., T], *args: Any) -> T:
        try:
            return how(*args)
        except (RuntimeError, CancelledError):
            if self._over:
                # The error is the portal's: when the loop ends it refuses new calls, and cancels
                # the present ones.
                raise RunRefused(SHUTDOWN) from None
            raise

    # Shutdown

    def begin_close(self, grace_seconds: float | None = None) -> None:
        """Begin to shut down as :meth:`close` does, and return at once; for a signal handler."""
        self.backend.soon(self.service.begin_close, grace_seconds)

    def close(self, grace_seconds: float | None = None) -> None:
        """Let responses finish, end the runs that are left, and then end the loop.

        :param grace_seconds: the grace period; None for the one that the loop was begun with.
        :raises LoopEnded: if something else has ended the loop.
        """
        self.begin_close(grace_seconds)
        self.wait_closed()

    def wait_closed(self, seconds: float | None = None) -> None:
        """Wait until the loop has ended.

        :param seconds: how long to wait at most; None for no limit.
        :raises LoopEnded: if the loop has ended without :meth:`close`.
        """
        if seconds is None:
            # The wait is made in pieces, because Python calls a signal's handler between two steps
            # of the main thread: a signal that comes just before the thread begins to wait, or that
            # the system gives to another thread, does not end the wait.
            while self._thread.is_alive():
                self._thread.join(_LONGEST_JOIN_SECONDS)
        else:
            self._thread.join(seconds)
        if self.failure is not None:
            raise LoopEnded from self.failure

    # Life of the thread

    def _live(
        self,
        runtime: CopilotRuntime,
        grace_seconds: float,
        stop_listening: Callable[[], object],
        calls: Calls | None,
        begun: Future[None],
    ) -> None:
        async def main() -> None:
            self.backend = AsyncioBackend()
            self.service = Service(runtime, self.backend, grace_seconds, calls)
            await self.service.life.open()
            async with BlockingPortal() as self._portal:
                begun.set_result(None)
                try:
                    await serve_until_closed(self.service, stop_listening)
                finally:
                    # The flag is set before the portal ends, so that a call which the portal
                    # refuses is known to come too late.
                    self._over = True
                await self._portal.stop(cancel_remaining=True)

        try:
            run_to_its_end(main)
        except BaseException as error:
            self._over = True
            if begun.done():
                self.failure = error
                logger.critical("the event loop of the runs has ended", exc_info=error)
            else:
                begun.set_exception(error)


@contextlib.contextmanager
def watching(
    action: WaitForFrames, lock: StoreLock, context: CallContext, notify: Callable[[], None]
) -> Iterator[None]:
    """Have ``notify`` called from any thread, when there are frames, until the block is left."""
    unwatch = begin_watch(lock, context, action.store.watch, action.cursor, notify)
    try:
        yield
    finally:
        end_watch(lock, context, unwatch)
