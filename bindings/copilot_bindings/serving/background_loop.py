"""An event loop in the background: where runs live whose requests are answered in threads.

A request is answered in the thread that has it. Runs, and whatever is async, live on one asyncio
loop in a thread of its own.
"""

from __future__ import annotations

import asyncio
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

from .asyncio_backend import AsyncioBackend
from .bodies import Bodies
from .calls import Calls, StoreLock, begin_watch, end_watch
from .context import CallContext
from .service import SHUTDOWN, Connection, LoopEnded, Service

logger = logging.getLogger(__name__)

T = TypeVar("T")


class BackgroundLoop:
    """An event loop that owns the runs of ``runtime``. Begins at once, and ends by :meth:`close`.

    Its thread is a daemon: what does not let itself be ended does not keep the process alive.

    :param grace_seconds: how long responses and runs may go on once it closes.
    :param stop_listening: called on the loop when the shutdown begins.
    :param calls: makes the calls of its threads too, so that they are given up at its end.
    """

    def __init__(
        self,
        runtime: CopilotRuntime,
        grace_seconds: float,
        stop_listening: Callable[[], object] = lambda: None,
        calls: Calls | None = None,
    ) -> None:
        self.runtime = runtime
        self.process = os.getpid()
        """The process that has the thread; a fork of it has not."""
        self.failure: BaseException | None = None
        """What has ended the loop, if that was not :meth:`close`."""
        self.service: Service
        self.backend: AsyncioBackend
        self._portal: BlockingPortal
        self._over = False
        begun: Future[None] = Future()
        # Not by start_blocking_portal: that is left by a generator, which would be finalized in
        # a forked process too, and wait there for a thread that only its parent has.
        self._thread = threading.Thread(
            target=self._live,
            args=(grace_seconds, stop_listening, calls, begun),
            name="copilot-loop",
            daemon=True,
        )
        self._thread.start()
        begun.result()

    # What a thread asks of the loop

    @property
    def bodies(self) -> Bodies:
        """The room for the bodies of requests."""
        return self.service.bodies

    @property
    def context(self) -> CallContext:
        """What the context of each exchange is a copy of."""
        return self.service.context

    @property
    def closing(self) -> bool:
        """Whether the shutdown has begun."""
        return self.service.closing

    def start_run(self, run: Run) -> None:
        """Give ``run`` a home on the loop; to be called in the context of that.

        :raises RunRefused: if the runs have been ended already, or too many are live.
        """
        self._call(self.service.start_run, run)

    def home(self) -> AsyncioBackend:
        """Where to await.

        :raises RunRefused: if the loop has ended.
        """
        if self._over:
            raise RunRefused(SHUTDOWN)
        return self.backend

    def connection_ended(self, connection: Connection) -> None:
        """Forget a connection that was admitted by the service."""
        # At once, since its thread may have the next before the loop gets to it.
        self.service.connections.discard(connection)
        self.backend.soon(self.service.connection_ended, connection)

    def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        return self._ask(self._portal.call, function, *args)

    def _ask(self, how: Callable[..., T], *args: Any) -> T:
        try:
            return how(*args)
        except (RuntimeError, CancelledError):
            if self._over:
                # It is the portal's, which takes no more calls, and cancels those that it has.
                raise RunRefused(SHUTDOWN) from None
            raise

    # The end

    def begin_close(self, grace_seconds: float | None = None) -> None:
        """Begin what :meth:`close` does and return at once; for a signal handler."""
        self.backend.soon(self.service.begin_close, grace_seconds)

    def close(self, grace_seconds: float | None = None) -> None:
        """Let responses finish, end the runs that are left, and then the loop.

        :param grace_seconds: instead of what the loop was begun with.
        :raises LoopEnded: if something else has ended it.
        """
        self.begin_close(grace_seconds)
        self.wait_closed()

    def wait_closed(self, seconds: float | None = None) -> None:
        """Wait until the loop has ended, whoever closed it.

        :param seconds: how long at most; for ever if None.
        :raises LoopEnded: if nobody did.
        """
        self._thread.join(seconds)
        if self.failure is not None:
            raise LoopEnded from self.failure

    # The loop

    def _live(
        self,
        grace_seconds: float,
        stop_listening: Callable[[], object],
        calls: Calls | None,
        begun: Future[None],
    ) -> None:
        async def main() -> None:
            async with BlockingPortal() as self._portal:
                self.backend = AsyncioBackend()
                self.service = Service(self.runtime, self.backend, grace_seconds, calls)
                begun.set_result(None)
                try:
                    await self.service.serve_until_closed(stop_listening)
                finally:
                    # Before the portal ends, however that is: it takes no more calls then.
                    self._over = True
                await self._portal.stop(cancel_remaining=True)

        try:
            with _closing(asyncio.Runner()) as runner:
                loop = runner.get_loop()
                task = loop.create_task(main())
                while not task.done():
                    _run_until_done(loop, task)
                task.result()
        except BaseException as error:
            self._over = True
            if begun.done():
                self.failure = error
                logger.critical("the event loop of the runs has ended", exc_info=error)
            else:
                begun.set_exception(error)


@contextlib.contextmanager
def _closing(runner: asyncio.Runner) -> Iterator[asyncio.Runner]:
    try:
        yield runner
    finally:
        try:
            runner.close()
        except RuntimeError as error:
            # From Python 3.12 on no thread can be begun any more at the interpreter's end, and
            # asyncio begins one to wait for those of its executor. Python itself has waited for
            # them then, and the loop is closed all the same.
            if "new thread" not in str(error):
                raise


def _run_until_done(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> None:
    try:
        loop.run_until_complete(task)
    except BaseException as error:
        if not task.done():
            # An agent's callback has raised SystemExit, say, or stopped the loop. Nothing is lost.
            logger.error("an agent has stopped the event loop, which goes on: %r", error)


@contextlib.contextmanager
def watching(
    action: WaitForFrames, lock: StoreLock, context: CallContext, notify: Callable[[], None]
) -> Iterator[None]:
    """Have ``notify`` called when there are frames, from whatever thread, while this lasts."""
    unwatch = context.current.run(begin_watch, lock, action.store, "watch", action.cursor, notify)
    try:
        yield
    finally:
        context.current.run(end_watch, lock, unwatch)
