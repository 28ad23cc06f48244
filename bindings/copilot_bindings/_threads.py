"""An event loop in the background: where runs live whose requests are answered in threads.

A request is answered in the thread that has it, so plain hooks may block and see their thread's
context. Runs, and whatever is async, live on one asyncio loop in a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, TypeAlias, TypeVar

from anyio.from_thread import BlockingPortal

from sansio_copilot import CopilotRuntime, Run, RunRefused
from sansio_copilot.actions import Call, StoreCall, WaitForFrames

from ._asyncio_backend import AsyncioBackend
from ._bodies import Bodies
from ._call import begin_watch, contained, end_watch, failure, is_pending, lock_of
from ._service import SHUTDOWN, Connection, Service

logger = logging.getLogger("sansio_copilot")

T = TypeVar("T")
Await: TypeAlias = Callable[[Callable[..., Any], tuple[Any, ...]], Any]


class LoopEnded(RuntimeError):
    """The event loop of the runs has ended, though nobody has closed it."""

    def __init__(self) -> None:
        super().__init__("the event loop of the runs has ended")


class BackgroundLoop:
    """An event loop that owns the runs of ``runtime``. Begins at once, and ends by :meth:`close`.

    Its thread is a daemon: what does not let itself be ended does not keep the process alive.

    :param grace_seconds: how long responses and runs may go on once it closes.
    :param stop_listening: called on the loop when the shutdown begins.
    """

    def __init__(
        self,
        runtime: CopilotRuntime,
        grace_seconds: float,
        stop_listening: Callable[[], object] = lambda: None,
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
            args=(grace_seconds, stop_listening, begun),
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
    def closing(self) -> bool:
        """Whether the shutdown has begun."""
        return self.service.closing

    def start_run(self, run: Run) -> None:
        """Give ``run`` a home on the loop.

        :raises RunRefused: if the runs have been ended already, or too many are live.
        """
        self._call(self.service.start_run, run)

    def wait(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Call ``function`` on the loop, and wait for what it returns to be awaited.

        :raises RunRefused: if the loop has ended.
        """
        return self._call(_awaited, function, args)

    def begin(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Future[Any]:
        """The same without waiting. Cancelling the future cancels what is awaited.

        :raises RunRefused: if the loop has ended.
        """
        return self._ask(self._portal.start_task_soon, _awaited, function, args)

    def call(self, action: Call) -> Any:
        """Perform ``action``; returns its outcome. See :func:`call`."""
        return call(action, self.runtime, self.wait)

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
        except RuntimeError:
            if self._over:
                # It is the portal's, which takes no more calls.
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

    def wait_closed(self) -> None:
        """Wait until the loop has ended, whoever closed it.

        :raises LoopEnded: if nobody did.
        """
        self._thread.join()
        if self.failure is not None:
            raise LoopEnded from self.failure

    # The loop

    def _live(
        self, grace_seconds: float, stop_listening: Callable[[], object], begun: Future[None]
    ) -> None:
        async def main() -> None:
            async with BlockingPortal() as self._portal:
                self.backend = AsyncioBackend()
                self.service = Service(self.runtime, self.backend, grace_seconds)
                begun.set_result(None)
                await self.service.serve_until_closed(stop_listening)
                self._over = True
                await self._portal.stop(cancel_remaining=True)

        try:
            with asyncio.Runner() as runner:
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


def _run_until_done(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> None:
    try:
        loop.run_until_complete(task)
    except BaseException as error:
        if not task.done():
            # An agent's callback has raised SystemExit, say, or stopped the loop. Nothing is lost.
            logger.error("an agent has stopped the event loop, which goes on: %r", error)


async def _awaited(function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    try:
        outcome = function(*args)
        return await outcome if is_pending(outcome) else outcome
    except Exception:
        raise
    except BaseException as error:
        # It is the caller's to know, and not to end the loop.
        raise failure(error) from error


def call(action: Call, runtime: CopilotRuntime, wait: Await) -> Any:
    """Perform ``action`` in this thread; returns its outcome.

    :param wait: for a coroutine function and for what is to be awaited: calls a function on the
        loop, and waits for what it returns.
    :raises Exception: what the function raises.
    """
    if isinstance(action, StoreCall):
        # The core's stores know nothing of threads.
        with contextlib.nullcontext() if action.blocking else lock_of(runtime.store):
            outcome = contained(action.function, *action.args)
    elif inspect.iscoroutinefunction(action.function):
        return wait(action.function, action.args)
    else:
        outcome = contained(action.function, *action.args)
    return wait(_itself, (outcome,)) if is_pending(outcome) else outcome


def _itself(outcome: Any) -> Any:
    return outcome


@contextlib.contextmanager
def watching(
    action: WaitForFrames, runtime: CopilotRuntime, notify: Callable[[], None]
) -> Iterator[None]:
    """Have ``notify`` called when there are frames, from whatever thread, while this lasts."""
    lock = lock_of(runtime.store)
    unwatch = begin_watch(lock, action.store, "watch", action.cursor, notify)
    try:
        yield
    finally:
        end_watch(lock, unwatch)
