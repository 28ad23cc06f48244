"""The runs and the connections of one server, and the end of both.

Theory of operation
===================

A :class:`Service` is the part of a server that is the same for every binding. It knows two sets:
the connections (:mod:`.admission`), which the binding makes and moves bytes for, and the homes of
runs, which live longer than the request that started them. It has no socket and knows no protocol.
It lives on one operating system thread's event loop, which ``backend`` stands for; every method is
called on that thread, except where its documentation says otherwise.

A service has one life. :meth:`Service.begin_close` asks for its end, from a signal handler too, and
:mod:`.shutdown` then performs the steps of the end in their order. All waits of a shutdown are in
one place, :meth:`Service.quiet`, which checks a condition again whenever ``_changed`` is set.

The rule that makes it right is: *every change of what a shutdown waits for sets* ``_changed``. Such
changes are those of the two sets and of the grace period. A method that makes one and does not set
``_changed`` would make a shutdown wait until its time is over. :meth:`Service.quiet` makes a new
flag before each wait and has no ``await`` between the check and the wait, so that no change in
between is lost.

You may change the texts of refusals, and add what a server counts or offers to its connections. Two
orders must stay. :meth:`Service.start_run` adds a home to the set before the home begins, because a
run may end in its first turn, and its end removes the home. And :meth:`Service.end_runs` refuses
new runs before it ends the others, because a request may be about to start one. It goes
over a copy of the set, because an interrupted run may end at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from sansio_copilot import CopilotRuntime, Run, RunRefused
from sansio_copilot.http.addresses import is_elsewhere

from .admission import Admission, Closable
from .backend import Backend
from .body_limits import Bodies
from .calls import Calls
from .context import CallContext
from .grace_period import check_grace_period
from .run_home import RunHome
from .server_life import ServerLife

SHUTDOWN = "The server is shutting down"


class Service(Admission):
    """The runs and connections of one server, all on one thread's event loop.

    :param runtime: gives the store and the limits.
    :param backend: the async library, and the place where tasks live in it.
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
        super().__init__(runtime.limits.connections)
        check_grace_period(grace_seconds)
        self.runtime = runtime
        self.backend = backend
        self.calls = calls or Calls(runtime)
        self.life = ServerLife(runtime, self.calls, backend)
        """The beginning and the end of the server: the store and the application's ``on_start``
        come before anything is served, and their counterparts last."""
        self.context = CallContext.of_now()
        """The context that each exchange gets a copy of. Nothing is called in the context
        itself."""
        self.grace_seconds = grace_seconds
        self.bodies = Bodies(runtime.limits)
        self._ended = False
        self.homes: set[RunHome] = set()
        """The homes of the live runs."""
        self.close_begun = backend.flag()
        """Set by :meth:`begin_close`."""
        self.closed = backend.flag()
        """Set at the end of the shutdown."""
        self._changed = backend.flag()

    def live_backend(self) -> Backend:
        """The backend on which async functions are to be awaited."""
        return self.backend

    def served_at(self, *addresses: object) -> None:
        """Tell the runtime whether other machines can reach it.

        :param addresses: the addresses where connections are accepted, or one has been.
        """
        if not self.runtime.exposed and any(map(is_elsewhere, addresses)):
            self.runtime = self.runtime.where_exposed()

    # Runs

    @property
    def runs(self) -> int:
        """The number of live runs."""
        return len(self.homes)

    def start_run(self, run: Run) -> bool:
        """Give ``run`` a home that outlives its request.

        To be called in the context of the exchange, because the agent gets a copy of that.

        :returns: whether the agent has had its first turn.
        :raises RunRefused: if the runs have been ended already, or if ``Limits.runs`` are live.
        """
        if self._ended:
            raise RunRefused(SHUTDOWN)
        if len(self.homes) >= self.runtime.limits.runs:
            raise RunRefused("The server has too many runs")
        home = RunHome(run, self.backend, self.calls)
        self.homes.add(home)
        return home.begin(self._run_ended)

    def _run_ended(self, home: RunHome) -> None:
        self.homes.discard(home)
        self._changed.set()

    def end_runs(self) -> None:
        """End each run with a well-formed terminal event, and refuse new runs.

        Nothing is waited for; :meth:`is_empty` tells when the runs have ended.
        """
        self._ended = True
        for home in list(self.homes):
            home.interrupt(SHUTDOWN)

    def abandon(self) -> None:
        """End the runs as far as possible without their loop, which was dropped with their
        tasks."""
        for home in list(self.homes):
            home.abandon()
        self.life.drop()

    # Connections

    def connection_ended(self, connection: Closable) -> None:
        """Remove ``connection`` from the connections, because it has ended."""
        self.forget(connection)
        self._changed.set()

    # The end

    def begin_close(self, grace_seconds: float | None = None) -> None:
        """Begin to shut down, and return at once; for a signal handler too.

        :param grace_seconds: the grace period; None for the one that the service was made with.
        """
        if grace_seconds is not None:
            self.grace_seconds = grace_seconds
        self.close_begun.set()
        self._changed.set()

    async def wait_closed(self) -> None:
        """Wait until the shutdown is done."""
        await self.closed.wait()

    def hurry(self) -> None:
        """End the grace period at once."""
        self.grace_seconds = 0
        self._changed.set()

    def is_empty(self) -> bool:
        """Whether all connections and runs have ended."""
        return not self.connections and not self.homes

    async def quiet(
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
            self._changed = self.backend.flag()
            await self.backend.wait_for(self._changed, left)
        return True
