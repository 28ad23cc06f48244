"""What serves a runtime, whoever moves the bytes: its runs' homes, its connections, their end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol

from sansio_copilot import CopilotRuntime, Run, RunRefused

from .backend import Backend
from .bodies import Bodies
from .calls import Calls
from .context import CallContext
from .run_home import RunHome

logger = logging.getLogger(__name__)

_FLUSH_SECONDS = 2.0
SHUTDOWN = "The server is shutting down"


class LoopEnded(RuntimeError):
    """The event loop of the runs has ended, though nobody has closed it."""

    def __init__(self) -> None:
        super().__init__("the event loop of the runs has ended")


class Connection(Protocol):
    """What the service asks of a connection."""

    def close_if_idle(self) -> None:
        """Close, unless a request is being received or answered."""
        ...

    def abort(self) -> None:
        """Close at once, whatever is being sent."""
        ...


class Service:
    """The runs and connections of one server, all on one thread's event loop.

    :param grace_seconds: how long responses and runs may go on once it closes.
    :param calls: makes the calls; one of its own unless given.
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
        self.context = CallContext()
        """What the context of each exchange is a copy of. Nothing is called in it."""
        self.grace_seconds = grace_seconds
        self.bodies = Bodies(runtime.limits)
        self.connections: set[Connection] = set()
        self.closing = False
        """Whether no new connection is wanted, and each response is to be its connection's last."""
        self._ended = False
        self._refused: set[Connection] = set()
        self._homes: set[RunHome] = set()
        self._close_begun = backend.event()
        self._closed = backend.event()
        self._changed = backend.event()

    # Runs

    @property
    def runs(self) -> int:
        """How many runs are live."""
        return len(self._homes)

    def start_run(self, run: Run) -> None:
        """Give ``run`` a home that outlives its request; to be called in the context of that.

        :raises RunRefused: if the runs have been ended already, or too many are live.
        """
        if self._ended:
            raise RunRefused(SHUTDOWN)
        if len(self._homes) >= self.runtime.limits.runs:
            raise RunRefused("The server has too many runs")
        home = RunHome(run, self.backend, self.calls)
        self._homes.add(home)
        home.begin(self._run_ended)

    def _run_ended(self, home: RunHome) -> None:
        self._homes.discard(home)
        self._changed.set()

    def abandon(self) -> None:
        """End the runs as far as that needs no loop, which is gone with their tasks."""
        for home in list(self._homes):
            home.abandon()

    # Connections

    def admit(self, connection: Connection, *, room: bool = True) -> bool:
        """Know of ``connection`` from now on; returns whether there is room to serve it.

        :param room: False if there is none, whatever the limits say.
        """
        self.connections.add(connection)
        # Who is being told that there is no room takes none from others.
        served = len(self.connections) - len(self._refused)
        admitted = room and not self.closing and served <= self.runtime.limits.connections
        if not admitted:
            self._refused.add(connection)
        return admitted

    def connection_ended(self, connection: Connection) -> None:
        """Forget ``connection``."""
        self.connections.discard(connection)
        self._refused.discard(connection)
        self._changed.set()

    # The end

    def begin_close(self, grace_seconds: float | None = None) -> None:
        """Begin what :meth:`close` does and return at once; for a signal handler."""
        if grace_seconds is not None:
            self.grace_seconds = grace_seconds
        self._close_begun.set()
        self._changed.set()

    async def serve_until_closed(self, stop_listening: Callable[[], object]) -> None:
        """Wait until somebody closes the service, and close it; the main task of a server.

        A cancellation closes it at once, with every run well formed.
        """
        dropped = False
        try:
            await self._close_begun.wait()
        except self.backend.cancelled:
            self.grace_seconds = 0
            raise
        except GeneratorExit:
            # The loop was dropped: nothing can be waited for.
            dropped = True
            raise
        finally:
            if not dropped:
                await self.backend.seen_through(self.shut_down(stop_listening), self.hurry)

    async def close(self, grace_seconds: float | None = None) -> None:
        """Ask for the end and wait for it.

        :param grace_seconds: instead of what the service was made with.
        """
        self.begin_close(grace_seconds)
        await self.wait_closed()

    async def wait_closed(self) -> None:
        """Wait until the service is closed, whoever asked for it."""
        await self._closed.wait()

    async def shut_down(self, stop_listening: Callable[[], object]) -> None:
        """Accept nothing more, let responses finish, then end the runs that are left.

        After the grace period each run is ended with a well-formed terminal event, which its
        readers receive.
        """
        logger.info(
            "shutting down: %d connections are open, and %d runs are live",
            len(self.connections),
            self.runs,
        )
        self.closing = True
        stop_listening()
        for connection in list(self.connections):
            connection.close_if_idle()
        await self._quiet(lambda: not self.connections and not self._homes, None)
        await self.end_runs()
        # What the interrupted runs said last has to reach their readers.
        await self._quiet(lambda: not self.connections, _FLUSH_SECONDS)
        for connection in list(self.connections):
            connection.abort()
        await self._give_up()
        # Tasks that have done their work end in a turn of their own.
        await self.backend.checkpoint()
        await self.backend.checkpoint()
        await self._cancel_all()
        self.calls.release()
        self._closed.set()
        logger.info("shut down")

    async def _cancel_all(self) -> None:
        """Cancel the tasks that are left, and leave those behind that do not end."""
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
        """Wait until all is over, and end what does not end.

        An agent that ignores its cancellation is waited for, whatever it takes: a second signal
        ends the process all the same.
        """
        seconds = _FLUSH_SECONDS
        while not await self._quiet(lambda: not self.connections and not self._homes, seconds):
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
            # Who calls something else now has waited long enough.
            seconds = _FLUSH_SECONDS / 20 if calls else _FLUSH_SECONDS

    async def end_runs(self) -> None:
        """End each run with a well-formed terminal event, and take no more."""
        self._ended = True
        for home in list(self._homes):
            if home.is_prompt:
                await home.interrupt(SHUTDOWN)
            else:
                # One call that hangs must not keep the others from their end.
                self.backend.spawn(home.interrupt, SHUTDOWN)

    def hurry(self) -> None:
        """Grant no more grace, if the end has begun."""
        self.grace_seconds = 0
        self._changed.set()

    async def _quiet(self, reached: Callable[[], bool], seconds: float | None) -> bool:
        """Wait until ``reached()``, or for so many seconds; whether it was.

        :param seconds: None for the grace period, which may be shortened meanwhile.
        """
        begun = time.monotonic()
        while not reached():
            left = begun - time.monotonic() + (self.grace_seconds if seconds is None else seconds)
            if left <= 0:
                return False
            self._changed = self.backend.event()
            await self.backend.wait_for(self._changed, left)
        return True
