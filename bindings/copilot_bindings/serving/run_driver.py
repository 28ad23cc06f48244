"""Driving a run: its calls are made, and its store is asked.

Theory of operation
===================

:class:`RunDriver` is the half of a run's home that knows no agent. It performs the actions of the
run (:class:`~sansio_copilot.Run`), in the async library that ``backend`` stands for. A call of the
run is due for one of two reasons, and the reason decides who waits for the store:

- *The agent* has yielded, or has ended. Then the agent waits for the store, too (STORING).
- *Something else* has happened: the store has notified the run's owner, a timer has ended, the
  server ends, the last reader has left. The home waits for the agent meanwhile, so that the store
  is asked in a task beside it (ASIDE). An event that the agent yields waits until the store has
  answered.

The rule that makes it right is: *a run makes one store call at a time.* The run itself keeps this
rule, because it remembers what it is told while a call is in progress; the states
(:data:`~.run_home_states.TRANSITIONS`) say who waits.

Most stores answer at once. Then nothing waits, and no task is made: ``_advance`` makes store calls
until the run wants an event.

You may change what is logged, and how the application's function for a stopped run is called. Three
things must stay. Every action that the run returns goes through ``_advance``, because only there a
store call is made and the end of the run is noticed. A store call that has begun is seen through,
even if the run is cancelled meanwhile, because it may have changed the log. And ``_fate`` is set as
soon as the run is over in its log, because a cancellation that comes later is meant for the agent,
and must not interrupt the run.
"""

from __future__ import annotations

import logging
import time
from functools import partial

from sansio_copilot import Run
from sansio_copilot.actions import PULL, Call, Pause, PullEvent, RunAction, RunOver, StoreCall
from sansio_copilot.stores.protocol import Signal

from .backend import Backend, Flag
from .calls import Calls
from .context import CallContext
from .dropped_loop import end_without_loop
from .pending_call import Pending
from .run_home_states import TRANSITIONS, HomeState
from .run_timers import BATCH_SECONDS, RunCall, RunTimers
from .steps_outside_requests import perform
from .store_watches import locked

logger = logging.getLogger(__name__)


