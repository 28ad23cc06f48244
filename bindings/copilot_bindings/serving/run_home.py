"""The home of one run: a task that pulls the agent's events, beside any request.

Theory of operation
===================

A run belongs to its thread and not to the request that began it. :class:`RunHome` gives it a task
of the server's own, in which ``_live`` goes from the call of the agent to the end of its cleaning
up::

    watch the run -> call the agent -> (pull an event -> tell the run)* -> let the agent clean up

The other half, :class:`~.run_driver.RunDriver`, performs the actions of the run meanwhile.

The home is one coroutine over a :class:`~.backend.Backend`, because a coroutine belongs to no
library until it waits. ``_live`` and ``_follow`` are not cut into smaller coroutines, because each
coroutine that waits takes memory in every stream.

The rule that makes it right is: *the run ends in its log first, and the agent afterwards.* So an
agent that ignores its cancellation, or takes minutes to clean up, holds up neither the readers nor
the next run. Events that it yields after the end are dropped, and this is logged once.

You may change how often an agent that never waits lets others go on (``_TURN``), and what is
logged. The order of the steps in the ``finally`` of ``_live`` must stay: the watch and the timers
end before the agent cleans up, so that nothing wakes a run that is over, and ``_ended`` comes last,
because the service forgets the home then.

An error that an agent raises is its own failure and ends its run; four exceptions are not:

- a cancellation, by this home, by the server's end, or of an object that the agent awaited;
- a KeyboardInterrupt in the main thread, which comes from the user (:func:`~.failures.passing`);
- an exception of this module, which must neither leave the run open nor end the server;
- the GeneratorExit by which Python closes a coroutine whose loop was dropped. Nothing can be
  awaited then, and :func:`~.dropped_loop.end_without_loop` ends the run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from sansio_copilot import Run
from sansio_copilot.actions import PULL, PullEvent, RunAction

from .agent_events import open_events
from .backend import Backend, Task
from .calls import Calls
from .failures import passing
from .run_driver import RunDriver
from .store_watches import Weakly, begin_watch, end_watch

if TYPE_CHECKING:
    from .agent_events_elsewhere import EventsElsewhere

logger = logging.getLogger(__name__)

_TURN = 64
"""Events that an agent which never waits may yield before its readers get their turn."""


class RunHome(RunDriver):
    """Drives a run to its end, in the async library that ``backend`` stands for.

    To be made and begun in the context of the exchange that starts the run, because the agent gets
    a copy of this context, and the store is called for the run in another copy.
    """

    __slots__ = (
        *("_dropped", "_elsewhere", "_ended", "_interrupts", "_is_cancelled", "_living", "_task"),
    )

    def __init__(self, run: Run, backend: Backend, calls: Calls) -> None:
        super().__init__(run, backend, calls)
        self._interrupts = passing(backend.cancelled)
        self._task: Task | None = None
        self._is_cancelled = False
        self._living: object = None
        """The library's task in which the home lives; None before and after that."""
        self._elsewhere: EventsElsewhere | None = None
        self._dropped = 0

    def __repr__(self) -> str:
        return f"<RunHome of {self._run.context.agent_id!r}, run {self._run.key.run_id!r}>"

    def begin(self, ended: Callable[[RunHome], object]) -> bool:
        """Begin to live; ``ended`` is called when the run is over and its agent has ended.

        :returns: whether the agent has had its first turn.
        """
        self._ended = ended
        task = self._task = self._backend.spawn(self._live)
        if self._is_cancelled:
            task.cancel()
        return self._living is not None

    def cancel(self) -> None:
        """Cancel the agent."""
        # An agent may be cancelled in its first turn, in which its task is not known yet.
        self._is_cancelled = True
        if self._task is not None:
            self._task.cancel()
        if self._elsewhere is not None:
            self._elsewhere.cancel()

    def leave_behind(self) -> bool:
        """Leave the agent to itself, because it ignores its cancellation; its run has ended.

        :returns: False if that cannot be done.
        """
        leave_behind = self._backend.leave_behind
        if leave_behind is None or self._fate is None or self._task is None:
            return False
        leave_behind(self._task)
        self._ended(self)
        return True

    async def _live(self) -> None:
        # This is one function, because each exception that may end a run has to pass the same end,
        # and because each coroutine that is awaited here takes memory of every stream.
        run = self._run
        events: AsyncIterator[Any] | None = None
        unwatch = None
        dropped = False
        self._living = self._backend.current()
        try:
            if (action := run.start(time.time())) is not PULL:
                await self._store(action)
            try:
                notify = Weakly(self._notified)
                unwatch = begin_watch(
                    self._lock, self._context, run.store.watch_run, run.key, notify
                )
            except Exception:
                logger.exception("store method watch_run failed in run %r", run.key.run_id)
                await self._end("The thread store failed")
                return
            self._timers.begin()
            events = await self._open()
            if events is not None:
                await self._follow(events)
        except self._backend.cancelled:
            # The cancellation is our own if the run is over: the answer to cancel().
            if self._fate is None:
                if not self._backend.is_told_to_end():
                    # The log line is about the agent, because nobody has cancelled the run: the
                    # agent awaited something that was cancelled.
                    logger.error("agent %r was cancelled", run.context.agent_id)
                await self._end("The run was cancelled")
        except KeyboardInterrupt:
            # The interrupt ends the server, and may have come while the agent ran.
            await self._end("The server was interrupted")
            raise
        except GeneratorExit:
            dropped = True
            self.abandon()
            if self._backend.current() is self._living:
                # The error comes from an object that the agent awaited, and has closed every
                # coroutine above it. Nothing can be awaited here any more, but the loop goes on.
                self._ended(self)
            raise
        except BaseException:
            # The error of any object that the agent gave must neither leave the run open nor end
            # the server.
            logger.exception("the home of run %r failed", run.key.run_id)
            await self._end("The server failed")
        finally:
            # The end is no coroutine of its own, because each takes memory of every stream.
            if unwatch is not None:
                end_watch(self._lock, self._context, unwatch)
            self._timers.end()
            if not dropped:
                if self._fate is None:
                    # A store call is in progress; the task that has made it ends the run.
                    self._enter("the run ends")
                try:
                    await self._leave(events)
                finally:
                    # The check saves four calls, because most applications have no such functions.
                    if run.on_end is not None or run.title is not None:
                        await self._say_farewell()
                    self._enter("the agent has ended")
                    self._ended(self)

    async def _open(self) -> AsyncIterator[Any] | None:
        try:
            if self._run.loop in (None, self._backend.library):
                return await open_events(self._run.events, self._backend)
            # The import stands here, because a trio program without such an agent needs no asyncio.
            from .agent_events_elsewhere import EventsElsewhere

            there = self._calls.asyncio_backend()
            self._elsewhere = EventsElsewhere(self._run.events, there, self._backend)
            return self._elsewhere
        except self._interrupts:
            raise
        except BaseException as error:
            self._check_dropped()
            await self._store(self._run.agent_ended(time.time(), error))
            return None

    async def _follow(self, events: AsyncIterator[Any]) -> None:
        run = self._run
        interrupts, timers = self._interrupts, self._timers
        pull = events.__anext__
        pulled = 0
        action: RunAction | None
        while True:
            # The names are reset, so that the last event is not kept in memory while the agent
            # waits.
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
            if timers.patience is not None:
                timers.patience.cancel()
                timers.patience = None
            # Another call may be begun aside before this task gets its turn.
            while self._answered is not None:
                await self._backend.seen_through(self._answered.wait)
            if self._fate is not None:
                if failure is not None:
                    self._log_failure(failure)
                elif not ended and self._fate.agent == "drain":
                    self._drop(event)
                return
            now = time.time()
            action = run.agent_ended(now, failure) if ended else run.event(event, now)
            if not isinstance(action, PullEvent):
                pending = self._advance(action)
                if pending is not None:
                    await self._wait_for_store(pending)
                if self._fate is not None:
                    return
            elif action is not PULL:
                timers.wait(action)
            pulled += 1
            if pulled % _TURN == 0:
                await self._backend.checkpoint()

    async def _leave(self, events: AsyncIterator[Any] | None) -> None:
        """Let the agent clean up."""
        try:
            if events is not None and self._fate is not None and self._fate.agent == "drain":
                await self._drain(events)
            if (close := getattr(events, "aclose", None)) is not None:
                await close()
        except self._backend.cancelled:
            # The interruption is ignored, because the run is over.
            pass
        except self._interrupts:
            raise
        except BaseException as error:
            self._check_dropped()
            self._log_failure(error)

    def _check_dropped(self) -> None:
        """Distinguish an error of the agent from the end of a coroutine that Python collects.

        :raises GeneratorExit: if Python collects the coroutine, so that nothing can be awaited.
        """
        if self._backend.current() is not self._living:
            raise GeneratorExit

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
