"""The home of one run: a task that drives the agent beside any request."""

from __future__ import annotations

import _thread
import contextlib
import inspect
import logging
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

from sansio_copilot import Run, RunState
from sansio_copilot.actions import PULL, Pause, PullEvent, RunAction, RunOver, StoreCall
from sansio_copilot.stores.protocol import Signal

from .backend import Backend, Event, Task
from .calls import Calls
from .context import CallContext
from .failures import contained, passing
from .iterate import ThreadedIterator
from .pending import Pending
from .watches import begin_watch, end_watch, locked, weakly

logger = logging.getLogger(__name__)

_TURN = 64
"""Events that an agent which never waits may yield before its readers get their turn."""
_BATCH_SECONDS = 0.004
"""How long an event waits for others: less than anybody notices, and enough that a burst costs its
readers one wake-up, one write and one packet instead of hundreds."""


class RunHome:
    """Drives a run to its end, by whatever async library ``backend`` stands for.

    To be made and begun in the context of the exchange that starts the run: the agent's is a copy
    of that, and so is the one in which the store is called for it.
    """

    __slots__ = (
        *("_abandonment", "_backend", "_calls", "_checking", "_context", "_dropped", "_flusher"),
        *("_interrupts", "_living", "_lock", "_over", "_patience", "_renewal", "_run", "_task"),
        "__weakref__",
    )

    def __init__(self, run: Run, backend: Backend, calls: Calls) -> None:
        self._run = run
        self._backend = backend
        self._calls = calls
        self._context = CallContext()
        self._lock = calls.lock
        self._interrupts = passing(backend.cancelled)
        self._task: Task | None = None
        self._living: object = None
        """The library's own task, while it lives in one."""
        self._abandonment: Task | None = None
        self._checking: Event | None = None
        self._over: RunOver | None = None
        self._dropped = 0
        self._patience: Task | None = None
        self._flusher: Task | None = None
        self._renewal: Task | None = None
        run.batch_seconds = _BATCH_SECONDS
        if run.tap is not None:
            run.tap = partial(locked, self._lock, run.tap)

    def __repr__(self) -> str:
        return f"<RunHome of {self._run.context.agent_id!r}, run {self._run.key.run_id!r}>"

    @property
    def is_prompt(self) -> bool:
        """Whether the run's store answers at once."""
        store = self._run.store
        return not (store.blocking or inspect.iscoroutinefunction(store.close_run))

    def begin(self, ended: Callable[[RunHome], object]) -> None:
        """Begin to live; ``ended`` is told when the run is over and its agent has ended."""
        self._task = self._backend.spawn(self._live, ended)

    async def interrupt(self, reason: str) -> None:
        """End the run from outside; ``reason`` reaches its readers.

        A store call in progress is seen through first, by whoever made it.
        """
        if await self._end(reason):
            self.cancel()

    def cancel(self) -> None:
        """Cancel the agent."""
        if self._task is not None:
            self._task.cancel()

    async def _live(self, ended: Callable[[RunHome], object]) -> None:
        run = self._run
        events: AsyncIterator[Any] | None = None
        unwatch = None
        dropped = False
        self._living = self._backend.current()
        try:
            await self._store(run.start(time.time()))
            try:
                notify = weakly(self._notified)
                unwatch = begin_watch(
                    self._lock, self._context, run.store, "watch_run", run.key, notify
                )
            except Exception:
                logger.exception("store method watch_run failed in run %r", run.key.run_id)
                await self._end("The thread store failed")
                return
            if run.audience is not None:
                run.audience.on_empty = weakly(self._left_alone)
                if run.audience.is_empty:
                    self._left_alone()
            if run.lease is not None:
                self._renewal = self._backend.later(run.lease / 3, self._renew)
            events = await self._open()
            if events is not None:
                await self._follow(events)
        except self._backend.cancelled:
            # Of a run that is over this is the answer to our own cancel().
            if self._over is None:
                if not self._backend.is_told_to_end():
                    # The agent awaited something that was cancelled.
                    logger.error("agent %r was cancelled", run.context.agent_id)
                await self._end("The run was cancelled")
        except Exception:
            # The run must not stay open, nor the server go down with it.
            logger.exception("the home of run %r failed", run.key.run_id)
            await self._end("The server failed")
        except KeyboardInterrupt:
            # It ends the server, and may have come while the agent ran.
            await self._end("The server was interrupted")
            raise
        except GeneratorExit:
            dropped = True
            self.abandon()
            if self._backend.current() is self._living:
                # The error comes from what the agent awaited, and closed all that awaits it.
                # Nothing can be awaited here any more, but the loop goes on.
                ended(self)
            raise
        finally:
            # One coroutine, since each that waits takes memory of every stream that does.
            if unwatch is not None:
                end_watch(self._lock, self._context, unwatch)
            for timer in (self._renewal, self._flusher, self._abandonment):
                if timer is not None:
                    timer.cancel()
            if not dropped:
                try:
                    await self._leave(events)
                finally:
                    ended(self)

    async def _end(self, reason: str) -> bool:
        action = self._run.interrupt(time.time(), reason)
        if action is None:
            return False
        await self._store(action)
        return True

    async def _open(self) -> AsyncIterator[Any] | None:
        try:
            events = self._run.events()
            if inspect.isawaitable(events):
                events = await events
            plain = not hasattr(events, "__aiter__")
            return ThreadedIterator(iter(events), self._backend) if plain else aiter(events)
        except self._interrupts:
            raise
        except BaseException as error:
            self._check_dropped()
            await self._store(self._run.agent_ended(time.time(), error))
            return None

    async def _follow(self, events: AsyncIterator[Any]) -> None:
        run = self._run
        interrupts = self._interrupts
        pull = events.__anext__
        pulled = 0
        action: RunAction | None
        while True:
            # Nothing of the last event is kept while the agent waits.
            ended, failure, event, action = False, None, None, None
            try:
                event = await pull()
            except StopAsyncIteration:
                ended = True
            except interrupts:
                raise
            except BaseException as error:
                self._check_dropped()
                ended, failure = True, error
            if self._patience is not None:
                self._lose_patience()
            if self._checking is not None:
                await self._backend.seen_through(self._checking.wait())
            if self._over is not None:
                if failure is not None:
                    self._log_failure(failure)
                elif not ended and self._over.agent == "drain":
                    self._drop(event)
                return
            now = time.time()
            action = run.agent_ended(now, failure) if ended else run.event(event, now)
            if not isinstance(action, PullEvent):
                await self._store(action)
                if self._over is not None:
                    return
            elif action is not PULL:
                self._wait(action)
            pulled += 1
            if pulled % _TURN == 0:
                await self._backend.checkpoint()

    async def _store(self, action: RunAction) -> None:
        """Perform store calls until the run wants an event, or nothing more."""
        pending = self._advance(action)
        if pending is not None:
            await self._see_through(pending)

    async def _see_through(self, pending: Pending | Pause | None) -> None:
        while pending is not None:
            if isinstance(pending, Pause):
                event = self._backend.event()
                await self._backend.wait_through(event, pending.seconds, self._cancelled)
                pending = self._advance(self._run.resume(time.time()))
                continue
            try:
                outcome = await pending.see_through(self._backend, self._cancelled)
            except Exception as error:
                action = self._run.store_failed(error, time.time())
            else:
                action = self._run.stored(outcome, time.time())
            pending = self._advance(action)

    def _advance(self, action: RunAction) -> Pending | Pause | None:
        """Perform store calls until there is something to wait for; returns that, or None."""
        run = self._run
        while isinstance(action, StoreCall):
            try:
                outcome = self._calls.begin(action, self._context, self._home)
            except Exception as error:
                action = run.store_failed(error, time.time())
            else:
                if isinstance(outcome, Pending):
                    return outcome
                action = run.stored(outcome, time.time())
        if self._patience is not None:
            self._lose_patience()
        if isinstance(action, Pause):
            return action
        if not isinstance(action, PullEvent):
            self._over = action
        elif action is not PULL:
            self._wait(action)
        return None

    def _wait(self, action: PullEvent) -> None:
        """Do what is to be done if the agent has not yielded for some time."""
        if action.patience is not None:
            self._patience = self._backend.later(action.patience, self._begin, self._settled)
        if action.flush is not None and self._flusher is None:
            self._flusher = self._backend.later(action.flush, self._flush)

    def _home(self) -> Backend:
        return self._backend

    def _cancelled(self) -> None:
        if self._over is None:
            self._run.interrupt(time.time(), "The run was cancelled")

    def _flush(self) -> None:
        self._flusher = None
        self._begin(lambda: self._run.flush(time.time()))

    def _lose_patience(self) -> None:
        assert self._patience is not None
        self._patience.cancel()
        self._patience = None

    async def _leave(self, events: AsyncIterator[Any] | None) -> None:
        """Let the agent clean up."""
        try:
            if events is not None and self._over is not None and self._over.agent == "drain":
                await self._drain(events)
            if (close := getattr(events, "aclose", None)) is not None:
                await close()
        except self._backend.cancelled:
            # Nothing is left to be interrupted.
            pass
        except self._interrupts:
            raise
        except BaseException as error:
            self._check_dropped()
            self._log_failure(error)

    # A loop that is dropped with its tasks, as by a test client or by loop.close()

    def _check_dropped(self) -> None:
        """Tell what an agent raises from what Python does to a coroutine that it collects.

        :raises GeneratorExit: if nothing can be awaited any more.
        """
        if self._backend.current() is not self._living:
            raise GeneratorExit

    def abandon(self) -> None:
        """End the run as far as that needs no loop, which is gone."""
        # Python collects at any moment, with any lock held by whatever it interrupts. The
        # interpreter starts no thread at its own end.
        with contextlib.suppress(RuntimeError):
            _thread.start_new_thread(self._end_at_once, ())

    def _end_at_once(self) -> None:
        action = self._run.interrupt(time.time(), "The server has gone")
        while isinstance(action, StoreCall | Pause):
            if isinstance(action, Pause):
                # This thread has nothing else to do.
                time.sleep(action.seconds)
                action = self._run.resume(time.time())
                continue
            try:
                with contextlib.nullcontext() if action.blocking else self._lock.held:
                    outcome = contained(action.function, *action.args)
            except Exception as error:
                action = self._run.store_failed(error, time.time())
                continue
            if hasattr(outcome, "__await__"):
                # Nobody can await it: the run's lease runs out.
                if (close := getattr(outcome, "close", None)) is not None:
                    close()
                return
            action = self._run.stored(outcome, time.time())

    async def _drain(self, events: AsyncIterator[Any]) -> None:
        async for event in events:
            self._drop(event)
            if self._dropped % _TURN == 0:
                await self._backend.checkpoint()

    def _drop(self, event: object) -> None:
        if self._dropped == 0:
            logger.warning(
                "agent %r yields after the end of its run, which is dropped: %s",
                self._run.context.agent_id,
                type(event).__name__,
            )
        self._dropped += 1

    def _log_failure(self, error: BaseException) -> None:
        agent_id = self._run.context.agent_id
        logger.error("agent %r failed while it cleaned up", agent_id, exc_info=error)

    # What happens while the agent is waited for

    def _notified(self, signal: Signal) -> None:
        # From any thread, and perhaps from inside the store.
        if not self._backend.soon(self._begin, partial(self._signalled, signal)):
            self.abandon()

    def _signalled(self, signal: Signal) -> RunAction | None:
        return self._run.signalled(signal, time.time())

    def _left_alone(self) -> None:
        # The loop does it, because this is called from any thread, perhaps more than once.
        self._backend.soon(self._wait_alone)

    def _wait_alone(self) -> None:
        if self._abandonment is not None:
            self._abandonment.cancel()
        seconds = self._run.abandon_seconds
        if seconds is not None and self._over is None:
            self._abandonment = self._backend.later(seconds, self._begin, self._abandoned)

    def _abandoned(self) -> RunAction | None:
        return self._run.abandon(time.time())

    def _begin(self, call: Callable[[], RunAction | None]) -> None:
        """Make a call that is due while the agent is waited for, and what follows from it."""
        action = call()
        if action is None:
            return
        pending = self._advance(action)
        if pending is None:
            self._done_meanwhile()
        else:
            self._checking = self._backend.event()
            self._backend.spawn(self._perform, pending)

    def _check(self) -> RunAction | None:
        return self._run.check()

    def _settled(self) -> RunAction | None:
        pulling = self._run.state is RunState.PULLING
        return self._run.settle(time.time()) if pulling else None

    async def _perform(self, pending: Pending | Pause) -> None:
        try:
            await self._see_through(pending)
        finally:
            checking, self._checking = self._checking, None
            if checking is not None:
                checking.set()
        self._done_meanwhile()

    def _done_meanwhile(self) -> None:
        if self._over is not None and self._over.agent == "cancel":
            self.cancel()

    def _renew(self) -> None:
        assert self._run.lease is not None
        self._renewal = self._backend.later(self._run.lease / 3, self._renew)
        self._begin(self._check)
