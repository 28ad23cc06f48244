"""The home of a run in a test, where it goes on only when it is stepped.

A home performs a run's actions, as every binding's does. Its agent is asked for an event when a
test steps the home, its store is called at once, and its times come due when the test's clock is
moved. So every moment between two events can be looked at, and nothing ever waits.
"""

from __future__ import annotations

import inspect
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ..calls import Call
from ..runs.actions import Pause, PullEvent, RunAction
from ..runs.machine import Run
from ..stores.calls import check_cancel
from ..stores.protocol import Cancel, Signal, nothing_to_cancel
from .loopless import NeedsEventLoop, perform, perform_steps, run_awaitable

logger = logging.getLogger(__name__)


class Home:
    """The home of one run.

    :param run: the run, which has not been started.
    :param now: a function that tells the time, in seconds since the epoch.
    :param advance: a function that moves the test's clock by that many seconds.
    :param leave: a function that is called with the home when the run no longer needs it.
    """

    def __init__(
        self,
        run: Run,
        now: Callable[[], float],
        advance: Callable[[float], None],
        leave: Callable[[Home], None],
    ) -> None:
        self._run = run
        self._now = now
        self._advance = advance
        self._leave = leave
        self._renewed_at = now()
        self._pulling = False
        self._draining = False
        self._settle_at: float | None = None
        self._abandon_at: float | None = None
        self._flush_at: float | None = None
        self._resume_at: float | None = None
        self._events: Any = None
        self._signals = deque[Signal]()
        self._unwatch: Cancel = nothing_to_cancel

    def begin(self) -> None:
        """Start the run."""
        if self._run.audience is not None:
            self._run.audience.on_empty = self._left_alone
        self._perform(self._run.start(self._now()))
        watch = self._run.store.watch_run
        self._unwatch = check_cancel(watch, watch(self._run.key, self._signals.append))

    def step(self) -> bool:
        """Take one event from the agent.

        :returns: False if the agent is being asked already, because the agent itself has called
            this method.
        """
        if self._pulling:
            return False
        if self._resume_at is not None:
            # The clock moves on, because the run waits for a store that is unavailable.
            self._advance(max(self._resume_at - self._now(), 0.0))
            return True
        self._pulling = True
        try:
            event = self._pull()
        except (StopIteration, StopAsyncIteration):
            self._told(None)
        except NeedsEventLoop as error:
            # The second error is suppressed, because the agent may have caught the exception that
            # ends it, and wait for the loop again.
            with suppress(NeedsEventLoop):
                self._close_agent()
            self._told(error)
            raise
        except Exception as error:
            self._told(error)
        else:
            if not self._draining:
                self._perform(self._run.event(event, self._now()))
        finally:
            self._pulling = False
        return True

    def interrupt(self, reason: str) -> None:
        """End the run in its log, as a server's shutdown does.

        :param reason: what clients are told.
        """
        action = self._run.interrupt(self._now(), reason)
        if action is not None:
            self._perform(action)
        else:
            self._cancel()

    def time_passed(self) -> None:
        """Make the calls that have come due since the clock was moved."""
        if self._settle_at is not None and self._now() >= self._settle_at:
            self._perform(self._run.settle(self._now()))
        lease = self._run.lease
        if lease is not None and self._now() - self._renewed_at >= lease / 3:
            self._renewed_at = self._now()
            self._perform_if(self._run.check())
        if self._flush_at is not None and self._now() >= self._flush_at:
            self._flush_at = None
            self._perform_if(self._run.flush(self._now()))
        if self._resume_at is not None and self._now() >= self._resume_at:
            self._resume_at = None
            self._perform(self._run.resume(self._now()))
        if self._abandon_at is not None and self._now() >= self._abandon_at:
            self._abandon_at = None
            self._perform_if(self._run.abandon(self._now()))

    def _left_alone(self) -> None:
        assert self._run.abandon_seconds is not None, "a run with an audience has that time"
        self._abandon_at = self._now() + self._run.abandon_seconds

    def _pull(self) -> object:
        if self._events is None:
            self._events = run_awaitable(self._open())
        if hasattr(self._events, "__anext__"):
            return run_awaitable(self._next())
        return next(self._events)

    def _end(self) -> None:
        """Do the steps that follow the end of the run, and leave the home."""
        try:
            perform_steps(self._run.farewell())
        finally:
            self._leave(self)

    # Bindings call the next two where their loop runs.

    async def _open(self) -> Any:
        events = self._run.events()
        if inspect.isawaitable(events):
            events = await events
        return aiter(events) if hasattr(events, "__aiter__") else iter(events)

    async def _next(self) -> Any:
        return await anext(self._events)

    def _told(self, error: Exception | None) -> None:
        if self._draining:
            self._end()
        else:
            self._perform(self._run.agent_ended(self._now(), error))

    def take_signals(self) -> None:
        """Do what the store has signalled.

        It is not done where the store signals, because that may be an operating system thread of
        the store's own, in which no call of the store can be waited for.
        """
        while self._signals:
            self._perform_if(self._run.signalled(self._signals.popleft(), self._now()))

    def _perform_if(self, action: RunAction | None) -> None:
        if action is not None:
            self._perform(action)

    def _perform(self, action: RunAction) -> None:
        while isinstance(action, Call):
            try:
                outcome = perform(action)
            except NeedsEventLoop:
                self._end()
                raise
            except Exception as error:
                action = self._run.store_failed(error, self._now())
            else:
                action = self._run.stored(outcome, self._now())
        self._settle_at = None
        if isinstance(action, PullEvent):
            if action.patience is not None:
                self._settle_at = self._now() + action.patience
            if action.flush is not None:
                self._flush_at = self._now() + action.flush
        elif isinstance(action, Pause):
            self._resume_at = self._now() + action.seconds
        else:
            self._unwatch()
            self._draining = True
            if action.call is not None:
                self._call_stop(action.call)
            if action.agent == "cancel":
                self._cancel()
            elif action.agent == "done":
                self._end()

    def _call_stop(self, call: Call) -> None:
        try:
            perform(call)
        except NeedsEventLoop:
            raise
        except Exception:
            logger.exception("%s failed", call.name)

    def _cancel(self) -> None:
        self._end()
        self._close_agent()

    def _close_agent(self) -> None:
        try:
            if hasattr(self._events, "aclose"):
                run_awaitable(self._events.aclose())
            elif hasattr(self._events, "close"):
                self._events.close()
        except NeedsEventLoop:
            raise
        except Exception:
            logger.exception("agent %r failed while it cleaned up", self._run.context.agent_id)
