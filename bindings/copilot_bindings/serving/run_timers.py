"""The timers of one run, each of which makes a call of the run when its time is over.

- *The renewal* comes three times in a lease: the store is told that the run's owner lives, and
  answers with the run's signal.
- *The flusher* appends frames that have waited for others.
- *The patience* with an agent that has ended its run, and does not end itself, is over.
- *The abandonment* ends a run that nobody has followed for ``abandon_seconds``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeAlias

from msgspec import Struct

from sansio_copilot import Run, RunState
from sansio_copilot.actions import PullEvent, RunAction

from .backend import Backend, Task
from .store_watches import Weakly

logger = logging.getLogger(__name__)

BATCH_SECONDS = 0.004
"""The seconds that an event waits for others: less than anybody notices, and enough that a burst
costs its readers one wake-up, one write and one packet instead of hundreds."""

RunCall: TypeAlias = Callable[[float], RunAction | None]
"""A call of a run; it is given the time."""


class RunTimers(Struct, eq=False, weakref=True):
    """The timers of one run. This is a struct, because making one costs no call of Python code.

    :param call: makes a call of the run, and performs the action that it returns.
    :ivar patience: the timer of the patience; None if none is set.
    :ivar flush_due: the time at which the flusher appends the frames that wait.
    """

    run: Run
    backend: Backend
    call: Callable[[RunCall], None]
    patience: Task | None = None
    flusher: Task | None = None
    flush_due: float = 0.0
    renewal: Task | None = None
    abandonment: Task | None = None

    def begin(self) -> None:
        """Begin to renew the lease, and to check whether anybody follows the run."""
        run = self.run
        if run.audience is not None:
            run.audience.on_empty = Weakly(self._left_alone)
            if run.audience.is_empty:
                self._left_alone()
        if run.lease is not None:
            self.renewal = self.backend.later(run.lease / 3, self._renew)

    def end(self) -> None:
        """Cancel the timers, and make no call of the run any more."""
        for timer in (self.renewal, self.flusher, self.abandonment):
            if timer is not None:
                timer.cancel()
        # The function is replaced, because it is a method of the run's driver, which has these
        # timers: the two would keep each other in memory until the garbage collector runs.
        self.call = _ignore

    def wait(self, action: PullEvent) -> None:
        """Set the timers for an agent that does not yield for some time."""
        if action.patience is not None:
            self.patience = self.backend.later(action.patience, self._settle)
        if action.flush is None:
            return
        due = time.monotonic() + action.flush
        if self.flusher is not None:
            if self.flush_due <= due + BATCH_SECONDS:
                # The timer that waits already fires soon enough.
                return
            self.flusher.cancel()
        self.flush_due = due
        self.flusher = self.backend.later(action.flush, self._flush)

    def _settle(self) -> None:
        self.call(self._settled)

    def _settled(self, now: float) -> RunAction | None:
        return self.run.settle(now) if self.run.state is RunState.PULLING else None

    def _flush(self) -> None:
        self.flusher = None
        self.call(self.run.flush)

    def _renew(self) -> None:
        assert self.run.lease is not None
        logger.debug("run %r renews its lease", self.run.key.run_id)
        self.renewal = self.backend.later(self.run.lease / 3, self._renew)
        self.call(lambda now: self.run.check())

    def _left_alone(self) -> None:
        # The timer is begun on the loop, because this method is called from any thread, perhaps
        # more than once.
        self.backend.soon(self._wait_alone)

    def _wait_alone(self) -> None:
        if self.abandonment is not None:
            self.abandonment.cancel()
        seconds = self.run.abandon_seconds
        if seconds is not None and self.call is not _ignore:
            self.abandonment = self.backend.later(seconds, self._abandon)

    def _abandon(self) -> None:
        self.call(self.run.abandon)


def _ignore(call: RunCall) -> None:
    """Make no call of a run that has ended."""
