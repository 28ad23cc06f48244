"""The home of one run under asyncio: a task that drives the agent beside any request."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from sansio_copilot import Run, RunState
from sansio_copilot.actions import Call, RunAction, RunOver

from ._asyncio_call import INTERRUPTS, begin, is_pending
from ._iterate import ThreadedIterator

logger = logging.getLogger("sansio_copilot")

_TURN = 64
"""Events that an agent which never waits may yield before its readers get their turn."""


class RunHome:
    """Drives a run to its end: :meth:`main` is the coroutine of its task."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._task: asyncio.Task[Any] | None = None
        self._checking: asyncio.Task[None] | None = None
        self._over: RunOver | None = None
        self._patience: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<RunHome of {self._run.context.agent_id!r}, run {self._run.key.run_id!r}>"

    async def main(self) -> None:
        """Live until the run is over and its agent has ended."""
        run = self._run
        self._task = asyncio.current_task()
        events: AsyncIterator[Any] | None = None
        unwatch = renewal = None
        try:
            await self._store(run.start(time.time()))
            unwatch = run.store.watch_run(run.key, self._notified)
            if run.lease is not None:
                renewal = self._loop.create_task(self._renew(run.lease / 3))
            events = await self._open()
            if events is not None:
                await self._follow(events)
        except asyncio.CancelledError:
            # Of a run that is over this is the answer to our own cancel().
            if self._over is None:
                await self.interrupt("The run was cancelled")
        except Exception:
            # A store's watch_run, say. The run must not stay open, nor the server go down with it.
            logger.exception("the home of run %r failed", run.key.run_id)
            await self.interrupt("The server failed")
        finally:
            if unwatch is not None:
                unwatch()
            if renewal is not None:
                renewal.cancel()
            await self._leave(events)

    async def interrupt(self, reason: str) -> None:
        """End the run from outside; ``reason`` reaches its readers.

        A store call in progress is seen through first, by whoever made it.
        """
        action = self._run.interrupt(time.time(), reason)
        if action is not None:
            await self._store(action)
            self.cancel()

    async def _open(self) -> AsyncIterator[Any] | None:
        try:
            events = self._run.events()
            if inspect.isawaitable(events):
                events = await events
            return aiter(events) if hasattr(events, "__aiter__") else ThreadedIterator(iter(events))
        except INTERRUPTS:
            raise
        except BaseException as error:
            await self._store(self._run.agent_ended(time.time(), error))
            return None

    async def _follow(self, events: AsyncIterator[Any]) -> None:
        run = self._run
        pulled = 0
        while True:
            ended, failure, event = False, None, None
            try:
                event = await anext(events)
            except StopAsyncIteration:
                ended = True
            except INTERRUPTS:
                raise
            except BaseException as error:
                ended, failure = True, error
            if self._patience is not None:
                self._patience.cancel()
                self._patience = None
            if self._checking is not None:
                await self._checked()
            if self._over is not None:
                return
            now = time.time()
            action = run.agent_ended(now, failure) if ended else run.event(event, now)
            await self._store(action)
            if self._over is not None:
                return
            if pulled % _TURN == 0:
                await asyncio.sleep(0)
            pulled += 1

    async def _store(self, action: RunAction) -> None:
        """Perform store calls until the run wants an event, or nothing more."""
        run = self._run
        while isinstance(action, Call):
            try:
                outcome = begin(action)
                if is_pending(outcome):
                    outcome = await self._seen_through(outcome)
            except Exception as error:
                action = run.store_failed(error, time.time())
            else:
                action = run.stored(outcome, time.time())
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        if isinstance(action, RunOver):
            self._over = action
        elif action.patience is not None:
            self._patience = self._loop.call_later(action.patience, self._begin, self._settled)

    async def _seen_through(self, awaitable: Awaitable[Any]) -> Any:
        """The outcome of a store call, which a cancellation of the run must not cut short."""
        task = asyncio.ensure_future(awaitable)
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:
                if self._over is None:
                    self._run.interrupt(time.time(), "The run was cancelled")
        if task.cancelled():
            raise RuntimeError("the store call was cancelled")
        return task.result()

    async def _leave(self, events: AsyncIterator[Any] | None) -> None:
        """Let the agent clean up."""
        try:
            if events is not None and self._over is not None and self._over.agent == "drain":
                dropped = 0
                async for event in events:
                    if dropped == 0:
                        logger.warning(
                            "agent %r yields after the end of its run, which is dropped: %s",
                            self._run.context.agent_id,
                            type(event).__name__,
                        )
                    dropped += 1
                    if dropped % _TURN == 0:
                        await asyncio.sleep(0)
            if (close := getattr(events, "aclose", None)) is not None:
                await close()
        except asyncio.CancelledError:
            # Nothing is left to be interrupted.
            pass
        except KeyboardInterrupt:
            raise
        except BaseException:
            logger.exception("agent %r failed while it cleaned up", self._run.context.agent_id)

    # What happens while the agent is waited for

    def _notified(self) -> None:
        if threading.get_ident() == self._thread:
            self._begin(self._check)
        else:
            self._loop.call_soon_threadsafe(self._begin, self._check)

    def _begin(self, call: Callable[[], RunAction | None]) -> None:
        if (action := call()) is not None:
            self._checking = self._loop.create_task(self._perform(action))

    def _check(self) -> RunAction | None:
        return self._run.check()

    def _settled(self) -> RunAction | None:
        pulling = self._run.state is RunState.PULLING
        return self._run.settle(time.time()) if pulling else None

    async def _perform(self, action: RunAction) -> None:
        await self._store(action)
        self._checking = None
        if self._over is not None and self._over.agent == "cancel":
            self.cancel()

    async def _checked(self) -> None:
        if self._checking is not None:
            await asyncio.shield(self._checking)

    async def _renew(self, interval: float) -> None:
        while True:
            await asyncio.sleep(interval)
            self._begin(self._check)

    def cancel(self) -> None:
        """Cancel the agent of a run that is over."""
        task = self._task
        if task is not None and task is not asyncio.current_task():
            task.cancel()
