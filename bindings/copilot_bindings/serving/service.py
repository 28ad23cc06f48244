"""The runs and the connections of one server, and the order in which they end.

Theory of operation
===================

A :class:`Service` is the part of a server that is the same for every binding. It knows two sets:
the connections, which the binding makes and moves bytes for, and the homes of runs, which live
longer than the request that started them. It has no socket and knows no protocol. It lives on one
thread's event loop, which ``backend`` stands for; every method is called on that thread, except
where its documentation says otherwise.

A service has one life. ``begin_close`` asks for the end, from a signal handler too, and
``serve_until_closed`` then does it, in this order:

1. ``closing`` is set. No connection is accepted, and idle connections are closed; each response is
   the last of its connection. Runs may still be started, because a request may be on its way to
   one. A connection that has had no request yet is not idle, because its client has just made it
   and may not be able to send its request again; it has a second.
2. For the grace period, connections and runs may end by themselves. ``hurry`` ends that period.
3. ``end_runs``: no run is started any more, and each live run is interrupted, which appends its
   well-formed terminal event.
4. For two seconds, connections may send those events to their readers; then they are aborted.
5. What still does not end is cancelled: runs, calls that hang, tasks.
6. The agents are closed, ``on_close`` is called, and the store is closed, if no other server uses
   it. It was opened before the first connection, and ``on_start`` was called then.

The rule that makes it right is: *runs end before connections, connections before tasks, and the
store last.* If connections ended first, no reader would learn how its run ended; if tasks ended
first, a run would break off without a terminal event. So a cancellation of ``serve_until_closed``
skips no step; it only sets the grace period to 0.

Waiting is done in one place, ``_quiet``: it looks at a condition again whenever ``_changed`` is
set, and every change of the two sets, and of the grace period, sets it. A method that makes such a
change and does not set ``_changed`` would let a shutdown wait too long.

A reader may change how long each step takes, and what is logged, but the order only by this rule.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Protocol

from sansio_copilot import CopilotRuntime, Run, RunRefused
from sansio_copilot.http.addresses import is_elsewhere

from .backend import Backend
from .calls import Calls
from .context import CallContext
from .request_bodies import Bodies
from .run_home import RunHome
from .server_life import ServerLife
from .steps import perform
from .sweeper import Sweeper

logger = logging.getLogger(__name__)

_FLUSH_SECONDS = 2.0
_FIRST_REQUEST_SECONDS = 1.0
# An event loop needs this many turns to read what has arrived and hand it to the connections.
_TURNS_TO_READ = 3
SHUTDOWN = "The server is shutting down"


class LoopEnded(RuntimeError):
    """The event loop of the runs has ended, although the server was not closed."""

    def __init__(self) -> None:
        super().__init__("the event loop of the runs has ended")


class Connection(Protocol):
    """The part of a connection that the service needs."""

    def close_if_idle(self) -> None:
        """Close the connection, unless a request is being received or answered.

        :meth:`Service.awaits_request` tells whether a request is still waited for.
        """
        ...

    def abort(self) -> None:
        """Close the connection at once, even if something is being sent."""
        ...


class Service:
    """The runs and connections of one server, all on one thread's event loop.

    :param runtime: gives the store and the limits.
    :param backend: the async library, and where tasks live in it.
    :param grace_seconds: how many seconds responses and runs may go on once the service closes.
    :param calls: makes the calls of hooks, agents and the store; the service makes its own if None.
    """

    def __init__(
        self,
        runtime: CopilotRuntime,
        backend: Backend,
        grace_seconds: float = 0.0,
        calls: Calls | None = None,
    ) -> None:
        self.runtime = runtime
        self.backend = backend
        self.calls = calls or Calls(runtime)
        self.life = ServerLife(runtime, self.calls, backend)
        """What has to be open before anything is served, and is closed last."""
        self.context = CallContext.of_now()
        """The context that each exchange gets a copy of. Nothing is called in the context
        itself."""
        self.grace_seconds = grace_seconds
        self.bodies = Bodies(runtime.limits)
        self.connections: set[Connection] = set()
        self.closing = False
        """Whether nothing more is accepted, and each response is its connection's last."""
        self._welcoming = True
        self._ended = False
        self._served: set[Connection] = set()
        self._homes: set[RunHome] = set()
        self._close_begun = backend.event()
        self._closed = backend.event()
        self._changed = backend.event()

    def home(self) -> Backend:
        """The backend on which async functions are to be awaited."""
        return self.backend

    def served_at(self, *addresses: object) -> None:
        """Have the runtime know if other machines reach it.

        :param addresses: where connections are accepted, or one has been.
        """
        if not self.runtime.exposed and any(map(is_elsewhere, addresses)):
            self.runtime = self.runtime.where_exposed()

    # Runs

    @property
    def runs(self) -> int:
        """The number of live runs."""
        return len(self._homes)

    def start_run(self, run: Run) -> bool:
        """Give ``run`` a home that outlives its request.

        To be called in the context of the exchange, because the agent gets a copy of that.

        :returns: whether the agent has had its first turn.
        :raises RunRefused: if the runs have been ended already, or if ``Limits.runs`` are live.
        """
        if self._ended:
            raise RunRefused(SHUTDOWN)
        if len(self._homes) >= self.runtime.limits.runs:
            raise RunRefused("The server has too many runs")
        home = RunHome(run, self.backend, self.calls)
        self._homes.add(home)
        return home.begin(self._run_ended)

    def _run_ended(self, home: RunHome) -> None:
        self._homes.discard(home)
        self._changed.set()

    def abandon(self) -> None:
        """End the runs as far as possible without their loop, which was dropped with their
        tasks."""
        for home in list(self._homes):
            home.abandon()
        self.life.drop()

    # Connections

    def expect(self, connection: Connection) -> None:
        """Add ``connection``, which was accepted and is admitted soon, to the connections."""
        self.connections.add(connection)

    def admit(self, connection: Connection, *, room: bool = True) -> bool:
        """Add ``connection`` to the connections, and return whether there is room to serve it.

        :param room: False if the binding has no room for it, even if the limits would allow it.
        """
        self.connections.add(connection)
        # Connections that are refused, or not admitted yet, do not count, because they must not
        # take room from others. This one is added before they are counted, because other threads
        # may admit connections too.
        self._served.add(connection)
        if not (room and self._welcoming and len(self._served) <= self.runtime.limits.connections):
            self._served.discard(connection)
        return connection in self._served

    def awaits_request(self, first: bool) -> bool:
        """Whether a connection that is idle may wait on.

        :param first: whether the connection has had no request yet.
        """
        return self._welcoming if first else not self.closing

    def forget(self, connection: Connection) -> None:
        """Do what :meth:`connection_ended` does except for waking who waits; for any thread."""
        self.connections.discard(connection)
        self._served.discard(connection)

    def connection_ended(self, connection: Connection) -> None:
        """Remove ``connection`` from the connections, because it has ended."""
        self.forget(connection)
        self._changed.set()

    # Shutdown

    def begin_close(self, grace_seconds: float | None = None) -> None:
        """Begin to shut down as :meth:`close` does, and return at once; for a signal handler.

        :param grace_seconds: the grace period; None for the one that the service was made with.
        """
        if grace_seconds is not None:
            self.grace_seconds = grace_seconds
        self._close_begun.set()
        self._changed.set()

    async def serve_until_closed(self, stop_listening: Callable[[], object]) -> None:
        """Wait for :meth:`begin_close`, and then shut down; this is the main task of a server.

        A cancellation shuts down without a grace period: each run is ended at once by a well-formed
        terminal event.

        :param stop_listening: called once, at the beginning of the shutdown.
        """
        dropped = False
        sweeper = Sweeper(self.runtime, self.backend, self.calls, self.life)
        sweeper.begin()
        try:
            await self._close_begun.wait()
        except self.backend.cancelled:
            self.grace_seconds = 0
            raise
        except GeneratorExit:
            # There is no shutdown, because the loop was dropped, and nothing can be waited for.
            dropped = True
            self.life.drop()
            raise
        finally:
            sweeper.end()
            if not dropped:
                self._stop_accepting(stop_listening)
                await self.backend.seen_through(self._shut_down, self.hurry)

    async def close(self, grace_seconds: float | None = None) -> None:
        """Begin to shut down, and wait until the shutdown is done.

        :param grace_seconds: the grace period; None for the one that the service was made with.
        """
        self.begin_close(grace_seconds)
        await self.wait_closed()

    async def wait_closed(self) -> None:
        """Wait until the shutdown is done."""
        await self._closed.wait()

    def _stop_accepting(self, stop_listening: Callable[[], object]) -> None:
        counts = len(self.connections), self.runs
        logger.info("shutting down: %d connections are open, and %d runs are live", *counts)
        self.closing = True
        stop_listening()

    def _close_idle(self) -> None:
        for connection in list(self.connections):
            connection.close_if_idle()

    async def _shut_down(self) -> None:
        """Let responses finish, then end the runs that are left.

        After the grace period each run is ended with a well-formed terminal event, which its
        readers receive. Every step may be taken again, after one that was cancelled.
        """
        begun = time.monotonic()
        # The loop has a few turns first, so that a request which has arrived is read before its
        # connection counts as idle.
        for _ in range(_TURNS_TO_READ):
            await self.backend.checkpoint()
        self._close_idle()
        await self._quiet(self._is_over, _FIRST_REQUEST_SECONDS, begun, within_grace=True)
        self._welcoming = False
        self._close_idle()
        await self._quiet(self._is_over, math.inf, begun, within_grace=True)
        await self.end_runs()
        # The connections have some time more, because the terminal events of the runs have to reach
        # their readers.
        await self._quiet(lambda: not self.connections, _FLUSH_SECONDS)
        for connection in list(self.connections):
            connection.abort()
        await self._give_up()
        await self._tell_of_lost_runs()
        # Two turns are given to tasks that have done their work, so that they end by themselves.
        await self.backend.checkpoint()
        await self.backend.checkpoint()
        await self._cancel_all()
        await self.life.close()
        self.calls.release()
        self._closed.set()
        logger.info("shut down")

    async def _tell_of_lost_runs(self) -> None:
        """Tell the application of lost runs that requests have ended since the last sweep."""
        if not self.runtime.lost:
            return
        told = self.backend.event()

        async def tell() -> None:
            try:
                steps = self.runtime.tell_of_lost()
                await perform(steps, self.calls, CallContext.of_now(), self.backend)
            finally:
                told.set()

        self.backend.spawn(tell, name="hook on_run_end for lost runs")
        await self.backend.wait_for(told, _FLUSH_SECONDS)

    async def _cancel_all(self) -> None:
        """Cancel the tasks that are left, and leave behind those that still do not end."""
        told: set[str] = set()
        until = time.monotonic() + _FLUSH_SECONDS
        while names := self.backend.cancel_all():
            if new := set(names) - told:
                logger.warning("cancelled what does not end: %s", ", ".join(sorted(new)))
                told |= new
            if time.monotonic() > until:
                logger.error("left behind what does not end: %s", ", ".join(sorted(set(names))))
                return
            await self.backend.wait_for(self.backend.event(), _FLUSH_SECONDS / 20)
            if time.monotonic() > until - _FLUSH_SECONDS / 2:
                self.calls.drop()

    async def _give_up(self) -> None:
        """Wait until all connections and runs have ended; cancel runs and give up calls that hang.

        An agent that ignores its cancellation is waited for without limit, because a second signal
        still ends the process.
        """
        seconds = _FLUSH_SECONDS
        while not await self._quiet(self._is_over, seconds):
            calls = self.calls.give_up()
            for call in calls:
                logger.warning("%s does not return, and is given up", call)
            if not calls:
                for home in self._homes:
                    logger.warning("an agent ignores its cancellation: %r", home)
                if not self._homes:
                    return
            for home in self._homes:
                home.cancel()
            # The next wait is short after a call was given up, because the run or connection that
            # made it may be about to make another call.
            seconds = _FLUSH_SECONDS / 20 if calls else _FLUSH_SECONDS

    async def end_runs(self) -> None:
        """End each run with a well-formed terminal event, and refuse new runs."""
        self._ended = True
        for home in list(self._homes):
            if home.is_prompt:
                await home.interrupt(SHUTDOWN)
            else:
                # The run is interrupted in a task of its own, because a store call that hangs must
                # not delay the end of other runs.
                self.backend.spawn(home.interrupt, SHUTDOWN)

    def hurry(self) -> None:
        """End the grace period at once."""
        self.grace_seconds = 0
        self._changed.set()

    def _is_over(self) -> bool:
        """Whether all connections and runs have ended."""
        return not self.connections and not self._homes

    async def _quiet(
        self,
        reached: Callable[[], bool],
        seconds: float,
        begun: float | None = None,
        *,
        within_grace: bool = False,
    ) -> bool:
        """Wait until ``reached()`` is true, or for so many seconds.

        :param begun: when the seconds began; None for now.
        :param within_grace: whether to wait no longer than the grace period, which may be
            shortened during the wait.
        :returns: whether the condition was reached.
        """
        begun = time.monotonic() if begun is None else begun
        while not reached():
            most = min(seconds, self.grace_seconds) if within_grace else seconds
            left = begun + most - time.monotonic()
            if left <= 0:
                return False
            self._changed = self.backend.event()
            await self.backend.wait_for(self._changed, left)
        return True