class RunDriver:
    """Makes the calls of one run, and performs what follows from them.

    To be made in the context of the exchange that starts the run, because the store is called in a
    copy of that.
    """

    __slots__ = (
        *("_answered", "_backend", "_calls", "_context", "_fate", "_lock", "_run", "_stop"),
        *("_timers", "__weakref__", "state"),
    )

    def __init__(self, run: Run, backend: Backend, calls: Calls) -> None:
        self.state = HomeState.PULLING
        """The state of the home; see :data:`~.run_home_states.TRANSITIONS`."""
        self._run = run
        self._backend = backend
        self._calls = calls
        self._context = CallContext.of_now()
        self._lock = calls.lock
        self._answered: Flag | None = None
        """Set when the store that is asked aside has answered."""
        self._fate: RunOver | None = None
        """The run's last action, once the run is over in its log: it says what becomes of the
        agent."""
        self._timers = RunTimers(run, backend, self._begin)
        self._stop: Pending | None = None
        """The call of the application's function for a run that was stopped."""
        run.batch_seconds = BATCH_SECONDS
        if run.tap is not None:
            run.tap = partial(locked, self._lock, run.tap)

    def interrupt(self, reason: str) -> None:
        """End the run from outside; ``reason`` reaches its readers.

        Nothing is waited for, because a store call that hangs must not delay the end of other runs.
        A store call in progress is seen through first, by the task that has made it.
        """
        self._begin(lambda now: self._run.interrupt(now, reason))

    def abandon(self) -> None:
        """End the run as far as that is possible without its loop, which is gone."""
        end_without_loop(self._run, self._lock)

    def cancel(self) -> None:
        """Cancel the agent."""
        raise NotImplementedError

    # Performing the actions of the run

    def _enter(self, happening: str) -> None:
        """Enter the state that ``happening`` leads to."""
        self.state = TRANSITIONS[self.state][happening]

    async def _end(self, reason: str) -> None:
        action = self._run.interrupt(time.time(), reason)
        if action is not None:
            await self._store(action)

    async def _store(self, action: RunAction) -> None:
        """Perform store calls until the run wants an event, or nothing more."""
        pending = self._advance(action)
        if pending is not None:
            await self._wait_for_store(pending)

    async def _wait_for_store(self, pending: Pending | Pause) -> None:
        self._enter("the store is waited for")
        await self._see_through(pending)

    async def _see_through(self, pending: Pending | Pause | None) -> None:
        """Wait for the call or pause that is pending, and perform store calls until the run wants
        an event again."""
        while pending is not None:
            if isinstance(pending, Pause):
                flag = self._backend.flag()
                await self._backend.wait_through(flag, pending.seconds, self._cancelled)
                pending = self._advance(self._run.resume(time.time()))
                continue
            try:
                outcome = await pending.see_through(self._backend, self._cancelled)
            except Exception as error:
                action = self._run.store_failed(error, time.time())
            else:
                action = self._run.stored(outcome, time.time())
            pending = self._advance(action)
        self._enter("the store has answered")

    def _advance(self, action: RunAction) -> Pending | Pause | None:
        """Perform store calls until one has to be waited for; returns that call or pause, or
        None."""
        run = self._run
        while isinstance(action, StoreCall):
            try:
                outcome = self._calls.begin(action, self._context, self._live_backend)
            except Exception as error:
                action = run.store_failed(error, time.time())
            else:
                if isinstance(outcome, Pending):
                    return outcome
                action = run.stored(outcome, time.time())
        timers = self._timers
        if timers.patience is not None:
            timers.patience.cancel()
            timers.patience = None
        if isinstance(action, Pause):
            return action
        if not isinstance(action, PullEvent):
            self._fate = action
            self._enter("the run ends")
            if action.call is not None:
                self._begin_stop(action.call)
        elif action is not PULL:
            timers.wait(action)
        return None

    def _begin_stop(self, call: Call) -> None:
        """Call the application's function for an agent that is cancelled, at the same time."""
        try:
            outcome = self._calls.begin(
                call, CallContext(self._context.current.copy()), self._live_backend
            )
        except Exception:
            logger.exception("%s failed", call.name)
        else:
            if isinstance(outcome, Pending):
                self._stop = outcome

    async def _see_stop_through(self, stop: Pending) -> None:
        try:
            await stop.see_through(self._backend, lambda: None)
        except Exception:
            logger.exception("%s failed", stop.name)

    def _live_backend(self) -> Backend:
        return self._backend

    def _cancelled(self) -> None:
        if self._fate is None:
            self._run.interrupt(time.time(), "The run was cancelled")

    async def _say_farewell(self) -> None:
        """Do what follows the end of the run, which may be about to end in another task."""
        if self._answered is not None:
            await self._backend.seen_through(self._answered.wait)
        if self._stop is not None:
            await self._see_stop_through(self._stop)
        await perform(self._run.farewell(), self._calls, self._context, self._backend, _ignore)

    # Calls that are due for another reason than an event

    def _begin(self, call: RunCall) -> None:
        """Make a call of the run while the agent is waited for, and perform the action that it
        returns.

        :param call: the call; it is given the time.
        """
        action = call(time.time())
        if action is None:
            return
        pending = self._advance(action)
        if pending is None:
            self._done_aside()
        else:
            self._enter("the store is asked aside")
            self._answered = self._backend.flag()
            self._backend.spawn(self._perform, pending)

    async def _perform(self, pending: Pending | Pause) -> None:
        try:
            await self._see_through(pending)
        finally:
            answered, self._answered = self._answered, None
            if answered is not None:
                answered.set()
        self._done_aside()

    def _done_aside(self) -> None:
        if self._fate is not None and self._fate.agent == "cancel":
            self.cancel()

    def _notified(self, signal: Signal) -> None:
        logger.debug("run %r is told by the store: %s", self._run.key.run_id, signal.value)
        # The signal is passed on in the run's loop, because a store notifies from any thread, and
        # perhaps in the middle of one of its calls.
        if not self._backend.soon(self._begin, partial(self._run.signalled, signal)):
            self.abandon()


def _ignore() -> None:
    """Do nothing, for a cancellation that finds nothing left to end."""
