"""The sweeper, which asks a store from time to time for orphans, and has the core end them."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator
from typing import Any

from sansio_copilot import CopilotRuntime, StoreUnavailable
from sansio_copilot.actions import Call
from sansio_copilot.stores.optional_methods import lease_of

from .backend import Backend, Flag, Task
from .calls import Calls
from .context import CallContext
from .server_life import ServerLife
from .steps_outside_requests import perform
from .store_life import NotStarted

logger = logging.getLogger(__name__)


class Sweeper:
    """Sweeps once in a lease, and so never over a store without leases.

    The lease of an orphan runs out one lease after its owner's last call, so that the orphan is
    ended after two leases at most.
    """

    def __init__(
        self, runtime: CopilotRuntime, backend: Backend, calls: Calls, life: ServerLife
    ) -> None:
        self._runtime = runtime
        self._life = life
        self._backend = backend
        self._calls = calls
        self._seconds = lease_of(runtime.store)
        self._timer: Task | None = None
        self._task: Task | None = None
        self._is_over: Flag | None = None
        """Set when the sweep that was begun last is over; None if none was begun."""
        self._ended = False

    def begin(self) -> None:
        """Sweep from now on; for the first time at once, because an owner may have died before."""
        if self._seconds is not None:
            self._timer = self._backend.later(0, self._due)

    def end(self) -> None:
        """Begin no other sweep, and end the sweep that is going on."""
        self._ended = True
        for task in (self._timer, self._task):
            if task is not None:
                task.cancel()

    async def see_through(self, seconds: float) -> None:
        """Wait for the sweep in progress, whose last call may have to return first.

        :param seconds: how long to wait at most.
        """
        if self._is_over is not None:
            await self._backend.wait_for(self._is_over, seconds)

    def _due(self) -> None:
        self._is_over = self._backend.flag()
        self._task = self._backend.spawn(
            self._begin_to_sweep, self._is_over, name="sweep for orphans"
        )

    async def _begin_to_sweep(self, is_over: Flag) -> None:
        try:
            await self._life.open()
            await self._sweep()
        except NotStarted:
            # The sweep is given up without a log line, because the server that cannot begin tells
            # of the error.
            pass
        finally:
            is_over.set()

    async def _sweep(self) -> None:
        steps = self._until_ended(self._runtime.sweep(time.time()))
        try:
            # A call that has begun is seen through, because the application is told of a run once.
            await perform(steps, self._calls, CallContext.of_now(), self._backend, lambda: None)
        except StoreUnavailable as error:
            # The next sweep finds the same orphans.
            logger.warning("runs without an owner wait, the thread store is unavailable: %s", error)
        except Exception:
            logger.exception("the store could not be asked for runs without an owner")
        if not self._ended and self._seconds is not None:
            self._timer = self._backend.later(self._seconds, self._due)

    def _until_ended(self, steps: Generator[Call, Any, int]) -> Generator[Call, Any, None]:
        """Return ``steps`` that make no further call after :meth:`end`."""
        try:
            call = next(steps)
            while not self._ended:
                try:
                    outcome = yield call
                except Exception as error:
                    call = steps.throw(error)
                else:
                    call = steps.send(outcome)
        except StopIteration as over:
            logger.debug("a sweep has found %d runs without an owner", over.value)
